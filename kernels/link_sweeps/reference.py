"""link_sweeps in plain PyTorch: the definition of the op."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.heat_bath import reference as heat_bath
from lattice_flows.kernels.matrices import adjoint
from lattice_flows.kernels.uniforms.reference import numbers_of

HEAT_BATH, OVER_RELAXATION = 0, 1
ATTEMPTS = 16


def link_sweeps(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor, moves: Sequence[int], keys: Tensor,
    calls: Tensor, before: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New links, and minus the sum of weighted loops `(chains, 1 or 2)`; see `lattice_flows.kernels.link_sweeps`.

    Shapes: links `(chains, dim * V, N, N)`, for U(1) angles `(chains, dim * V, 1, 1)`; nodes `(dim,)`, the number of
    sublattices along each direction; moves of `HEAT_BATH` and `OVER_RELAXATION`.
    """
    field, angles = Field(links, extents, weights), not links.is_complex()
    grid, u = field.grid, field.u
    calls, actions = calls.clone(), [field.action()] if before else []
    for move in moves:
        for sites in _order(grid, nodes, reach_of(weights)):
            for mu in range(len(extents)):
                here = mu * grid.numel() + sites
                old, sums = u[:, here].flatten(0, 1), field.staples(mu, sites).flatten(0, 1)
                if move == OVER_RELAXATION:
                    new = _reflected(old, sums) if angles else heat_bath.over_relaxation(old, sums)
                else:
                    numbers = _numbers(keys, calls, here, links)
                    draw = _drawn if angles else heat_bath.heat_bath
                    new = draw(old, sums, 1.0, numbers.flatten(0, 1))
                u[:, here] = new.reshape(u[:, here].shape)
        if move == HEAT_BATH:
            calls = calls + 1
    return field.links(), torch.stack([*actions, field.action()], 1)


class Field:
    """Links of lattices, or for angles their phases, with the sums of their weighted staples."""

    def __init__(self, links: Tensor, extents: Sequence[int], weights: Tensor):
        self.u = links.clone() if links.is_complex() else torch.polar(torch.ones_like(links), links)
        self.angles = not links.is_complex()
        self.weights = _of_sites(weights, extents)
        self.grid = torch.arange(math.prod(extents)).reshape(tuple(extents))
        self.up = [self.grid.roll(-1, mu).flatten() for mu in range(len(extents))]
        self.down = [self.grid.roll(1, mu).flatten() for mu in range(len(extents))]
        self.detours = [self._detours(mu, weights[1]) for mu in range(len(extents))] if reach_of(weights) == 2 else []

    def at(self, mu: int, sites: Tensor) -> Tensor:
        """U_mu of sites, `(chains, n, N, N)`."""
        return self.u[:, mu * self.grid.numel() + sites]

    def staples(self, mu: int, sites: Tensor) -> Tensor:
        """The sums of the staples of U_mu of sites."""
        at, total = self.at, torch.zeros_like(self.at(mu, sites))
        for nu in set(range(len(self.up))) - {mu}:
            below = self.down[nu][sites]
            over = at(nu, self.up[mu][sites]) @ adjoint(at(mu, self.up[nu][sites])) @ adjoint(at(nu, sites))
            under = adjoint(at(mu, below) @ at(nu, self.up[mu][below])) @ at(nu, below)
            ahead, behind = self.weights[mu, nu, sites], self.weights[nu, mu, below]
            total = total + _times(ahead, over) + _times(behind, under)
        return total + self._around(mu, sites) if self.detours else total

    def _around(self, mu: int, sites: Tensor) -> Tensor:
        """The sums of the weighted paths that make rectangles of U_mu of sites."""
        tables, ahead, weights = self.detours[mu]
        links = self.u[:, tables[:, :, sites]]
        links = torch.where(ahead, links, adjoint(links))
        paths = functools.reduce(torch.matmul, links.unbind(2))
        return (weights.to(paths.dtype)[:, None, None, None] * paths).sum(1)

    def _detours(self, mu: int, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Paths of five steps from x + mu to x: indices of links `(w, 5, V)`, which are ahead, and weights `(w,)`."""
        paths = []
        for nu, side in itertools.product(set(range(len(self.up))) - {mu}, (1, -1)):
            there, back = (nu, side), (nu, -side)
            paths.append(((mu, 1), there, (mu, -1), (mu, -1), back, weights[mu, nu]))
            paths.append((there, (mu, -1), (mu, -1), back, (mu, 1), weights[mu, nu]))
            paths.append((there, there, (mu, -1), back, back, weights[nu, mu]))
        tables = []
        for *steps, _ in paths:
            place, links = self.up[mu], []
            for nu, sign in steps:
                place, before = (self.up if sign > 0 else self.down)[nu][place], place
                links.append(nu * self.grid.numel() + (before if sign > 0 else place))
            tables.append(torch.stack(links))
        ahead = torch.tensor([[sign > 0 for _, sign in steps] for *steps, _ in paths])
        return torch.stack(tables), ahead[:, :, None, None, None], torch.stack([weight for *_, weight in paths])

    def action(self) -> Tensor:
        """Minus the sum of the weighted loops, `(chains,)`."""
        everywhere, total = self.grid.flatten(), torch.zeros(len(self.u), dtype=torch.float64, device=self.u.device)
        for mu, nu in itertools.combinations(range(len(self.up)), 2):
            ahead = self.at(nu, self.up[mu]) @ adjoint(self.at(mu, self.up[nu]))
            loops = self.at(mu, everywhere) @ ahead @ adjoint(self.at(nu, everywhere))
            total -= _retraced(_times(self.weights[mu, nu], loops))
        for mu in range(len(self.detours)):
            # a rectangle has six links
            total -= _retraced(self.at(mu, everywhere) @ self._around(mu, everywhere)) / 6
        return total

    def links(self) -> Tensor:
        """Links as they came, or angles."""
        if not self.angles:
            return self.u
        turned = self.u.angle()
        return torch.where(turned >= math.pi, -math.pi, turned)


def reach_of(weights: Tensor) -> int:
    """The longest side of a weighted loop: 2 where there are weights of rectangles."""
    return 2 if weights.ndim == 3 and weights.shape[0] == 2 else 1


def _of_sites(weights: Tensor, extents: Sequence[int]) -> Tensor:
    """The weights w_{mu nu}(x) `(dim, dim, V)` of plaquettes."""
    dim, volume = len(extents), math.prod(extents)
    if weights.ndim == 1 + dim and reach_of(weights) == 1:
        full = weights.new_zeros(dim, dim, volume)
        for own, (mu, nu) in zip(weights.flatten(1), itertools.combinations(range(dim), 2), strict=True):
            full[mu, nu], full[nu, mu] = own, own.conj()
        return full
    return weights.reshape(-1, dim, dim)[0, ..., None].expand(-1, -1, volume)


def _times(weights: Tensor, loops: Tensor) -> Tensor:
    """Matrices `(chains, n, N, N)` times numbers `(n,)`."""
    return weights.to(loops.dtype)[:, None, None] * loops


def _retraced(loops: Tensor) -> Tensor:
    """The sum of Re tr over all loops of a chain, in double precision."""
    return loops.diagonal(dim1=-2, dim2=-1).real.double().sum((1, 2))


def _order(grid: Tensor, nodes: Sequence[int], reach: int) -> Iterator[Tensor]:
    """Flat indices of sites in the order of a sweep, those together that are independent.

    Sublattices are walked at once, slice after slice of their longest direction, and in a slice rows across the longest
    of the other directions. Blocks are of two rows, or of three to five where loops reach two sites further; the first
    rows of all blocks come first, then the second ones, and so on.
    """
    extents = [extent // count for extent, count in zip(grid.shape, nodes, strict=True)]
    a, b = sorted(range(len(extents)), key=lambda mu: (-extents[mu], mu))[:2]
    corners = torch.cartesian_prod(
        *(torch.arange(0, full, part) for full, part in zip(grid.shape, extents, strict=True))
    )
    blocks = max(1, extents[b] // 2 if reach == 1 else (extents[b] + 2) // 4)
    starts = [k * extents[b] // blocks for k in range(blocks + 1)]
    places = [list(range(*block)) for block in itertools.pairwise(starts)]
    classes = [[row for row in rows if row is not None] for rows in itertools.zip_longest(*places)]
    rest = [mu for mu in range(len(extents)) if mu not in (a, b)]
    for first, rows in itertools.product(range(extents[a]), classes):
        for others in itertools.product(*(range(extents[mu]) for mu in rest)):
            sites = torch.empty(len(rows), len(extents), dtype=torch.int64)
            sites[:, a], sites[:, b], sites[:, rest] = first, torch.tensor(rows), torch.tensor(others).long()
            yield grid[(sites[:, None] + corners).flatten(0, 1).unbind(-1)]


def _numbers(keys: Tensor, calls: Tensor, here: Tensor, links: Tensor) -> Tensor:
    """Uniform numbers `(chains, n, pairs, ATTEMPTS, 4)` of the links `here` `(n,)`."""
    pairs = max(1, math.comb(links.shape[-1], 2))
    return draws(keys, calls, here, pairs * ATTEMPTS, links).unflatten(2, (pairs, ATTEMPTS))


def draws(keys: Tensor, calls: Tensor, here: Tensor, n: int, links: Tensor) -> Tensor:
    """n times four uniform numbers `(chains, len(here), n, 4)` of the links `here`, in the precision of `links`."""
    double = links.dtype in (torch.float64, torch.complex128)
    blocks = torch.arange(n * (1 + double)) * links.shape[1] + here[:, None]  # (links, blocks)
    parts = numbers_of(keys, calls, blocks.to(links.device), torch.float64 if double else torch.float32)
    return torch.stack(parts, -1).flatten(2).unflatten(2, (n, 4))


def _reflected(u: Tensor, sums: Tensor) -> Tensor:
    """Phases with the same Re(u S)."""
    r = sums.abs()
    direction = torch.where(r > 0, sums / r, 1.0)
    return torch.where(r > 0, adjoint(u * direction * direction), u)


def _drawn(u: Tensor, sums: Tensor, strength: float, numbers: Tensor) -> Tensor:
    """Phases from the density exp(strength Re(u S)).

    Source: D. J. Best and N. I. Fisher, Appl. Statist. 28 (1979) 152.
    """
    r = sums.abs()
    direction, k = torch.where(r > 0, sums / r, 1.0), strength * r
    tau = 1 + (1 + 4 * k * k).sqrt()
    q = (tau + (2 * tau).sqrt()) / 2
    rho = k / q
    waiting = torch.ones_like(k, dtype=torch.bool)
    for turn, threshold in (pair.unbind(-1) for pair in numbers[:, 0, :, :2].unbind(1)):
        half = math.pi * (turn[:, None, None] - 0.5)
        c = q * (1 - rho * rho).square() / (2 + 2 * rho * (rho + 2 * (2 * half).cos()))
        accepted = waiting & (threshold[:, None, None] < c * (1 - c).exp())
        angle = 2 * ((1 - rho) * half.sin()).atan2((1 + rho) * half.cos())
        u = torch.where(accepted, torch.polar(torch.ones_like(angle), angle) * adjoint(direction), u)
        waiting = waiting & ~accepted
    return u
