"""link_sweeps for GPUs, in Triton: a chain a lane, a link of a block of chains a program, a colour a launch.

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
from lattice_flows.kernels.triton_common import WARP, as_reals, blocks, constant, jit, random_words, tl, unit_interval
from lattice_flows.kernels.triton_links import (
    add,
    adjoint,
    along,
    attempt,
    load_link,
    part,
    product,
    quotient,
    real_trace,
    reflection,
    restore,
    store_link,
    turn,
    turn_both,
    zero_like,
)

MOST = constant(ATTEMPTS)
CHUNK = 64
"""The number of sites whose plaquettes a program adds up."""


def link_sweeps(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor, moves: Sequence[int], keys: Tensor,
    calls: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New links and their action; see `lattice_flows.kernels.link_sweeps`."""
    chains, n = len(links), links.shape[-1]
    if n == 1:
        return reference.link_sweeps(links, extents, nodes, weights, moves, keys, calls)
    out = torch.empty_like(links, memory_format=torch.contiguous_format)
    action = links.new_empty(chains, dtype=torch.float64)
    if not chains:
        return out, action
    groups, volume, dim = blocks(chains, WARP), math.prod(extents), len(extents)
    numbers, total, chunks = NUMBERS[n], dim * volume, -(-volume // CHUNK)
    own = torch.empty(groups, total, numbers, WARP, dtype=links.real.dtype, device=links.device)
    sums = torch.empty(groups, chunks, WARP, dtype=torch.float64, device=links.device)
    hops, order, sizes = _colours(tuple(extents), links.device)
    weights, keys, calls = (x.to(links.device).contiguous() for x in (weights, keys, calls))
    once = {"BLOCK": WARP, "N": n, "num_warps": 1, "enable_fp_fusion": True}
    with torch.cuda.device_of(links):
        pack[(groups * total,)](as_reals(links), own, total, chains, **once)
        for move in moves:
            first = 0
            for size in sizes:
                sweep[(groups * size,)](
                    own, hops, order, weights, keys, calls, first, size, volume, chains,
                    DIM=dim, HEAT=move == HEAT_BATH, **once,
                )  # fmt: skip
                first += size
            if move == HEAT_BATH:
                calls = calls + 1
        plaquettes[(groups * chunks,)](own, hops, weights, sums, volume, chunks, CHUNK=CHUNK, DIM=dim, **once)
        collect[(groups,)](sums, action, chunks, chains, BLOCK=WARP, num_warps=1)
        unpack[(groups * total,)](own, torch.view_as_real(out), total, chains, **once)
    return out, action


NUMBERS = {2: 4, 3: 12}
"""The numbers that are kept of a link: of SU(2) a quaternion, of SU(3) two rows."""


@functools.cache
def _colours(extents: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """The neighbours `(V, 2 dim)` of sites, ahead and then behind; links by colour; and the sizes of colours."""
    dim, volume = len(extents), math.prod(extents)
    grid = torch.arange(volume).reshape(extents)
    hops = [grid.roll(-step, mu).flatten() for step in (1, -1) for mu in range(dim)]
    places = torch.stack(torch.meshgrid(*map(torch.arange, extents), indexing="ij")).reshape(dim, volume)
    ends = torch.tensor([[extent - 1] if extent % 2 else [-1] for extent in extents])
    colour = places.sum(0) % 2 + 2 * ((places == ends) * 2 ** torch.arange(dim)[:, None]).sum(0)
    sites, sizes = colour.argsort(stable=True), colour.unique(return_counts=True)[1].tolist()
    order = [mu * volume + part for part in sites.split(sizes) for mu in range(dim)]
    neighbours, links = (table.to(device, torch.int32) for table in (torch.stack(hops, 1), torch.cat(order)))
    return neighbours, links, [size for size in sizes for _ in range(dim)]


@jit
def _chains(group, chains, BLOCK: tl.constexpr):
    """The chains of a group, and which of them there are; the others repeat the last one."""
    chain = group * BLOCK + tl.arange(0, BLOCK)
    return tl.minimum(chain, chains - 1), chain < chains


@jit
def _numbers(N: tl.constexpr):
    return 4 if N == 2 else 12


@jit
def _link(own, group, total, link, lane, BLOCK: tl.constexpr, N: tl.constexpr):
    """Where the links of a group of chains lie."""
    return own + (group.to(tl.int64) * total + link) * (_numbers(N) * BLOCK) + lane


@jit
def pack(links, own, total, chains, N: tl.constexpr, BLOCK: tl.constexpr):
    """From the layout of tensors, a link of a group of chains."""
    group, link, lane = tl.program_id(0) // total, tl.program_id(0) % total, tl.arange(0, BLOCK)
    chain, _ = _chains(group, chains, BLOCK)
    m = links + (chain.to(tl.int64) * total + link) * (2 * N * N)
    own = _link(own, group, total, link, lane, BLOCK, N)
    if N == 2:
        tl.store(own, tl.load(m))
        tl.store(own + BLOCK, tl.load(m + 3))
        tl.store(own + 2 * BLOCK, tl.load(m + 2))
        tl.store(own + 3 * BLOCK, tl.load(m + 1))
    else:
        for k in tl.static_range(12):
            tl.store(own + k * BLOCK, tl.load(m + k))


@jit
def unpack(own, links, total, chains, N: tl.constexpr, BLOCK: tl.constexpr):
    """To the layout of tensors, a link of a group of chains."""
    group, link, lane = tl.program_id(0) // total, tl.program_id(0) % total, tl.arange(0, BLOCK)
    chain, there = _chains(group, chains, BLOCK)
    m = links + (chain.to(tl.int64) * total + link) * (2 * N * N)
    u = load_link(_link(own, group, total, link, lane, BLOCK, N), BLOCK, N)
    if N == 2:
        tl.store(m, u[0], mask=there)
        tl.store(m + 1, u[3], mask=there)
        tl.store(m + 2, u[2], mask=there)
        tl.store(m + 3, u[1], mask=there)
        tl.store(m + 4, -u[2], mask=there)
        tl.store(m + 5, u[1], mask=there)
        tl.store(m + 6, u[0], mask=there)
        tl.store(m + 7, -u[3], mask=there)
    else:
        for k in tl.static_range(9):
            tl.store(m + 2 * k, u[k // 3][k % 3][0], mask=there)
            tl.store(m + (2 * k + 1), u[k // 3][k % 3][1], mask=there)


@jit
def _choice(length, direction, names, block, step, HEAT: tl.constexpr):
    """The element of SU(2) that a subgroup is multiplied with; block and step are those of its random numbers."""
    if HEAT:
        low, high, call = names
        double: tl.constexpr = length.dtype == tl.float64
        k, b, tries = 2 * length, direction, 0
        waiting = k == k
        while (tries < MOST) & (tl.sum(waiting.to(tl.int32), 0) > 0):
            if double:
                r0, r1 = unit_interval(random_words(low, high, call, block), True)
                r2, r3 = unit_interval(random_words(low, high, call, block + step), True)
                block += 2 * step
            else:
                r0, r1, r2, r3 = unit_interval(random_words(low, high, call, block), False)
                block += step
            b, waiting = attempt((r0, r1, r2, r3), k, b, waiting)
            tries += 1
        return quotient(b, direction)
    else:
        return reflection(direction)


@jit
def sweep(
    own, hops, order, weights, keys, calls, first, size, volume, chains,
    DIM: tl.constexpr, N: tl.constexpr, HEAT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """New links of one colour, a link of a group of chains: the sum of staples, then all SU(2) subgroups."""
    total = DIM * volume
    group, lane = tl.program_id(0) // size, tl.arange(0, BLOCK)
    here = tl.load(order + first + tl.program_id(0) % size)
    base = _link(own, group, total, 0, lane, BLOCK, N)
    width: tl.constexpr = _numbers(N) * BLOCK
    mu, site = here // volume, here % volume
    ahead = tl.load(hops + site * (2 * DIM) + mu)
    place = base + here * width
    sums = zero_like(tl.load(place), N)
    for i in range(DIM - 1):
        nu = tl.where(i < mu, i, i + 1)
        weight = tl.load(weights + mu * DIM + nu).to(own.dtype.element_ty)
        beside, below = tl.load(hops + site * (2 * DIM) + nu), tl.load(hops + site * (2 * DIM) + DIM + nu)
        corner = tl.load(hops + ahead * (2 * DIM) + DIM + nu)
        own_nu, own_mu = base + nu * volume * width, base + mu * volume * width
        there = product(load_link(own_nu + site * width, BLOCK, N), load_link(own_mu + beside * width, BLOCK, N), N)
        over = product(load_link(own_nu + ahead * width, BLOCK, N), adjoint(there, N), N)
        sums = add(sums, over, weight, N)
        there = product(load_link(own_mu + below * width, BLOCK, N), load_link(own_nu + corner * width, BLOCK, N), N)
        under = product(adjoint(there, N), load_link(own_nu + below * width, BLOCK, N), N)
        sums = add(sums, under, weight, N)
    u = load_link(place, BLOCK, N)
    sums = product(u, sums, N)
    names = 0, 0, 0
    if HEAT:
        chain, _ = _chains(group, chains, BLOCK)
        names = tl.load(keys + 2 * chain), tl.load(keys + 2 * chain + 1), tl.load(calls + chain)
    block = here.to(tl.int64) + tl.zeros([BLOCK], tl.int64)
    stride = total * (MOST * (2 if own.dtype.element_ty == tl.float64 else 1))
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


@jit
def plaquettes(
    own, hops, weights, sums, volume, chunks,
    CHUNK: tl.constexpr, DIM: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Minus the weighted sums of plaquettes at the sites of a chunk, of a group of chains."""
    group, chunk, lane = tl.program_id(0) // chunks, tl.program_id(0) % chunks, tl.arange(0, BLOCK)
    base = _link(own, group, DIM * volume, 0, lane, BLOCK, N)
    width: tl.constexpr = _numbers(N) * BLOCK
    action = tl.zeros([BLOCK], tl.float64)
    for site in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, volume)):
        for mu in range(DIM - 1):
            for nu in range(mu + 1, DIM):
                own_mu, own_nu = base + mu * volume * width, base + nu * volume * width
                ahead, beside = tl.load(hops + site * (2 * DIM) + mu), tl.load(hops + site * (2 * DIM) + nu)
                there = load_link(own_mu + site * width, BLOCK, N), load_link(own_nu + ahead * width, BLOCK, N)
                back = load_link(own_nu + site * width, BLOCK, N), load_link(own_mu + beside * width, BLOCK, N)
                loop = real_trace(product(there[0], there[1], N), product(back[0], back[1], N), N)
                action -= tl.load(weights + mu * DIM + nu) * loop.to(tl.float64)
    tl.store(sums + (group * chunks + chunk) * BLOCK + lane, action)


@jit
def collect(sums, actions, chunks, chains, BLOCK: tl.constexpr):
    """The sums of all chunks, in order."""
    chain, there = _chains(tl.program_id(0), chains, BLOCK)
    action = tl.zeros([BLOCK], tl.float64)
    for chunk in range(chunks):
        action += tl.load(sums + (tl.program_id(0) * chunks + chunk) * BLOCK + tl.arange(0, BLOCK))
    tl.store(actions + chain, action, mask=there)
