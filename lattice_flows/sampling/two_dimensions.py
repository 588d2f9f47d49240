"""Exact, independent configurations of two-dimensional gauge theory: the reference that a flow is checked against."""

import torch
from torch import Tensor

from lattice_flows.actions import Wilson
from lattice_flows.fields.layout import check_sites, flatten_links, site_axis, volume
from lattice_flows.fields.loops import follow, polyakov_loop
from lattice_flows.groups import Group
from lattice_flows.layers import LinkPartition
from lattice_flows.layers.rectangles import cuts
from lattice_flows.measurement.loop_density import LoopDensity, plaquettes

POOL = 2**16


def exact_samples(action: Wilson, sites, n: int, *, generator: torch.Generator) -> Tensor:
    """n independent configurations `(n, 2, *sites, *element)` of the Wilson action on a two-dimensional lattice.

    Rectangles, at first the whole lattice, are cut in two. The density of the loop W_a around the first part, given the
    boundary W, is proportional to f_A(W_a) f_B(W W_a^-1): W_a is drawn with density f_A and accepted with probability
    f_B(W W_a^-1) / f_B(1). The two loops around the lattice are Haar elements, accepted with the density f_V of their
    commutator. All other links are Haar elements.

    Loops of area A are products of A plaquettes out of a pool of 2^16, each turned by a Haar element of its own, and
    the plaquettes come from Metropolis chains of 200 updates each: what is not exact is of that size.

    Args:
        action: the Wilson action of a group that `lattice_flows.measurement.characters` knows.
        sites: two extents.

    Raises:
        InvalidInput: not two dimensions, or a group without characters.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413, for the densities.

    Example:
        >>> from lattice_flows import U1
        >>> links = exact_samples(Wilson(U1(), beta=2.0), (4, 4), 10, generator=torch.Generator().manual_seed(0))
        >>> links.shape
        torch.Size([10, 2, 4, 4])
    """
    group, beta, sites = action.group, action.beta, check_sites(sites)
    hierarchy = cuts(sites)
    pool = {1: plaquettes(group, beta, POOL, generator)}
    links = group.haar(n, 2, *sites, generator=generator, dtype=torch.float64)
    whole = LoopDensity(group, beta, volume(sites))
    todo = torch.arange(n)
    while len(todo):
        links[todo] = group.haar(len(todo), 2, *sites, generator=generator, dtype=torch.float64)
        lines = [polyakov_loop(links[todo], mu, group, dim=2) for mu in (0, 1)]
        x, y = (line[:, 0, 0] for line in lines)
        commutator = group.compose(group.compose(x, y), group.compose(group.inverse(x), group.inverse(y)))
        todo = todo[~_accept(whole, commutator, generator)]
    flat = flatten_links(links, group, 2)
    for cut in hierarchy:
        partition = LinkPartition.rectangles(sites, cut.shape, cut.corners)
        boundary = follow(flat, partition.boundary_loops, group)
        old = follow(flat, partition.active_loops, group)
        new = _first_parts(group, boundary, cut.areas, beta, pool, generator)
        factor = group.compose(new, group.inverse(old))
        moved = group.compose(factor, flat.index_select(site_axis(group), partition.active_links))
        flat = flat.index_copy(site_axis(group), partition.active_links, moved)
    return flat.reshape(links.shape)


def _first_parts(
    group: Group,
    boundary: Tensor,
    areas: tuple[int, int],
    beta: float,
    pool: dict[int, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """W_a for every W, `(*batch, *element)`."""
    first = _loops(group, areas[0], pool, generator)
    second = LoopDensity(group, beta, areas[1])
    shape = boundary.shape
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
    return parts.reshape(shape)


def _loops(group: Group, area: int, pool: dict[int, Tensor], generator: torch.Generator) -> Tensor:
    """The pool of loops of an area, made of the pools of its halves where it is not there yet."""
    if area not in pool:
        half, rest = (_loops(group, part, pool, generator) for part in (area // 2, area - area // 2))
        pool[area] = group.compose(half, rest[torch.randperm(POOL, generator=generator)])
    return pool[area]


def _accept(density: LoopDensity, loops: Tensor, generator: torch.Generator) -> Tensor:
    top = density(density.group.identity(1, dtype=torch.float64))
    return torch.rand(len(loops), generator=generator, dtype=torch.float64).log() < density(loops) - top
