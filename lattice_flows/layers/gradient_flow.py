"""Gradient flows: layers that integrate forces of operators, with a divergence in closed form."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.base import Transform
from lattice_flows.operators import LoopProducts

FORGET = (
    0.0, -567301805773 / 1357537059087, -2404267990393 / 2016746695238, -3550918686646 / 2091501179385,
    -1275806237668 / 842570457699,
)  # fmt: skip
MOVE = (
    1432997174477 / 9575080441755, 5161836677717 / 13612068292357, 1720146321549 / 2090206949498,
    3134564353537 / 4481467310338, 2277821191437 / 14882151754819,
)  # fmt: skip
TIMES = (
    0.0, 1432997174477 / 9575080441755, 2526269341429 / 6820363962896, 2006345519317 / 3224310063776,
    2802321613138 / 2924317926251,
)  # fmt: skip


class GradientFlow(Transform):
    """The flow dU/dt = (sum_i c_i(t) F_i(U)) U from t = 0 to 1, with the forces F_i of operators W_i.

    log|dy/dx| is the integral of sum_i c_i(t) Lap W_i. Each c_i is a polynomial, given by its values at equidistant
    knots. The map keeps gauge and lattice symmetries. Steps of fourth order integrate it, and backwards its inverse.

    Args:
        space: of the links.
        operators: W_i, such as `next_to_leading(group, dim)`.
        knots: the number of values of each c_i; they are 0 at first.
        steps: the number of steps from t = 0 to 1.
        dtype: of the coefficients.

    Source: M. Luscher, 0907.5491, for the flow; M. H. Carpenter, C. A. Kennedy, NASA TM 109112 (1994), for the steps;
    A. Bazavov, T. Chuna, 2101.05320, for their order on groups.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.operators import next_to_leading
        >>> space = GaugeField(SU(2), (4, 4))
        >>> layer = GradientFlow(space, next_to_leading(SU(2), 2)[:1])
        >>> _ = layer.coefficients.data.fill_(0.1)
        >>> y, logdet = layer(space.cold(1))  # the maximum of W: the flow contracts there
        >>> print(f"{logdet.item():.2f}")
        -9.60
    """

    coefficients: nn.Parameter
    """`(knots, n_operators)`."""

    def __init__(
        self,
        space: GaugeField,
        operators: Sequence[LoopProducts],
        *,
        knots: int = 5,
        steps: int = 12,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.space, self.operators = gauge_field(space), tuple(operators)
        if not self.operators:
            raise InvalidInput("a gradient flow needs operators, such as next_to_leading(group, dim), got none")
        for name, value in (("knots", knots), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} must be an integer >= 1, got {value!r}")
        self.steps = steps
        self.coefficients = nn.Parameter(torch.zeros(knots, len(self.operators), dtype=dtype))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._integrate(x, 0.0, 1.0)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._integrate(y, 1.0, 0.0)

    def at(self, t: float) -> Tensor:
        """The coefficients `(n_operators,)` at time t."""
        return self._basis(t) @ self.coefficients

    def velocity(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """The tangent field sum_i c_i(t) F_i of the shape of x, and its divergence `(*batch,)` in float64."""
        tangent, divergence = torch.zeros_like(x), x.real.new_zeros(self.space.batch(x), dtype=torch.float64)
        for c, operator in zip(self.at(t), self.operators, strict=True):
            tangent = tangent + c * operator.force(x)
            divergence = divergence + c * operator.laplacian(x).double()
        return tangent, divergence

    def _integrate(self, x: Tensor, begin: float, end: float) -> tuple[Tensor, Tensor]:
        h = (end - begin) / self.steps
        exponent, change = torch.zeros_like(x), x.real.new_zeros(self.space.batch(x), dtype=torch.float64)
        logdet = change
        for step in range(self.steps):
            for forget, by, time in zip(FORGET, MOVE, TIMES, strict=True):
                tangent, divergence = self.velocity(x, begin + h * (step + time))
                exponent, change = forget * exponent + h * tangent, forget * change + h * divergence
                x, logdet = self.space.move(x, by * exponent), logdet + by * change
            x = self.space.restore(x)
        return x, logdet

    def _basis(self, t: float) -> Tensor:
        """The Lagrange polynomials of the knots at t, `(knots,)`."""
        knots = torch.linspace(0, 1, len(self.coefficients), dtype=torch.float64)
        others = ~torch.eye(len(knots), dtype=torch.bool)
        factors = torch.where(others, (t - knots) / (knots[:, None] - knots + torch.eye(len(knots))), 1.0)
        return factors.prod(1).to(self.coefficients)
