"""Gradient flows: layers that integrate forces of operators, with a divergence in closed form."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_flow.reference import FORGET, MOVE
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.base import Transform
from lattice_flows.operators.adjoint import field_slopes
from lattice_flows.operators.production import WeightedSum, merged, vector_field

TIMES = (
    0.0, 1432997174477 / 9575080441755, 2526269341429 / 6820363962896, 2006345519317 / 3224310063776,
    2802321613138 / 2924317926251,
)  # fmt: skip
"""The times of the stages of a step, whose exponents and moves are those of `link_flow`."""


class GradientFlow(Transform):
    """The flow dU/dt = (sum_i c_i(t) F_i(U)) U from t = 0 to 1, with the forces F_i of operators W_i.

    log|dy/dx| is the integral of sum_i c_i(t) Lap W_i. Each c_i is a polynomial, given by its values at equidistant
    knots. The map keeps gauge and lattice symmetries. Steps of fourth order integrate it, and backwards its inverse.
    A derivative follows the flow back step by step, so that its memory does not grow with their number.

    Args:
        space: of the links.
        operators: W_i, such as `production(group, dim)`. Default: `merged(group, dim)`.
        knots: the number of values of each c_i; they are 0 at first.
        steps: the number of steps from t = 0 to 1.
        dtype: of the coefficients.

    Raises:
        InvalidInput: a lattice that is too short for the operators, or numbers out of range.

    Source: M. Luscher, 0907.5491, for the flow; M. H. Carpenter, C. A. Kennedy, NASA TM 109112 (1994), for the steps;
    A. Bazavov, T. Chuna, 2101.05320, for their order on groups.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.operators import production
        >>> space = GaugeField(SU(2), (4, 4))
        >>> layer = GradientFlow(space, production(SU(2), 2)[:1])
        >>> _ = layer.coefficients.data.fill_(0.1)
        >>> y, logdet = layer(space.cold(1))  # the maximum of W: the flow contracts there
        >>> print(f"{logdet.item():.2f}")
        -9.60
    """

    coefficients: nn.Parameter
    """`(knots, n)`."""

    def __init__(
        self,
        space: GaugeField,
        operators: Sequence[WeightedSum] | None = None,
        *,
        knots: int = 5,
        steps: int = 12,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.space = gauge_field(space)
        self.operators = tuple(merged(space.group, space.dim) if operators is None else operators)
        for name, value in (("knots", knots), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} must be an integer >= 1, got {value!r}")
        self.steps = steps
        self.coefficients = nn.Parameter(torch.zeros(knots, len(self.operators), dtype=dtype))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _Transport.apply(self.space.check(x), self.coefficients, self, 0.0, 1.0)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return _Transport.apply(self.space.check(y), self.coefficients, self, 1.0, 0.0)

    @property
    def knots(self) -> list[float]:
        """The times of the values of the coefficients."""
        return torch.linspace(0, 1, len(self.coefficients), dtype=torch.float64).tolist()

    def step(self, x: Tensor, coefficients: Tensor, begin: float, h: float) -> tuple[Tensor, Tensor]:
        """A step of size h from time `begin`: the links, and the change of the log-determinant `(*batch,)`."""
        exponent, change = torch.zeros_like(x), x.real.new_zeros(self.space.batch(x), dtype=torch.float64)
        logdet = change
        for forget, by, time in zip(FORGET, MOVE, TIMES, strict=True):
            tangent, divergence = _Velocity.apply(x, self._basis(begin + h * time) @ coefficients.double(), self)
            exponent, change = forget * exponent + h * tangent, forget * change + h * divergence
            x, logdet = self.space.move(x, by * exponent), logdet + by * change
        return x, logdet

    def _basis(self, t: float) -> Tensor:
        """The Lagrange polynomials of the knots at t, `(knots,)`."""
        knots = torch.tensor(self.knots, dtype=torch.float64)
        one = torch.eye(len(knots), dtype=torch.float64)
        factors = torch.where(one.bool(), 1.0, (t - knots) / (knots[:, None] - knots + one))
        return factors.prod(1).to(self.coefficients.device)


class _Velocity(torch.autograd.Function):
    """sum_i c_i F_i and its divergence, as functions of the links and of c."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, c: Tensor, layer: GradientFlow) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, c)
        ctx.layer = layer
        found = vector_field(layer.operators, c, x)
        return found.force, found.divergence

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        space, (x, c) = ctx.layer.space, ctx.saved_tensors
        cold = space.cold(1, dtype=x.real.dtype, device=x.device)[0]
        along = space.gradient(cold, gradients[0])  # the tangent X with inner(X, F) as the derivative asks for
        slopes = field_slopes(space, ctx.layer.operators, c, x, along, gradients[1])
        return slopes.links, slopes.coefficients.reshape(-1, len(c)).sum(0), None


class _Transport(torch.autograd.Function):
    """All steps; the derivative makes them again on the way back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, coefficients: Tensor, layer: GradientFlow, begin: float, end: float
    ) -> tuple[Tensor, Tensor]:
        ctx.layer, ctx.h = layer, (end - begin) / layer.steps
        ctx.times = [begin + ctx.h * step for step in range(layer.steps)]
        logdet = x.real.new_zeros(layer.space.batch(x), dtype=torch.float64)
        for time in ctx.times:
            x, change = layer.step(x, coefficients, time, ctx.h)
            x, logdet = layer.space.restore(x), logdet + change
        ctx.save_for_backward(x, coefficients)
        return x, logdet

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        layer, (y, coefficients) = ctx.layer, ctx.saved_tensors
        of_links, of_logdet, total = *gradients, torch.zeros_like(coefficients)
        for time in reversed(ctx.times):
            y, _ = layer.step(y, coefficients, time + ctx.h, -ctx.h)
            y = layer.space.restore(y)
            with torch.enable_grad():
                inputs = y.detach().requires_grad_(), coefficients.detach().requires_grad_()
                outputs = layer.step(*inputs, time, ctx.h)
                of_links, own = torch.autograd.grad(outputs, inputs, (of_links, of_logdet))
            total += own
        return of_links, total, None, None, None
