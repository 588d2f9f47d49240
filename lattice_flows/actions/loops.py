"""Actions that are sums over loops: the sum and its force from one description of the loops."""

import functools
import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions.base import Action
from lattice_flows.fields.layout import extents, flatten_links, infer_dim
from lattice_flows.fields.loops import Path, Walk, follow, lay, loops_through, path_product, rectangle
from lattice_flows.groups import Group
from lattice_flows.kernels.link_sums import link_forces


class LoopAction(Action):
    """S = -(beta / N) sum over x and planes of [c0 Re tr P_{1x1} + c1 sum over both orientations of Re tr P_{1x2}].

    Args:
        group: the gauge group.
        beta: the inverse coupling, > 0.
        c1: the weight of the 1 x 2 rectangles; c0 = 1 - 8 c1 keeps the classical continuum limit.
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: beta is not a finite number > 0.
    """

    def __init__(self, group: Group, beta: float, c1: float = 0.0, dim: int | None = None):
        super().__init__(group, beta)
        self.c1 = c1
        self.dim = dim

    def _terms(self, dim: int):
        """Pairs of a loop and its weight."""
        for mu, nu in itertools.combinations(range(dim), 2):
            yield rectangle(mu, 1, nu, 1), 1 - 8 * self.c1
            if self.c1:
                yield rectangle(mu, 2, nu, 1), self.c1
                yield rectangle(mu, 1, nu, 2), self.c1

    def forward(self, links: Tensor) -> Tensor:
        dim = infer_dim(links, self.group, self.dim)
        total = torch.zeros((), device=links.device)
        for path, weight in self._terms(dim):
            loop = self.group.retrace(path_product(links, path, self.group, dim=dim))
            total = total + weight * loop.flatten(-dim).sum(-1)
        return -self.beta * total

    def force(self, links: Tensor) -> Tensor:
        """The force from the loops through each link (see `Action.force`), without autograd; it has no derivative."""
        dim = infer_dim(links, self.group, self.dim)
        flat = flatten_links(links, self.group, dim)
        force = torch.zeros_like(flat)
        for weight in dict.fromkeys(weight for _, weight in self._terms(dim)):
            paths = tuple(path for path, own in self._terms(dim) if own == weight)
            staples = _staples(paths, extents(links, self.group, dim), links.device)
            force.add_(_retrace_gradient(flat, staples, self.group), alpha=-self.beta * weight)
        return force.reshape(links.shape)


class _Staples(NamedTuple):
    """What closes every link of a lattice to loops."""

    tables: Tensor
    """Flat link indices `(staples, steps, dim * V)`."""
    forward: tuple[tuple[bool, ...], ...]
    """The orientations of the steps."""
    active: Tensor
    """The flat indices of all links `(dim * V,)`."""


@functools.lru_cache(maxsize=16)
def _staples(paths: tuple[Path, ...], sites: tuple[int, ...], device: torch.device) -> _Staples:
    """The staples of closed paths of equal length, of which there are as many of a kind for every direction."""
    directions = []
    for mu in range(len(sites)):
        walks = [lay(turn, sites) for path in paths for turn in loops_through(path, mu)]
        directions.append(sorted(walks, key=lambda walk: walk.forward))
    tables = torch.stack([torch.cat([walk.links for walk in alike], -1) for alike in zip(*directions, strict=True)])
    forward = tuple(walk.forward[1:] for walk in directions[0])
    return _Staples(tables[:, 1:].contiguous().to(device), forward, tables[0, 0].to(device))


def _retrace_gradient(flat: Tensor, staples: _Staples, group: Group) -> Tensor:
    """The sum of `group.retrace_gradient` of all loops through every link, from links `(*batch, dim * V, *element)`."""
    if group.element_shape:
        return link_forces(flat, *staples) / (-2 * group.n)
    walks = itertools.starmap(Walk, zip(staples.tables, staples.forward, strict=True))
    loops = (group.compose(flat, follow(flat, walk, group)) for walk in walks)
    return functools.reduce(torch.add, map(group.retrace_gradient, loops))
