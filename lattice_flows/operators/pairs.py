"""All operators of the next-to-leading order in one pass, with their derivatives along a tangent field.

They are sums over pairs of plaquettes that share a link. Such a sum is bilinear in the loops that begin with the link,
so that sums of loops are multiplied, and not each pair.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.groups import Group
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import lay, rectangle
from lattice_flows.lattice.space import GaugeField
from lattice_flows.operators.duals import Dual, Walks, gathered, of_links, products, stacked, walks
from lattice_flows.operators.products import laplacian_matrix, next_to_leading
from lattice_flows.operators.twisted import twisted_sum

SQUARES = ("plaquette", "tr PP", "tr P tr P*", "tr P squared")
PAIRS = {
    "planar": ("rectangle", "tr PP planar", "tr P tr P* planar", "tr P tr P planar"),
    "bent": ("chair", "tr PP bent", "tr P tr P* bent", "tr P tr P bent"),
}
"""The names of `Loops.squares` of plaquettes, and of `Loops.products` of two of them."""


class NextToLeading:
    """The operators of `next_to_leading`, all at once.

    Args:
        group, dim: as for `next_to_leading`, whose errors it has.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> space, together = GaugeField(SU(2), (3, 4)), NextToLeading(SU(2), 2)
        >>> links = space.prior(1, torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> laplacians, slopes = together.derivatives(links, together.operators[0].force(links))
        >>> bool(torch.isclose(laplacians[0, 1], together.operators[1].laplacian(links)[0]))
        True
    """

    def __init__(self, group: Group, dim: int):
        self.operators = next_to_leading(group, dim)
        sums = tuple((operator,) for operator in self.operators)
        self._laplacian, self._constant = map(torch.from_numpy, laplacian_matrix(sums))

    def derivatives(self, links: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The Laplacians of all operators, and their derivatives inner(X, force) along a tangent field X.

        Shapes: links and tangent `(*batch, dim, *sites, *element)` -> both `(*batch, n_operators)`, float64.

        Raises:
            InvalidInput: the links are not those of the group and the dimension, or the lattice is too short.
        """
        space, *_ = [operator.space_of(links) for operator in self.operators]
        last, sides = space.lattice.extents[-1], list(plaquettes_of(space, of_links(space, links, tangent)))
        sums = [sums_of(mu, *own, last) for mu, own in enumerate(sides)]
        every = {name: functools.reduce(Dual.__add__, [one[name] for one in sums]) for name in sums[0]}
        if space.dim > 2:
            every["twisted"] = twisted_sum([(upper.matrices, lower.matrices) for upper, lower in sides], last)
        values, slopes = (torch.stack([every[one.name][part] for one in self.operators], -1) for part in (0, 1))
        matrix, constant = self._laplacian.to(values.device), self._constant.to(values.device)
        return values @ matrix.T + constant * space.volume, slopes


class Loops(NamedTuple):
    """Loops that begin with the links along one direction, or sums of them, and their traces as 1 x 1 matrices.

    Shapes: `(*batch, planes, V, n, n)`.
    """

    matrices: Dual
    traces: Dual

    def __add__(self, other: "Loops") -> "Loops":  # type: ignore[override]
        return Loops(self.matrices + other.matrices, self.traces + other.traces)

    def summed(self) -> "Loops":
        """Each plane with those before."""
        return Loops(*(Dual(*(part.cumsum(-4) for part in own)) for own in self))

    def planes(self, first: int, last: int | None = None) -> "Loops":
        """Those of some planes."""
        return Loops(*(Dual(*(part[..., first:last, :, :, :] for part in own)) for own in self))

    def squares(self, last: int) -> tuple[Dual, ...]:
        """Re tr A, Re tr A A, |tr A|^2 and Re (tr A)^2 of each plaquette."""
        return (
            self.traces.total(last),
            self.matrices.overlap(self.matrices.adjoint(), last),
            self.traces.overlap(self.traces, last),
            self.traces.overlap(self.traces.adjoint(), last),
        )

    def products(self, other: "Loops", last: int) -> tuple[Dual, ...]:
        """Re tr A B^dagger, Re tr A B, Re tr A (tr B)* and Re tr A tr B, as sums of `Dual.overlap`."""
        return (
            self.matrices.overlap(other.matrices, last),
            self.matrices.overlap(other.matrices.adjoint(), last),
            self.traces.overlap(other.traces, last),
            self.traces.overlap(other.traces.adjoint(), last),
        )


def plaquettes_of(space: GaugeField, links: Dual) -> Iterator[tuple[Loops, Loops]]:
    """The plaquettes that begin with links, on the upper and the lower side in each plane, for each direction.

    The planes are in the order of their other directions.
    """
    tables = _tables(space.lattice, links.value.device)
    plaquettes = products(stacked(links), tables.plaquettes)
    stack = stacked(links, plaquettes, plaquettes.adjoint())
    for upper, behind in tables.directions:
        sides = gathered(stack, upper), products(stack, behind)
        one, two = (Dual(*(part.unflatten(-3, (space.dim - 1, -1)) for part in side)) for side in sides)
        yield Loops(one, one.trace()), Loops(two, two.trace())


class _Tables(NamedTuple):
    """Flat indices of links, plaquettes and their inverses, in this order."""

    plaquettes: Walks
    """The links of all plaquettes."""
    directions: list[tuple[Tensor, Walks]]
    """The plaquettes at the links along one, and walks of a link, a plaquette and the link behind them."""


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def _tables(lattice: Lattice, device: torch.device) -> _Tables:
    dim, volume = lattice.dim, lattice.volume
    planes = list(itertools.combinations(range(dim), 2))
    loops = torch.cat([lay(rectangle(mu, 1, nu, 1), lattice).links for mu, nu in planes], -1)
    numbers = {plane: dim + number for number, plane in enumerate((*planes, *((nu, mu) for mu, nu in planes)))}
    sites, directions = torch.arange(volume), []
    for mu in range(dim):
        others = [nu for nu in range(dim) if nu != mu]
        upper = torch.cat([sites + volume * numbers[mu, nu] for nu in others])
        behind = []
        for nu in others:
            start = lattice.neighbours(nu, -1)
            link = start + volume * nu
            behind.append(torch.stack((link, start + volume * numbers[mu, nu], link)))
        table = torch.cat(behind, -1).to(device)
        directions.append((upper.to(device), walks(table, (False, False, True), volume * dim * dim)))
    return _Tables(walks(loops.to(device), (True, True, False, False), volume * dim), directions)


def sums_of(mu: int, upper: Loops, lower: Loops, last: int) -> dict[str, Dual]:
    """The operators by their names, `(*batch,)`: what begins with the links along one direction."""
    found = dict(zip(SQUARES, upper.planes(mu).squares(last), strict=True))  # a plaquette begins with two links
    found |= dict(zip(PAIRS["planar"], upper.products(lower, last), strict=True))
    both = upper + lower
    if both.matrices.value.shape[-4] > 1:
        before = both.planes(0, -1).summed()
        found |= dict(zip(PAIRS["bent"], before.products(both.planes(1), last), strict=True))
    return {name: Dual(*(part.sum((-2, -1)) for part in own)) for name, own in found.items()}
