"""link_sums and link_forces of N <= 3 for GPUs, in Triton: an end of walks, of one set of links, a lane."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import any_size, as_reals, block_of_lanes, jit, launch, tl
from lattice_flows.kernels.triton_links import load_matrix, matrix_product, matrix_sum, store_matrix


def link_sums(links: Tensor, tables: Tensor, forward: Sequence[bool]) -> Tensor:
    """Sums `(batch, n, N, N)` of products of links; see `lattice_flows.kernels.link_sums`."""
    return _summed(links, tables, forward, None)


def link_forces(links: Tensor, tables: Tensor, forward: Sequence[bool], active: Tensor) -> Tensor:
    """Traceless anti-Hermitian parts `(batch, n, N, N)` of U[active] times the sums."""
    return _summed(links, tables, forward, active)


def _summed(links: Tensor, tables: Tensor, forward: Sequence[bool], active: Tensor | None) -> Tensor:
    walks, steps, n = tables.shape
    out = links.new_empty(len(links), n, *links.shape[2:])
    ahead = torch.tensor(forward, dtype=torch.int32).to(links.device)
    ends = tables if active is None else active
    launch(
        kernel, len(links) * n, as_reals(links), tables.contiguous(), ahead, ends.contiguous(), torch.view_as_real(out),
        links.shape[1], walks, steps, n, len(links) * n, N=links.shape[-1], FORCE=active is not None,
    )  # fmt: skip
    return out


@jit
def _link(links, index, per_set, N: tl.constexpr):
    """Where a link lies, and 0, or NaN where there is no such link."""
    there = (index >= 0) & (index < per_set)
    return links + tl.where(there, index, 0) * (2 * N * N), tl.where(there, 0.0, float("nan")).to(
        links.dtype.element_ty
    )


@jit
def _step(links, tables, ahead, place, which, n, per_set, N: tl.constexpr):
    """The link of a step of a walk, or its adjoint, and 0 or NaN."""
    m, fault = _link(links, tl.load(tables + which * n + place), per_set, N)
    along = tl.load(ahead + which)
    return load_matrix(m, tl.where(along == 0, 2, 2 * N), tl.where(along == 0, 2 * N, 2), 2 * along - 1, N), fault


@jit
def _half(a, b):
    """An entry of (m - m^dagger) / 2, from that of m and the one across the diagonal."""
    return (a[0] - b[0]) / 2, (a[1] + b[1]) / 2


@jit
def _projected(m, N: tl.constexpr):
    """The traceless anti-Hermitian part."""
    zero = tl.zeros_like(m[0][0][0])
    if N == 1:
        return (((zero, zero),),)
    elif N == 2:
        x = (m[0][0][1] - m[1][1][1]) / 2
        return ((zero, x), _half(m[0][1], m[1][0])), (_half(m[1][0], m[0][1]), (zero, -x))
    else:
        mean = (m[0][0][1] + m[1][1][1] + m[2][2][1]) / 3
        return (
            ((zero, m[0][0][1] - mean), _half(m[0][1], m[1][0]), _half(m[0][2], m[2][0])),
            (_half(m[1][0], m[0][1]), (zero, m[1][1][1] - mean), _half(m[1][2], m[2][1])),
            (_half(m[2][0], m[0][2]), _half(m[2][1], m[1][2]), (zero, m[2][2][1] - mean)),
        )


@any_size
def kernel(
    links, tables, ahead, active, outs, per_set, walks, steps, n, count,
    N: tl.constexpr, FORCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sums of a block of ends."""
    lane, valid = block_of_lanes(count, BLOCK)
    place = lane % n
    links += (lane // n).to(tl.int64) * per_set * (2 * N * N)
    total, faults = _step(links, tables, ahead, place, 0, n, per_set, N)
    for i in range(1, steps):
        link, fault = _step(links, tables, ahead, place, i, n, per_set, N)
        total, faults = matrix_product(total, link, N), faults + fault
    for walk in range(1, walks):
        one, fault = _step(links, tables, ahead, place, walk * steps, n, per_set, N)
        faults += fault
        for i in range(1, steps):
            link, fault = _step(links, tables, ahead, place, walk * steps + i, n, per_set, N)
            one, faults = matrix_product(one, link, N), faults + fault
        total = matrix_sum(total, one, N)
    if FORCE:
        m, fault = _link(links, tl.load(active + place), per_set, N)
        total = _projected(matrix_product(load_matrix(m, 2 * N, 2, 1, N), total, N), N)
        faults += fault
    out = outs + lane.to(tl.int64) * (2 * N * N)
    store_matrix(out, total, valid, N)
    tl.store(out, total[0][0][0] + faults, mask=valid)
