"""Sweeps over links: which can be changed at once, and the staples they are closed with."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action, LoopAction
from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import coordinates, volume
from lattice_flows.fields.loops import lay, loops_through, rectangle
from lattice_flows.groups import Group
from lattice_flows.kernels.link_sums import link_sums


class Cell(NamedTuple):
    """Links of one direction no two of which share a plaquette, and the walks that close them to plaquettes."""

    active: Tensor
    """Flat link indices `(n,)`."""
    walks: Tensor
    """Flat link indices `(w, 3, n)` of w = 2 (dim - 1) staples."""
    forward: tuple[tuple[bool, ...], ...]
    """The orientation of the steps, w times 3."""


def colours(sites: tuple[int, ...], mu: int) -> Tensor:
    """A colour `(V,)` for every link of direction mu, such that links of one colour share no plaquette.

    It is sum_{nu != mu} f_nu(x_nu) mod m, f_nu being 0, 1, 0, 1, ... around the lattice, closed by a 2 where the extent
    is odd: two such links are neighbours along some nu != mu. m = 2 where all these extents are even, else 3.

    Example:
        >>> colours((2, 4), mu=0), colours((3, 2), mu=1)
        (tensor([0, 1, 0, 1, 0, 1, 0, 1]), tensor([0, 0, 1, 1, 2, 2]))
    """
    total = torch.zeros(volume(sites), dtype=torch.long)
    odd = False
    for nu, (axis, extent) in enumerate(zip(coordinates(sites), sites, strict=True)):
        if nu != mu:
            odd = odd or extent % 2 == 1
            total += torch.where((axis == extent - 1) & (extent % 2 == 1), 2, axis % 2)
    return total % (3 if odd else 2)


@functools.lru_cache(maxsize=32)
def cells(sites: tuple[int, ...], device: torch.device) -> tuple[Cell, ...]:
    """All links of a lattice in cells, which a sweep goes through in order."""
    found = []
    for mu in range(len(sites)):
        turns = [turn for nu in range(len(sites)) if nu != mu for turn in loops_through(rectangle(mu, 1, nu, 1), mu)]
        walks = [lay(turn, sites) for turn in turns]  # the first step is the link itself
        links = torch.stack([walk.links for walk in walks])
        forward = tuple(walk.forward[1:] for walk in walks)
        colour = colours(sites, mu)
        for value in colour.unique():
            here = (colour == value).nonzero().squeeze(1)
            found.append(Cell(links[0, 0, here].to(device), links[:, 1:, here].to(device), forward))
    return tuple(found)


def staples(flat: Tensor, cell: Cell, group: Group) -> Tensor:
    """The sum S over staples of every active link, S = -(beta / N) Re tr(U S) being its share of the Wilson action.

    Shapes: flat links `(chains, dim * V, *element)` -> `(chains, n, *element)`, complex: for U(1) a complex number.
    """
    if group.element_shape:
        return link_sums(flat, cell.walks, cell.forward)
    # sums of explicit terms: torch's reductions of more than four terms round according to the place in the tensor
    steps = flat.index_select(1, cell.walks.flatten()).unflatten(1, cell.walks.shape)
    forward = torch.tensor(cell.forward, device=flat.device).unsqueeze(-1)
    angles = functools.reduce(torch.add, torch.where(forward, steps, -steps).unbind(2))
    return torch.complex(*(functools.reduce(torch.add, part.unbind(1)) for part in (angles.cos(), angles.sin())))


def alignment(links: Tensor, sums: Tensor, group: Group) -> Tensor:
    """Re tr(U S) `(...)` of links and the sums of their staples."""
    if group.element_shape:
        return group.n * group.retrace(links @ sums)
    return links.cos() * sums.real - links.sin() * sums.imag


def flatten(links: Tensor, group: Group) -> tuple[Tensor, tuple[Cell, ...]]:
    """A copy of links `(chains, dim, *sites, *element)` as `(chains, dim * V, *element)`, and the cells of a sweep."""
    sites = tuple(links.shape[2 : links.ndim - len(group.element_shape)])
    return links.clone().reshape(len(links), -1, *group.element_shape), cells(sites, links.device)


def check_wilson(action: Action, sampler: str) -> LoopAction:
    """The action, if it is the sum of plaquettes.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(action, LoopAction) or action.c1:
        raise InvalidInput(f"{sampler} knows the staples of the Wilson action alone, got {action}; use HMC")
    return action
