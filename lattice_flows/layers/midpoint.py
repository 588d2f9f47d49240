"""A single step along the force of operators, cheap enough to stand between sweeps of Monte Carlo."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.base import Transform
from lattice_flows.operators import WeightedSum
from lattice_flows.operators.production import midpoint_step

ITERATIONS = 50
"""Those of an inverse, at most."""


class MidpointStep(Transform):
    """One explicit step of the midpoint rule along F = sum_i c_i F_i, with the forces F_i of operators W_i.

    V = exp(P(x) / 2) x,   y = exp(F(V)) x,   log|dy/dx| = sum_i c_i Lap W_i(V),

    where P is the part of F that plaquettes have. The log-determinant is that of the flow dU/dt = F(U) to second order
    in the c_i of plaquettes, to first order in the others: log w is off by errors that hardly vary, so that means
    are safe and log Z is not. Gauge and lattice symmetries are exact. `GradientFlow` is the layer of fourth order.

    The inverse solves for x by iteration. There is no derivative.

    Args:
        space: of the links.
        operators: W_i, such as `production(group, dim)`.
        coefficients: c_i `(n,)`, such as those of `transport_fit`.

    Raises:
        InvalidInput: another number of coefficients than of operators; in `inverse`, a step so large that the iteration
            does not converge.

    Source: E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration, IV.8, for the rule on groups.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.operators import production
        >>> space = GaugeField(SU(2), (4, 4))
        >>> y, logdet = MidpointStep(space, production(SU(2), 2), (0.1, 0.0))(space.cold(1))
        >>> print(f"{logdet.item():.2f}")
        -9.60
    """

    batch_invariant = True
    """No digit of a result depends on the rest of a batch."""
    coefficients: Tensor
    """`(n,)`, float64."""

    def __init__(self, space: GaugeField, operators: Sequence[WeightedSum], coefficients: Sequence[float] | Tensor):
        super().__init__()
        self.space, self.operators = gauge_field(space), tuple(operators)
        own = torch.as_tensor(coefficients, dtype=torch.float64).clone()
        if own.shape != (len(self.operators),):
            raise InvalidInput(f"{len(self.operators)} operators need as many coefficients, got {tuple(own.shape)}")
        self.register_buffer("coefficients", own)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return midpoint_step(self.operators, self.coefficients, self.space.check(x))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        x = self.space.check(y)
        for _ in range(ITERATIONS):
            ahead, logdet = self.forward(x)
            x = self.space.restore(self.space.move(x, self.space.difference(y, ahead)))
            if bool((self.space.distance(ahead, y) < 100 * torch.finfo(x.dtype).eps).all()):
                return x, -logdet
        raise InvalidInput(f"no inverse after {ITERATIONS} iterations: the step is too large, make several of it")
