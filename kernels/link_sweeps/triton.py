"""link_sweeps for GPUs, in Triton: a launch of `sweep` changes the links of one colour.

The colours of a direction are the even and the odd sites; on a lattice with odd extents those at the end of such a
direction are colours of their own. In a launch all links of a block of chains come before those of the next block, so
that a link is read from memory once a colour, and then from the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.link_sweeps import reference
from lattice_flows.kernels.link_sweeps.reference import ATTEMPTS, HEAT_BATH
from lattice_flows.kernels.triton_common import any_size, constant, four_numbers, jit, tl
from lattice_flows.kernels.triton_lattice import Lattices, chains_of, numbers_of, place_of, staples
from lattice_flows.kernels.triton_links import load_link, product, restore, store_link
from lattice_flows.kernels.triton_subgroups import along, attempt, part, quotient, reflection, turn, turn_both

MOST = constant(ATTEMPTS)


def link_sweeps(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor, moves: Sequence[int], keys: Tensor,
    calls: Tensor, before: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New links and their action `(chains, 1 or 2)`; see `lattice_flows.kernels.link_sweeps`."""
    if links.shape[-1] == 1 or not len(links):
        return reference.link_sweeps(links, extents, nodes, weights, moves, keys, calls, before)
    lattices, (order, sizes) = Lattices(links, extents, weights), _colours(tuple(extents), links.device)
    keys, calls = (x.to(links.device).contiguous() for x in (keys, calls))
    actions = [lattices.action()] if before else []
    for move in moves:
        first = 0
        for size in sizes:
            lattices.run(
                sweep, size, lattices.own, lattices.hops, order, lattices.weights, keys, calls, first, size,
                lattices.volume, lattices.chains, DIM=lattices.dim, HEAT=move == HEAT_BATH,
            )  # fmt: skip
            first += size
        if move == HEAT_BATH:
            calls = calls + 1
    return lattices.unpacked(), torch.stack([*actions, lattices.action()], 1)


@functools.cache
def _colours(extents: tuple[int, ...], device: torch.device) -> tuple[Tensor, list[int]]:
    """The links by colour and direction, and how many there are of each."""
    dim, volume = len(extents), math.prod(extents)
    places = torch.stack(torch.meshgrid(*map(torch.arange, extents), indexing="ij")).reshape(dim, volume)
    ends = torch.tensor([[extent - 1] if extent % 2 else [-1] for extent in extents])
    colour = places.sum(0) % 2 + 2 * ((places == ends) * 2 ** torch.arange(dim)[:, None]).sum(0)
    sites, sizes = colour.argsort(stable=True), colour.unique(return_counts=True)[1].tolist()
    order = [mu * volume + part for part in sites.split(sizes) for mu in range(dim)]
    return torch.cat(order).to(device, torch.int32), [size for size in sizes for _ in range(dim)]


@jit
def _choice(length, direction, names, block, step, HEAT: tl.constexpr):
    """The element of SU(2) that a subgroup is multiplied with; block and step are those of its random numbers."""
    if HEAT:
        double: tl.constexpr = length.dtype == tl.float64
        k, b, tries = 2 * length, direction, 0
        waiting = k == k
        while (tries < MOST) & (tl.sum(waiting.to(tl.int32), 0) > 0):
            b, waiting = attempt(four_numbers(names, block, step, double), k, b, waiting)
            block += step * (2 if double else 1)
            tries += 1
        return quotient(b, direction)
    else:
        return reflection(direction)


@any_size
def sweep(
    own, hops, order, weights, keys, calls, first, size, volume, chains,
    DIM: tl.constexpr, N: tl.constexpr, HEAT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """New links of one colour, a link of a group of chains: the sum of staples, then all SU(2) subgroups."""
    total = DIM * volume
    group, lane = tl.program_id(0) // size, tl.arange(0, BLOCK)
    here = tl.load(order + first + tl.program_id(0) % size)
    base = place_of(own, group, total, 0, lane, numbers_of(N), BLOCK)
    place = base + here.to(tl.int64) * (numbers_of(N) * BLOCK)
    u = load_link(place, BLOCK, N)
    sums = product(u, staples(base, hops, weights, here, volume, DIM, N, BLOCK), N)
    names = 0, 0, 0
    if HEAT:
        chain, _ = chains_of(group, chains, BLOCK)
        names = tl.load(keys + 2 * chain), tl.load(keys + 2 * chain + 1), tl.load(calls + chain)
    block = here.to(tl.int64) + tl.zeros([BLOCK], tl.int64)
    stride = tl.cast(total, tl.int64) * (MOST * (2 if own.dtype.element_ty == tl.float64 else 1))
    if N == 2:
        length, direction = part(sums, 2)
        u = turn(_choice(length, direction, names, block, total, HEAT), u, 2)
    else:
        for pair in range(3):
            length, direction = part(sums, 3)
            a = along(_choice(length, along(direction, pair), names, block, total, HEAT), pair)
            u, sums = turn(a, u, 3), turn_both(a, sums, 3)
            block += stride
    store_link(place, BLOCK, restore(u, N), N)
