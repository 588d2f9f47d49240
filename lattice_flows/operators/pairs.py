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
from lattice_flows.operators.duals import Dual, of_links, products, stacked
from lattice_flows.operators.products import next_to_leading

SQUARES = ("", "tr PP", "tr P tr P*", "tr P squared")
PAIRS = {
    "planar": ("rectangle", "tr PP planar", "tr P tr P* planar", "tr P tr P planar"),
    "bent": ("chair", "tr PP bent", "tr P tr P* bent", "tr P tr P bent"),
}
"""The names of Re tr A B^dagger, Re tr A B, Re tr A (tr B)* and Re tr A tr B, of equal plaquettes and of two."""


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
        classes = {operator.monomial: i for i, operator in enumerate(self.operators)}
        classes[()] = len(classes)
        self._laplacian = torch.zeros(len(classes), len(self.operators), dtype=torch.float64)
        for i, operator in enumerate(self.operators):
            for monomial, coefficient in operator.derivative.items():
                self._laplacian[classes[monomial], i] = float(coefficient)

    def derivatives(self, links: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The Laplacians of all operators, and their derivatives inner(X, force) along a tangent field X.

        Shapes: links and tangent `(*batch, dim, *sites, *element)` -> both `(*batch, n_operators)`, float64.

        Raises:
            InvalidInput: the links are not those of the group and the dimension, or the lattice is too short.
        """
        space, *_ = [operator.space_of(links) for operator in self.operators]
        sums: dict[str, Dual] = {}
        for name, own in _terms(plaquettes_of(space, links, tangent), space.lattice.extents[-1]):
            sums[name] = sums[name] + own if name in sums else own
        every = [sums[operator.name] for operator in self.operators]
        values, slopes = (torch.stack([own[part].sum(-1) for own in every], -1) for part in (0, 1))
        one = torch.full_like(values[..., :1], space.volume)
        return torch.cat((values, one), -1) @ self._laplacian.to(values.device), slopes


class Loops(NamedTuple):
    """A sum of loops that begin with the same links: its matrices, their adjoints, their traces and the conjugates."""

    matrices: Dual
    adjoint: Dual
    trace: Dual
    conjugate: Dual

    def __add__(self, other: "Loops") -> "Loops":  # type: ignore[override]
        return Loops(*(one + two for one, two in zip(self, other, strict=True)))

    @property
    def reversed(self) -> "Loops":
        """The same loops in the other direction."""
        return Loops(self.adjoint, self.matrices, self.conjugate, self.trace)

    def products(self, other: "Loops", last: int) -> tuple[Dual, ...]:
        """Re tr A B^dagger, Re tr A B, Re tr A (tr B)* and Re tr A tr B, of all pairs, as sums of `Dual.overlap`."""
        return (
            self.matrices.overlap(other.matrices, last),
            self.matrices.overlap(other.adjoint, last),
            self.trace.overlap(other.trace, last),
            self.trace.overlap(other.conjugate, last),
        )


def loops_of(matrices: Dual) -> Loops:
    """Loops, from their matrices."""
    trace = matrices.trace()
    return Loops(matrices, matrices.adjoint(), trace, trace.adjoint())


class Plaquettes(NamedTuple):
    """The plaquettes of all planes, and for each direction those that begin with the links along it, by planes."""

    every: list[Loops]
    around: list[list[tuple[Loops, Loops]]]
    """On the upper and on the lower side of the link."""


def plaquettes_of(space: GaugeField, links: Tensor, tangent: Tensor) -> Plaquettes:
    """All plaquettes of links `(*batch, *shape)`, with their derivatives along a tangent field of the same shape."""
    own = of_links(space, links, tangent)
    tables = _tables(space.lattice, links.device)
    plaquettes = products(stacked(own), tables.plaquettes, (True, True, False, False))
    stack = stacked(own, plaquettes)
    every = [loops_of(part) for part in plaquettes.parts(space.volume)]
    planes = list(itertools.combinations(range(space.dim), 2))
    around: list[list[tuple[Loops, Loops]]] = [[] for _ in range(space.dim)]
    for side, forward in enumerate((False, True)):
        behind = products(stack, tables.behind[side], (False, forward, True)).parts(space.volume)
        for plane, plaquette, other in zip(planes, every, behind, strict=True):
            upper = plaquette.reversed if side else plaquette
            around[plane[side]].append((upper, loops_of(other)))
    return Plaquettes(every, around)


class _Tables(NamedTuple):
    plaquettes: Tensor
    behind: tuple[Tensor, Tensor]


@functools.lru_cache(maxsize=16)
def _tables(lattice: Lattice, device: torch.device) -> _Tables:
    """Walks of plaquettes P, and of U P^-1 or P U behind the links of the first and of the second direction.

    The links are followed by the plaquettes, in the order of flat links and planes.
    """
    planes = list(itertools.combinations(range(lattice.dim), 2))
    loops = torch.cat([lay(rectangle(mu, 1, nu, 1), lattice).links for mu, nu in planes], -1)
    behind = []
    for side in (1, 0):
        walks = []
        for number, plane in enumerate(planes):
            start = lattice.neighbours(plane[side], -1)
            link = start + plane[side] * lattice.volume
            walks.append(torch.stack((link, start + (lattice.dim + number) * lattice.volume, link)))
        behind.append(torch.cat(walks, -1).to(device))
    return _Tables(loops.to(device), (behind[0], behind[1]))


def _terms(plaquettes: Plaquettes, last: int) -> Iterator[tuple[str, Dual]]:
    """The parts of all operators, as sums of `Dual.overlap`, with the operators' names."""
    for own in plaquettes.every:
        yield "plaquette", own.trace.total(last)
        yield from zip(SQUARES, own.products(own, last), strict=True)
    for planes in plaquettes.around:
        other = None
        for upper, lower in planes:
            yield from zip(PAIRS["planar"], upper.products(lower, last), strict=True)
            both = upper + lower
            if other is not None:
                yield from zip(PAIRS["bent"], both.products(other, last), strict=True)
            other = both if other is None else other + both
