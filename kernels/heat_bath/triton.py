"""heat_bath and over_relaxation of SU(2) and SU(3) for GPUs, in Triton: an element a lane."""

from __future__ import annotations

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import (
    WARP,
    any_size,
    as_reals,
    block_of_lanes,
    jit,
    launch,
    load_quaternion,
    store_quaternion,
    tl,
)
from lattice_flows.kernels.triton_links import load_matrix, product, restore, store_matrix
from lattice_flows.kernels.triton_subgroups import along, attempt, part, quotient, reflection, turn, turn_both


def heat_bath(elements: Tensor, staples: Tensor, strength: float, uniforms: Tensor) -> Tensor:
    """New elements `(n, N, N)`; see `lattice_flows.kernels.heat_bath`."""
    return _pass(elements, staples * strength, uniforms.contiguous(), uniforms.shape[2])


def over_relaxation(elements: Tensor, staples: Tensor) -> Tensor:
    """New elements `(n, N, N)`; see `lattice_flows.kernels.heat_bath.over_relaxation`."""
    return _pass(elements, staples, None, 0)


def _pass(elements: Tensor, staples: Tensor, uniforms: Tensor | None, attempts: int) -> Tensor:
    out = torch.empty_like(elements, memory_format=torch.contiguous_format)
    inputs, n = as_reals(elements), elements.shape[-1]
    numbers = inputs if uniforms is None else uniforms
    launch(
        kernel, len(elements), inputs, as_reals(staples), numbers, torch.view_as_real(out), attempts, len(elements),
        N=n, HEAT=uniforms is not None, block=WARP,
    )  # fmt: skip
    return out


@jit
def _choice(length, direction, numbers, attempts, HEAT: tl.constexpr):
    """The element of SU(2) that a subgroup is multiplied with, and whether it is to be used."""
    if HEAT:
        k, b = 2 * length, direction
        waiting = k == k
        for i in range(attempts):
            r = numbers + 4 * i
            b, waiting = attempt((tl.load(r), tl.load(r + 1), tl.load(r + 2), tl.load(r + 3)), k, b, waiting)
        return quotient(b, direction), waiting == 0
    else:
        return reflection(direction), length == length


@any_size
def kernel(elements, staples, numbers, outs, attempts, count, N: tl.constexpr, HEAT: tl.constexpr, BLOCK: tl.constexpr):
    """A pass over the SU(2) subgroups of a block of elements."""
    lane, valid = block_of_lanes(count, BLOCK)
    place = lane.to(tl.int64) * (2 * N * N)
    numbers += lane.to(tl.int64) * (2 * N * (N - 1) * attempts)
    if N == 2:
        u = load_quaternion(elements, lane)
        length, direction = part(product(u, load_quaternion(staples, lane), 2), 2)
        a, moved = _choice(length, direction, numbers, attempts, HEAT)
        w, x, y, z = restore(product(a, u, 2), 2)
        store_matrix(outs + place, load_matrix(elements + place, 4, 2, 1, 2), valid, 2)
        store_quaternion(outs, lane, w, x, y, z, valid & moved)
    else:
        u = load_matrix(elements + place, 6, 2, 1, 3)
        w = product(u, load_matrix(staples + place, 6, 2, 1, 3), 3)
        moved = lane < 0
        for pair in range(3):
            length, direction = part(w, 3)
            a, chosen = _choice(length, along(direction, pair), numbers + 4 * pair * attempts, attempts, HEAT)
            a, moved = along(a, pair), moved | chosen
            u, w = turn(a, u, 3), turn_both(a, w, 3)
        store_matrix(outs + place, load_matrix(elements + place, 6, 2, 1, 3), valid, 3)
        store_matrix(outs + place, restore(u, 3), valid & moved, 3)
