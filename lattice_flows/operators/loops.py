"""Sums over loops: the value and the force from one description of the loops."""

import functools
import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from lattice_flows.groups.base import Orientations
from lattice_flows.kernels.link_operators import available, link_operators
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import Path, check_closed, lay, loops_through, path_product, rectangle
from lattice_flows.lattice.space import GaugeField, gauge_field
from lattice_flows.operators.base import Operator


class LoopSum(Operator):
    """W = sum over x and over paths of Re tr P / N, P the loop along a path from x.

    Args:
        paths: closed paths of equal length that treat all directions alike.

    Raises:
        InvalidInput: the space is not one of links, or a path does not close.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(3), (4, 4))
        >>> plaquettes(space).value(space.cold(5))
        tensor([16., 16., 16., 16., 16.])
    """

    def __init__(self, space: GaugeField, paths: Iterable[Path]):
        self.space: GaugeField = gauge_field(space)
        self.paths = tuple(paths)
        for path in self.paths:
            check_closed(path, self.space.lattice)

    def value(self, x: Tensor) -> Tensor:
        group, dim = self.space.group, self.space.dim
        loops = (group.retrace(path_product(x, path, self.space)).flatten(-dim).sum(-1) for path in self.paths)
        return functools.reduce(torch.add, loops)

    def force(self, x: Tensor) -> Tensor:
        """The force (see `Operator.force`) from the loops through each link. It has no derivative."""
        flat, staples = self.space.flatten(self.space.check(x)), _staples(self.paths, self.space.lattice, x.device)
        return self.space.group.link_forces(flat, *staples).reshape(x.shape)


class _Plaquettes(LoopSum):
    """The sum over all plaquettes, whose force has a kernel of its own."""

    def force(self, x: Tensor) -> Tensor:
        group, extents = self.space.group, self.space.lattice.extents
        links = self.space.check(x).reshape(-1, *self.space.shape)
        if not (group.swept and available(extents, group.n, links)):
            return super().force(x)
        weights = torch.full((len(links), 1), 1 / group.n, dtype=torch.float64)
        return link_operators(links, extents, weights).force.reshape(x.shape)


def plaquettes(space: GaugeField) -> LoopSum:
    """The sum over all plaquettes, each in one orientation."""
    planes = itertools.combinations(range(gauge_field(space).dim), 2)
    return _Plaquettes(space, (rectangle(mu, 1, nu, 1) for mu, nu in planes))


def rectangles(space: GaugeField) -> LoopSum:
    """The sum over all 1 x 2 and 2 x 1 rectangles, each in one orientation."""
    planes = itertools.combinations(range(gauge_field(space).dim), 2)
    return LoopSum(space, (rectangle(mu, r, nu, 3 - r) for mu, nu in planes for r in (2, 1)))


@functools.lru_cache(maxsize=16)
def _staples(paths: tuple[Path, ...], lattice: Lattice, device: torch.device) -> tuple[Tensor, Orientations, Tensor]:
    """The walks that close every link to the loops through it.

    Shapes: flat link indices `(staples, steps, dim * V)`, the orientations of the steps, the links `(dim * V,)`.
    """
    directions = []
    for mu in range(lattice.dim):
        walks = [lay(turn, lattice) for path in paths for turn in loops_through(path, mu)]
        directions.append(sorted(walks, key=lambda walk: walk.forward))
    tables = torch.stack([torch.cat([walk.links for walk in alike], -1) for alike in zip(*directions, strict=True)])
    forward = tuple(walk.forward[1:] for walk in directions[0])
    return tables[:, 1:].contiguous().to(device), forward, tables[0, 0].to(device)
