"""Lattices of links in Triton kernels: a chain a lane, a link of a block of chains a program.

Links lie as (block of chains: link: number: chain), with the numbers of `load_link`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import WARP, any_size, as_reals, blocks, jit, tl
from lattice_flows.kernels.triton_links import add, adjoint, load_link, product, real_trace, zero_like

NUMBERS = {2: 4, 3: 12}
"""The numbers that are kept of a link: of SU(2) a quaternion, of SU(3) two rows."""
CHUNK = 64
"""The number of sites, or links, that a program adds up."""


class Lattices:
    """Links `(chains, dim * V, N, N)` in this layout, N = 2 or 3, one chain at least."""

    def __init__(self, links: Tensor, extents: Sequence[int], weights: Tensor):
        self.like, self.n, self.dim, self.volume = links, links.shape[-1], len(extents), math.prod(extents)
        self.chains, self.groups, self.links = len(links), blocks(len(links), WARP), links.shape[1]
        self.own, self.weights = self.room(NUMBERS[self.n]), weights.to(links.device).contiguous()
        self.hops = neighbours(tuple(extents), links.device)
        self.run(pack, self.links, as_reals(links), self.own, self.links, self.chains)

    def room(self, numbers: int) -> Tensor:
        """Memory for numbers of all links."""
        shape = self.groups, self.links, numbers, WARP
        return torch.empty(shape, dtype=self.like.real.dtype, device=self.like.device)

    def run(self, kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        """Run so many programs for every block of chains."""
        with torch.cuda.device_of(self.like):
            kernel[(self.groups * programs,)](
                *arguments, **constants, N=self.n, BLOCK=WARP, num_warps=1, enable_fp_fusion=True
            )

    def total(self, kernel: Any, count: int, *arguments: Any) -> Tensor:
        """The sums `(chains,)`, float64, over so many sites or links, always in the same order."""
        chunks = blocks(count, CHUNK)
        parts = torch.empty(self.groups, chunks, WARP, dtype=torch.float64, device=self.like.device)
        sums = torch.empty(self.chains, dtype=torch.float64, device=self.like.device)
        self.run(kernel, chunks, *arguments, parts, count, chunks, DIM=self.dim, CHUNK=CHUNK)
        self.run(collect, 1, parts, sums, chunks, self.chains)
        return sums

    def action(self) -> Tensor:
        """Minus the sums of weighted plaquettes."""
        return self.total(plaquettes, self.volume, self.own, self.hops, self.weights)

    def unpacked(self) -> Tensor:
        """The links as they came."""
        out = torch.empty_like(self.like, memory_format=torch.contiguous_format)
        self.run(unpack, self.links, self.own, torch.view_as_real(out), self.links, self.chains)
        return out


@functools.cache
def neighbours(extents: tuple[int, ...], device: torch.device) -> Tensor:
    """The neighbours `(V, 2 dim)` of sites, ahead and then behind."""
    grid = torch.arange(math.prod(extents)).reshape(extents)
    hops = [grid.roll(-step, mu).flatten() for step in (1, -1) for mu in range(len(extents))]
    return torch.stack(hops, 1).to(device, torch.int32)


@jit
def chains_of(group, chains, BLOCK: tl.constexpr):
    """The chains of a group, and which of them there are; the others repeat the last one."""
    chain = group * BLOCK + tl.arange(0, BLOCK)
    return tl.minimum(chain, chains - 1), chain < chains


@jit
def numbers_of(N: tl.constexpr):
    """The numbers that are kept of a link."""
    return 4 if N == 2 else 12


@jit
def place_of(own, group, total, link, lane, numbers: tl.constexpr, BLOCK: tl.constexpr):
    """Where so many numbers of a link lie, of a group of chains."""
    return own + (group.to(tl.int64) * total + link) * (numbers * BLOCK) + lane


@any_size
def pack(links, own, total, chains, N: tl.constexpr, BLOCK: tl.constexpr):
    """From the layout of tensors, a link of a group of chains."""
    group, link, lane = tl.program_id(0) // total, tl.program_id(0) % total, tl.arange(0, BLOCK)
    chain, _ = chains_of(group, chains, BLOCK)
    m = links + (chain.to(tl.int64) * total + link) * (2 * N * N)
    own = place_of(own, group, total, link, lane, numbers_of(N), BLOCK)
    if N == 2:
        tl.store(own, tl.load(m))
        tl.store(own + BLOCK, tl.load(m + 3))
        tl.store(own + 2 * BLOCK, tl.load(m + 2))
        tl.store(own + 3 * BLOCK, tl.load(m + 1))
    else:
        for k in tl.static_range(12):
            tl.store(own + k * BLOCK, tl.load(m + k))


@any_size
def unpack(own, links, total, chains, N: tl.constexpr, BLOCK: tl.constexpr):
    """To the layout of tensors, a link of a group of chains."""
    group, link, lane = tl.program_id(0) // total, tl.program_id(0) % total, tl.arange(0, BLOCK)
    chain, there = chains_of(group, chains, BLOCK)
    m = links + (chain.to(tl.int64) * total + link) * (2 * N * N)
    u = load_link(place_of(own, group, total, link, lane, numbers_of(N), BLOCK), BLOCK, N)
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
def _hop(hops, site, which, DIM: tl.constexpr):
    """A neighbour of a site, ahead in a direction, or, DIM later, behind."""
    return tl.load(hops + site * (2 * DIM) + which).to(tl.int64)


@jit
def staples(base, hops, weights, here, volume, DIM: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    """The weighted sum of the staples of a link."""
    width: tl.constexpr = numbers_of(N) * BLOCK
    mu, site = here // volume, here % volume
    ahead = _hop(hops, site, mu, DIM)
    plane = tl.cast(volume, tl.int64) * width
    sums = zero_like(tl.load(base), N)
    for i in range(DIM - 1):
        nu = tl.where(i < mu, i, i + 1)
        weight = tl.load(weights + mu * DIM + nu).to(base.dtype.element_ty)
        beside, below = _hop(hops, site, nu, DIM), _hop(hops, site, DIM + nu, DIM)
        corner = _hop(hops, ahead, DIM + nu, DIM)
        own_nu, own_mu = base + nu * plane, base + mu * plane
        there = product(
            load_link(own_nu + tl.cast(site, tl.int64) * width, BLOCK, N),
            load_link(own_mu + beside * width, BLOCK, N),
            N,
        )
        over = product(load_link(own_nu + ahead * width, BLOCK, N), adjoint(there, N), N)
        sums = add(sums, over, weight, N)
        there = product(load_link(own_mu + below * width, BLOCK, N), load_link(own_nu + corner * width, BLOCK, N), N)
        under = product(adjoint(there, N), load_link(own_nu + below * width, BLOCK, N), N)
        sums = add(sums, under, weight, N)
    return sums


@any_size
def plaquettes(
    own, hops, weights, sums, volume, chunks,
    DIM: tl.constexpr, CHUNK: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Minus the weighted sums of plaquettes at the sites of a chunk, of a group of chains."""
    group, chunk, lane = tl.program_id(0) // chunks, tl.program_id(0) % chunks, tl.arange(0, BLOCK)
    base = place_of(own, group, DIM * volume, 0, lane, numbers_of(N), BLOCK)
    width: tl.constexpr = numbers_of(N) * BLOCK
    plane = tl.cast(volume, tl.int64) * width
    action = tl.zeros([BLOCK], tl.float64)
    for site in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, volume)):
        for mu in range(DIM - 1):
            for nu in range(mu + 1, DIM):
                own_mu, own_nu, here = base + mu * plane, base + nu * plane, tl.cast(site, tl.int64) * width
                ahead, beside = _hop(hops, site, mu, DIM), _hop(hops, site, nu, DIM)
                there = load_link(own_mu + here, BLOCK, N), load_link(own_nu + ahead * width, BLOCK, N)
                back = load_link(own_nu + here, BLOCK, N), load_link(own_mu + beside * width, BLOCK, N)
                loop = real_trace(product(there[0], there[1], N), product(back[0], back[1], N), N)
                action -= tl.load(weights + mu * DIM + nu) * loop.to(tl.float64)
    tl.store(sums + (group * chunks + chunk) * BLOCK + lane, action)


@any_size
def collect(sums, actions, chunks, chains, N: tl.constexpr, BLOCK: tl.constexpr):
    """The sums of all chunks, in order."""
    chain, there = chains_of(tl.program_id(0), chains, BLOCK)
    action = tl.zeros([BLOCK], tl.float64)
    for chunk in range(chunks):
        action += tl.load(sums + (tl.program_id(0) * chunks + chunk) * BLOCK + tl.arange(0, BLOCK))
    tl.store(actions + chain, action, mask=there)
