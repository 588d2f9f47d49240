"""uniforms: random numbers as a function of the name of a stream and of the number of a call."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op
from lattice_flows.kernels.uniforms import reference
from lattice_flows.kernels.uniforms.reference import PARTS, check_calls

__all__ = ["uniforms"]


def uniforms(keys: Tensor, calls: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """Draw n numbers in [0, 1) for a call of each stream, by Philox4x32-10; the same bits on every device.

    Block b of four words has the key keys[:, 0] and the counter (b, call, lower and upper half of keys[:, 1]). A number
    of single precision is the upper 24 bits of a word, one of double precision the upper 53 bits of two words. Words 0
    (or 0 and 1) of all blocks give the first numbers, the next words the next ones.

    Shapes: keys `(chains, 2)` and calls `(chains,)`, int64, calls in [0, 2^32); dtype float32 or float64
    -> `(chains, n)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit, a call out of range (on CPUs), or more than 2^32 blocks.

    Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, SC11 (2011).

    Example:
        >>> import torch
        >>> uniforms(torch.tensor([[3, 4], [5, 6]]), torch.tensor([0, 0]), 2, torch.float32)
        tensor([[0.4647, 0.5535],
                [0.0151, 0.8464]])
    """
    if keys.dtype != torch.int64 or calls.dtype != torch.int64 or keys.shape != (*calls.shape, 2) or calls.ndim != 1:
        raise InvalidInput(
            f"streams need int64 keys (chains, 2) and calls (chains,), got {keys.dtype} {tuple(keys.shape)} and "
            f"{calls.dtype} {tuple(calls.shape)}"
        )
    if dtype not in PARTS or not 0 <= n <= PARTS[dtype] * 2**32:
        raise InvalidInput(f"a call gives 0 to 2^32 blocks of numbers of float32 or float64, got {n} of {dtype}")
    return _uniforms(keys, calls, n, dtype)


_uniforms = define_op(
    reference.uniforms,
    lambda keys, calls, n, dtype: keys.new_empty(len(keys), n, dtype=dtype),
    lambda keys, calls, n, dtype, out: (keys.contiguous(), calls.contiguous(), len(keys), n, out),
    failed=lambda op, keys, calls, n, dtype: check_calls(calls),
    precision=lambda keys, calls, n, dtype: dtype,
)
