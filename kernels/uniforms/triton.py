"""uniforms for GPUs, in Triton: a block of four words a lane, and several programs a stream."""

from __future__ import annotations

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import BLOCK, WARP, any_size, blocks, random_words, tl, unit_interval
from lattice_flows.kernels.uniforms.reference import PARTS


def uniforms(keys: Tensor, calls: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """Numbers `(chains, n)`; see `lattice_flows.kernels.uniforms`."""
    out = keys.new_empty(len(keys), n, dtype=dtype)
    if out.numel():
        programs = blocks(-(-n // PARTS[dtype]))
        with torch.cuda.device_of(keys):
            kernel[(len(keys) * programs,)](
                keys.contiguous(),
                calls.contiguous(),
                out,
                n,
                programs,
                BLOCK=BLOCK,
                num_warps=BLOCK // WARP,
                enable_fp_fusion=True,
            )
    return out


@any_size
def kernel(keys, calls, outs, count, programs, BLOCK: tl.constexpr):
    """The numbers of BLOCK blocks of a stream."""
    chain = (tl.program_id(0) // programs).to(tl.int64)
    low, high, call = tl.load(keys + 2 * chain), tl.load(keys + 2 * chain + 1), tl.load(calls + chain)
    out = outs + chain * count
    double: tl.constexpr = outs.dtype.element_ty == tl.float64
    parts: tl.constexpr = 2 if double else 4
    total = (count + parts - 1) // parts
    index = (tl.program_id(0) % programs).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    words = random_words(low, high, call, index)
    numbers = unit_interval(words, double)
    for i in tl.static_range(parts):
        place = i * total + index
        tl.store(out + place, numbers[i], mask=(index < total) & (place < count))
