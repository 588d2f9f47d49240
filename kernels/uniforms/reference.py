"""uniforms in plain PyTorch: the definition of the op."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput

LOWER = 2**32 - 1
"""The lower 32 bits of an int64, as which words of 32 bits are kept here."""
PARTS = {torch.float32: 4, torch.float64: 2}
"""The numbers of a block."""


def uniforms(keys: Tensor, calls: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """Numbers `(chains, n)`; see `lattice_flows.kernels.uniforms`."""
    check_calls(calls)
    blocks = torch.arange(-(-n // PARTS[dtype]), device=keys.device)
    return torch.cat(numbers_of(keys, calls, blocks, dtype), dim=1)[:, :n].contiguous()


def numbers_of(keys: Tensor, calls: Tensor, blocks: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The first numbers of blocks, the second ones, ...: each `(chains, *blocks.shape)`."""
    low, high, call = (x.reshape(-1, *[1] * blocks.ndim) for x in (keys[:, 0], keys[:, 1], calls))
    words = philox((blocks, call, high & LOWER, high >> 32 & LOWER), (low & LOWER, low >> 32 & LOWER))
    if dtype == torch.float32:
        return [(word >> 8).to(dtype) * 2.0**-24 for word in words]
    pairs = zip(words[::2], words[1::2], strict=True)
    return [second.to(dtype) * 2.0**-32 + (first >> 11).to(dtype) * 2.0**-53 for first, second in pairs]


def check_calls(calls: Tensor) -> None:
    """Raises InvalidInput where there is no call of this number; not on GPUs, for which it would have to wait."""
    if calls.is_cpu and calls.numel() and not (calls.min() >= 0 and calls.max() <= LOWER):
        raise InvalidInput(f"a stream has 2^32 calls, got number {int(calls[(calls < 0) | (calls > LOWER)][0])}")


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The four words of Philox4x32-10 for four of the counter and two of the key, all int64 in [0, 2^32)."""
    (a, b, c, d), (k, m) = torch.broadcast_tensors(*counter), key
    for _ in range(10):
        first, second = a * 0xD2511F53, c * 0xCD9E8D57  # bits beyond the 64th are lost, those of the sign are bits
        a, b, c, d = (second >> 32 & LOWER) ^ b ^ k, second & LOWER, (first >> 32 & LOWER) ^ d ^ m, first & LOWER
        k, m = k + 0x9E3779B9 & LOWER, m + 0xBB67AE85 & LOWER
    return a, b, c, d
