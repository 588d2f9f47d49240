"""Weighted sums of loop operators as vector fields: the force and the divergence together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lattice_flows.groups import Group
from lattice_flows.operators.pairs import NextToLeading


class ForceFields:
    """The forces of combinations W_i of the operators of the next-to-leading order.

    Args:
        group, dim: as for `next_to_leading`, whose errors it has.
        combinations: for the name of each W_i its coefficients by the names of operators. Default: all operators, with
            those of planar and of bent pairs of plaquettes in one.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> fields = ForceFields(SU(3), 4, {"W": {"plaquette": 1.0}})
        >>> cold = GaugeField(SU(3), (3, 3, 3, 3)).cold(1)
        >>> force, divergence = fields.of(cold, torch.ones(1))
        >>> force.shape, divergence  # -16/3 times 3 * 6 * 3^4
        (torch.Size([1, 4, 3, 3, 3, 3, 3, 3]), tensor([-7776.], dtype=torch.float64))
    """

    def __init__(self, group: Group, dim: int, combinations: Mapping[str, Mapping[str, float]] | None = None):
        self._all = NextToLeading(group, dim)
        names = [operator.name for operator in self._all.operators]
        if combinations is None:
            bent = {name: {"rectangle": "chair"}.get(name, name.replace("planar", "bent")) for name in names}
            combinations = {
                name: {part: 1.0 for part in (name, bent[name]) if part in names}
                for name in names
                if name == bent[name] or name not in bent.values()
            }
        self.names = tuple(combinations)
        self._weights = torch.tensor(
            [[own.get(name, 0.0) for name in names] for own in combinations.values()], dtype=torch.float64
        )

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
