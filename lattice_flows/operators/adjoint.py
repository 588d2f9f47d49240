"""Derivatives of the force of loop operators and of its divergence, by the kernel that gives both."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.lattice import GaugeField
from lattice_flows.operators.production import WeightedSum, laplacian_sums, vector_field

STEP = 1e-5
"""The largest step of a link for a difference of forces, in float64."""


class Slopes(NamedTuple):
    """Derivatives by links `(*batch, *shape)`, as autograd gives them, and by coefficients `(*batch, n)`, float64."""

    links: Tensor
    coefficients: Tensor


@torch.no_grad()
def field_slopes(
    space: GaugeField,
    operators: Sequence[WeightedSum],
    coefficients: Tensor,
    links: Tensor,
    tangent: Tensor,
    weight: Tensor,
) -> Slopes:
    """The derivatives of inner(X, F) + a div F, where F is the force of sum_i c_i W_i.

    By links div F has the force of sum_i c_i Lap W_i, and inner(X, F), with X fixed, has

        d/dt Ad(exp(-tX)) F(exp(tX) U) = d/dt F(exp(tX) U) + [F, X] at t = 0.

    The derivative along X is a central difference in float64, with relative errors of some 1e-9.

    Shapes: c `(n,)`, links and X `(*batch, *shape)`, a `(*batch,)`.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.operators import production
        >>> space = GaugeField(SU(2), (4, 4))
        >>> x, c = space.cold(1, dtype=torch.float64), torch.tensor([0.1, 0.0])
        >>> slopes = field_slopes(space, production(SU(2), 2), c, x, torch.zeros_like(x), torch.ones(1))
        >>> slopes.coefficients  # the Laplacians
        tensor([[-96., 192.]], dtype=torch.float64)
    """
    double = space.dtype(torch.float64)
    x, tangent, c = links.to(double), tangent.to(double), coefficients.double()
    sums, constants = laplacian_sums(tuple(operators))
    weight = weight.double().unsqueeze(-1)
    spread = vector_field(sums, weight * c, x)
    size = tangent.abs().flatten(-len(space.shape)).amax(-1).clamp(min=torch.finfo(torch.float64).tiny)
    h = (STEP / size).reshape(*size.shape, *(1,) * len(space.shape))
    ahead, behind = (vector_field(operators, c, space.move(x, step * tangent)) for step in (h, -h))
    turned = space.elements.bracket(ahead.force + behind.force, tangent) / 2
    force = spread.force + (ahead.force - behind.force) / (2 * h) + turned
    slopes = (ahead.values - behind.values) * size.unsqueeze(-1) / (2 * STEP)
    laplacians = spread.values + space.volume * constants.to(x.device)
    return Slopes(space.derivative(x, force).to(links.dtype), slopes + weight * laplacians)
