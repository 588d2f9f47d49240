"""Exact, independent configurations of two-dimensional gauge theory: the reference for flows."""

import torch
from torch import Tensor

from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.lattice.paths import follow, polyakov_loop
from lattice_flows.planar.loop_density import LoopDensity, plaquettes
from lattice_flows.planar.partition import cuts

POOL = 2**16
"""The number of loops of each area that are drawn, once."""


def exact_samples(action: Wilson, n: int, *, generator: torch.Generator) -> Tensor:
    """n independent configurations `(n, 2, *sites, *element)` of the Wilson action in two dimensions, in float64.

    Rectangles, at first the whole lattice, are cut in two. The loop W_a around the first part is drawn with density
    f_A and accepted with probability f_B(W W_a^-1) / f_B(1), W the boundary of the rectangle. The two loops around the
    lattice are Haar elements, accepted with the density f_V of their commutator. All other links are Haar elements.

    Loops of area A are products of A plaquettes of a pool of 2^16, and a Haar element of its own turns each. The
    plaquettes come from Metropolis chains of 200 updates. The error has that size.

    Raises:
        InvalidInput: another action, another dimension, or a group that `lattice_flows.planar.characters` lacks.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413, for the densities.

    Example:
        >>> from lattice_flows import U1, GaugeField
        >>> action = Wilson(GaugeField(U1(), (4, 4)), beta=2.0)
        >>> exact_samples(action, 10, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([10, 2, 4, 4])
    """
    if type(action) is not Wilson:
        raise InvalidInput(f"exact samples are those of the Wilson action, got {action}")
    space, group, beta = action.space, action.space.group, action.beta
    hierarchy = cuts(space.lattice)
    pool = {1: plaquettes(group, beta, POOL, generator)}
    links = space.prior(n, generator, dtype=torch.float64)
    whole = LoopDensity(group, beta, space.volume)
    todo = torch.arange(n)
    while len(todo):
        links[todo] = space.prior(len(todo), generator, dtype=torch.float64)
        x, y = (polyakov_loop(links[todo], mu, space)[:, 0, 0] for mu in (0, 1))
        commutator = group.compose(group.compose(x, y), group.compose(group.inverse(x), group.inverse(y)))
        todo = todo[~_accept(whole, commutator, generator)]
    flat = space.flatten(links)
    for partition in hierarchy:
        boundary = follow(flat, partition.boundary_loops, group)
        old = follow(flat, partition.active_loops, group)
        first = _loops(group, partition.areas[0], pool, generator)
        new = _first_parts(boundary, first, LoopDensity(group, beta, partition.areas[1]), generator)
        active = partition.active_links
        flat[:, active] = group.compose(group.compose(new, group.inverse(old)), flat[:, active])
    return flat.reshape(links.shape)


def _first_parts(boundary: Tensor, first: Tensor, second: LoopDensity, generator: torch.Generator) -> Tensor:
    """W_a `(*batch, *element)` for every W, from a pool of loops W_a and the density of W_b."""
    group = second.group
    whole = boundary.reshape(-1, *group.element_shape)
    parts = torch.empty_like(whole)
    todo = torch.arange(len(whole))
    while len(todo):
        drawn = first[torch.randint(POOL, (len(todo),), generator=generator)]
        turn = group.haar(len(todo), generator=generator, dtype=torch.float64)
        drawn = group.compose(group.compose(turn, drawn), group.inverse(turn))
        rest = group.compose(whole[todo], group.inverse(drawn))
        accepted = _accept(second, rest, generator)
        parts[todo[accepted]] = drawn[accepted]
        todo = todo[~accepted]
    return parts.reshape(boundary.shape)


def _loops(group: Group, area: int, pool: dict[int, Tensor], generator: torch.Generator) -> Tensor:
    """The pool of loops of an area; the pools of its halves make a new one."""
    if area not in pool:
        half, rest = (_loops(group, part, pool, generator) for part in (area // 2, area - area // 2))
        pool[area] = group.compose(half, rest[torch.randperm(POOL, generator=generator)])
    return pool[area]


def _accept(density: LoopDensity, loops: Tensor, generator: torch.Generator) -> Tensor:
    top = density(density.group.identity(1, dtype=torch.float64))
    return torch.rand(len(loops), generator=generator, dtype=torch.float64).log() < density(loops) - top
