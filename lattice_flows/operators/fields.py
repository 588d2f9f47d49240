"""Sums of loop operators as vector fields: the force and its divergence together."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.operators.pairs import NextToLeading

SUMS = {
    "plaquette": ("plaquette",),
    "rectangle": ("rectangle", "chair"),
    "tr PP'": ("tr PP planar", "tr PP bent"),
    "tr P tr P'": ("tr P tr P planar", "tr P tr P bent"),
    "tr P tr P'*": ("tr P tr P* planar", "tr P tr P* bent"),
    "tr P squared": ("tr P squared",),
    "tr PP": ("tr PP",),
    "tr P tr P*": ("tr P tr P*",),
}
"""Sums of operators of the next-to-leading order: planar and bent pairs together."""


class ForceFields:
    """The forces of a set of operators W_i.

    With plaquettes P and P' that share a link (see `next_to_leading`), the sets are

        "plaquette"        Re tr P
        "production"       and Q' = sum Re tr P P'^-1 - sum Re tr P P', nearly the square of the force of Re tr P
        "next_to_leading"  Re tr P and all sums of products of two plaquettes; for U(1) those that differ

    Args:
        group, dim: as for `next_to_leading`, whose errors it has.
        operators: the name of the set.

    Raises:
        InvalidInput: an unknown set.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> fields = ForceFields(SU(3), 4, "plaquette")
        >>> cold = GaugeField(SU(3), (3, 3, 3, 3)).cold(1)
        >>> force, divergence = fields.of(cold, torch.ones(1))
        >>> force.shape, divergence  # -16/3 times 3 * 6 * 3^4
        (torch.Size([1, 4, 3, 3, 3, 3, 3, 3]), tensor([-7776.], dtype=torch.float64))
    """

    def __init__(self, group: Group, dim: int, operators: str = "next_to_leading"):
        self._all = NextToLeading(group, dim)
        single = [operator.name for operator in self._all.operators]
        sums = {
            name: torch.tensor([float(own in parts) for own in single], dtype=torch.float64)
            for name, parts in SUMS.items()
            if parts[0] in single
        }
        against, along = ("tr P tr P'*", "tr P tr P'") if group.abelian else ("rectangle", "tr PP'")
        sets = {
            "plaquette": {"plaquette": sums["plaquette"]},
            "production": {"plaquette": sums["plaquette"], "Q'": sums[against] - sums[along]},
            "next_to_leading": sums,
        }
        if operators not in sets:
            raise InvalidInput(f"operators must be one of {', '.join(sets)}, got {operators!r}")
        self.names = tuple(sets[operators])
        self._weights = torch.stack(list(sets[operators].values()))

    def __len__(self) -> int:
        return len(self.names)

    def of(self, links: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The tangent field of sum_i w_i W_i, and its divergence sum_i w_i Lap W_i.

        Shapes: links `(*batch, dim, *sites, *element)`, weights `(n,)` -> as links, and `(*batch,)` float64.
        """
        space = self._all.operators[0].space_of(links)
        with torch.enable_grad():
            tangent = torch.zeros_like(links, requires_grad=True)
            laplacians, slopes = self.derivatives(links.detach(), tangent)
            (derivative,) = torch.autograd.grad((slopes @ weights.detach().double()).sum(), tangent)
        cold = space.cold(1, dtype=links.real.dtype, device=links.device)
        return space.gradient(cold, derivative), laplacians.detach() @ weights.double()

    def derivatives(self, links: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The Laplacians of all W_i, and their derivatives along a tangent field.

        Shapes: links and tangent `(*batch, dim, *sites, *element)` -> both `(*batch, n)`, float64.
        """
        own = self._weights.to(links.device)
        laplacians, slopes = self._all.derivatives(links, tangent)
        return laplacians @ own.T, slopes @ own.T
