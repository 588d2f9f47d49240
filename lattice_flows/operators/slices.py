"""Vector fields on the spatial links of one time slice, of the operators of the next-to-leading order near it.

The field V_i(t) is the force of a sum of loops W_i(t), with the components of spatial links of slice t alone. The loops
touch no spatial links but those of slices t and t +- 1, so that V_i(t) does not depend on slice t + 2.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import link_slices
from lattice_flows.kernels.link_slices import FIRST, KINDS
from lattice_flows.lattice.space import GaugeField, gauge_field
from lattice_flows.operators.base import autograd_force
from lattice_flows.operators.duals import Dual, of_links
from lattice_flows.operators.pairs import PAIRS, SQUARES, Loops, plaquettes_of
from lattice_flows.operators.products import next_to_leading


class _Part(NamedTuple):
    """Loops of a kind in slice t + offset, and how many links of slice t their product runs through once."""

    kind: str
    offset: int
    links: int
    shared: bool = False
    """Whether the link that two plaquettes share is in slice t, too."""


CLASSES = {
    "in the slice": (_Part("space", 0, 4),),
    "to the next slices": (_Part("time", 0, 1), _Part("time", -1, 1)),
    "planar, in the slice": (_Part("space planar", 0, 6, True),),
    "bent, in the slice": (_Part("space bent", 0, 6, True),),
    "planar, to both next slices": (_Part("both sides", 0, 0, True),),
    "bent, from the slice to the next": (_Part("up", 0, 3, True), _Part("down", 0, 3, True)),
    "bent, from the next slices to it": (_Part("up", -1, 1), _Part("down", 1, 1)),
    "planar, between slices": (_Part("time planar", 0, 2), _Part("time planar", -1, 2)),
    "bent, between slices": (_Part("time bent", 0, 2), _Part("time bent", -1, 2)),
}
"""The classes of loops of W_i(t), the first two of one plaquette, the others of two that share a link."""
SINGLE, SINGLE_KINDS = 2, ("space", "time")


class SliceOperators:
    """The operators W_i(t) of a space in three or four dimensions, for all slices t at once.

    Raises:
        InvalidInput: two dimensions, an extent below 3, or a group without the operators.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(2), (3, 3, 4))
        >>> operators, links = SliceOperators(space), space.cold(1, dtype=torch.float64)
        >>> laplacians, slopes = operators.derivatives(links, torch.zeros_like(links))
        >>> laplacians[0, :, 0]  # -C_F for each of 4 links of 9 plaquettes of trace 2
        tensor([-54., -54., -54., -54.], dtype=torch.float64)
    """

    def __init__(self, space: GaugeField):
        self.space = gauge_field(space)
        if space.dim < 3 or min(space.lattice.extents) < 3:
            raise InvalidInput(f"operators of time slices need three or four dimensions and extents >= 3, got {space}")
        known = {own.name for own in next_to_leading(space.group, space.dim)}
        quantities = [SQUARES] * SINGLE + [PAIRS["planar"]] * (len(CLASSES) - SINGLE)
        absent = [("planar, to both next slices", 0)]  # its rectangles do not hold the link of the slice
        if space.dim == 3:
            absent += [("bent, in the slice", k) for k in range(4)]
        self.names: list[tuple[str, int]] = [
            (name, k)
            for name, own in zip(CLASSES, quantities, strict=True)
            for k, quantity in enumerate(own)
            if quantity in known and (name, k) not in absent
        ]
        """The class of loops of each operator, and the number of its product of traces."""

    def derivatives(self, links: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """div V_i(t), and the products inner(X, V_i(t)) with a tangent field X.

        Shapes: links and tangent `(*batch, dim, *sites, *element)` -> both `(*batch, T, n_operators)`, float64.
        """
        group, extents = self.space.group, self.space.lattice.extents
        fields = group.matrices(self.space.check(links)), group.algebra_matrices(tangent)
        one, other = (own.reshape(-1, *self.space.axes, *own.shape[-2:]) for own in fields)
        values, slopes = (own.unflatten(0, self.space.batch(links)) for own in link_slices(one, other, extents))

        def along(part: _Part) -> Tensor:
            kind = KINDS.index(part.kind)
            return slopes[..., kind if part.offset == 0 else len(KINDS) + kind - FIRST, :]

        divergences = self._assembled(lambda part: self._divergence(part, values[..., KINDS.index(part.kind), :]))
        return divergences, self._assembled(along)

    def potential(self, links: Tensor) -> Tensor:
        """W_i(t) `(*batch, T, n_operators)`, float64, which autograd differentiates."""
        sums = self._sums(links)
        return self._assembled(lambda part: sums[part.kind].value)

    def field(self, links: Tensor, coefficients: Tensor, colour: int) -> Tensor:
        """The sum of c_i V_i(t) over operators and the slices of a colour: a tangent field of the shape of links."""
        slices = self.slices(colour, links.device)

        def weighted(x: Tensor) -> Tensor:
            return (self.potential(x) @ coefficients)[..., slices].sum(-1)

        return self.within(autograd_force(weighted, links, self.space), colour)

    @property
    def colours(self) -> int:
        """The number of colours of slices such that neighbours differ."""
        return 2 + self.space.lattice.extents[-1] % 2

    def within(self, tangent: Tensor, colour: int) -> Tensor:
        """The tangent field without components but those of spatial links of the slices of one colour."""
        dim, element = self.space.dim, len(self.space.elements.element_shape)
        kept = torch.zeros(self.space.axes, dtype=torch.bool, device=tangent.device)
        kept[: dim - 1] = self.slices(colour, tangent.device)
        return tangent * kept.reshape(*kept.shape, *(1,) * element)

    def slices(self, colour: int, device: torch.device) -> Tensor:
        """Which slices have a colour `(T,)`."""
        return self._colour(device) == colour

    def _colour(self, device: torch.device) -> Tensor:
        last = self.space.lattice.extents[-1]
        colour = torch.arange(last, device=device) % 2
        colour[-1] = self.colours - 1
        return colour

    def _assembled(self, of: Callable[[_Part], Tensor]) -> Tensor:
        """W_i(t), or what belongs to it, `(*batch, T, n_operators)` from that of parts `(*batch, T, 4)`."""
        whole = {
            name: sum(of(part).roll(-part.offset, -2) for part in parts)
            for name, parts in CLASSES.items()
            if any(name == own for own, _ in self.names)
        }
        return torch.stack([whole[name][..., k] for name, k in self.names], -1)  # type: ignore[index]

    def _divergence(self, part: _Part, values: Tensor) -> Tensor:
        """The second derivatives by links of a slice, from the `values` of four products, by the identity of Fierz."""
        group, (against, along, with_conjugate, squared) = self.space.group, values.unbind(-1)
        join, split = map(float, group.fierz)
        once = join * group.n + split  # of a link that the product runs through once: -C_F
        single = part.kind in SINGLE_KINDS
        # what the two derivatives of links that both loops run through join and split
        crossed = [
            torch.zeros_like(against),
            join * squared + split * along,
            -join * (group.n * self._plaquettes(part) if single else against) - split * with_conjugate,
            join * along + split * squared,
        ]
        twice = 2 * (once * values + torch.stack(crossed, -1))
        if single:
            return part.links * torch.cat((once * values[..., :1], twice[..., 1:]), -1)
        twice[..., 0] = 0  # in a loop against the other the link cancels
        return part.links * once * values + part.shared * twice

    def _plaquettes(self, part: _Part) -> int:
        """The number of plaquettes of a kind in a slice."""
        planes = math.comb(self.space.dim - 1, 2) if part.kind == "space" else self.space.dim - 1
        return planes * self.space.volume // self.space.lattice.extents[-1]

    def _sums(self, links: Tensor) -> dict[str, Dual]:
        """The four products of each kind, summed over space: `(*batch, T, 4)`."""
        sums: dict[str, Dual] = {}
        last = self.space.lattice.extents[-1]
        for mu, (upper, lower) in enumerate(plaquettes_of(self.space, of_links(self.space, links))):
            for kind, products in _kinds(mu, self.space.dim - 1, upper, lower, last):
                own = Dual(*(torch.stack([one.sum(-2) for one in part], -1) for part in zip(*products, strict=True)))
                sums[kind] = sums[kind] + own if kind in sums else own
        return sums


def _kinds(mu: int, time: int, upper: Loops, lower: Loops, last: int) -> Iterator[tuple[str, Sequence[Dual]]]:
    """The products of the loops that begin with the links along one direction, by their kinds.

    The planes of spatial links are those with the other directions of space, and one with time.
    """
    both = upper + lower
    if mu == time:
        yield "time planar", upper.products(lower, last)
        yield "time bent", both.planes(0, -1).summed().products(both.planes(1), last)
        return
    (above, upward), (below, downward) = ((side.planes(0, -1), side.planes(-1)) for side in (upper, lower))
    space = both.planes(0, -1).summed()
    yield "space", above.planes(mu).squares(last)  # a plaquette begins with two links
    yield "time", upward.squares(last)
    yield "space planar", above.products(below, last)
    yield "both sides", upward.products(downward, last)
    yield "up", space.planes(-1).products(upward, last)
    yield "down", space.planes(-1).products(downward, last)
    yield "space bent", space.planes(0, -1).products(both.planes(1, -1), last)
