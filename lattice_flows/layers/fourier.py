"""The U(1) map whose density is a smooth exponential family: no knots, and tails as thin as they have to be."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.kernels.circular_spline.reference import wrap
from lattice_flows.layers.base import ConjugationMap

SHARPEST = 48.0
"""What sum_k k^2 |c_k| stays below, so that the sums over GRID points below are integrals to the last digit."""
GRID = 128


class FourierMap(ConjugationMap):
    """The U(1) map that turns uniform angles into ones with density q(a) = exp(sum_k Re c_k e^{-ika}) / (2 pi Z).

    With F(a) the integral of q from -pi to a, h(a) = F^{-1}((a + pi) / 2 pi) and

        logdet = log Z - sum_k Re c_k e^{-i k h(a)}.

    Z and the Fourier coefficients of q, which give F, are sums over a grid: exact to rounding for smooth periodic
    functions. F is inverted by Newton's method. A cut of two plaquettes has a density of this kind, k = 1 alone: the
    von Mises density exp(2 beta cos(W / 2) cos a).

    Source: R. Gatto and S. R. Jammalamadaka, Stat. Methodol. 4 (2007) 341, for the densities.

    Args:
        group: U(1).
        harmonics: the number of coefficients c_k.

    Raises:
        InvalidInput: another group, or no harmonics.

    Example:
        >>> from lattice_flows import U1
        >>> fourier_map = FourierMap(U1(), harmonics=4)
        >>> angle = U1().haar(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> params = torch.randn(5, fourier_map.n_params, dtype=torch.float64)
        >>> g, logdet = fourier_map(angle, params)
        >>> back, logdet_back = fourier_map.inverse(g + angle, params)
        >>> bool((back + g).abs().max() < 1e-12), bool((logdet + logdet_back).abs().max() < 1e-12)
        (True, True)
    """

    def __init__(self, group: Group, harmonics: int = 8):
        super().__init__()
        if group.element_shape:
            raise InvalidInput(f"FourierMap needs U(1), got {group}; for SU(N) use SpectralMap")
        if not 1 <= harmonics <= GRID // 8:
            raise InvalidInput(f"harmonics must be from 1 to {GRID // 8}, got {harmonics}")
        self.harmonics = harmonics
        self.n_params = 2 * harmonics

    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        density = _Density(params, self.harmonics)
        target = (loop + math.pi) / (2 * math.pi)
        with torch.no_grad():
            angle = density.solve(target)
        # one step of Newton's method more, which is what carries the gradient
        log_q = density.log(angle)
        angle = angle - (density.cumulative(angle) - target) * torch.exp(-log_q.detach()) * (2 * math.pi)
        return wrap(angle - loop), -density.log(angle)

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        density = _Density(params, self.harmonics)
        return wrap((2 * density.cumulative(loop) - 1) * math.pi - loop), density.log(loop)

    def extra_repr(self) -> str:
        return f"harmonics={self.harmonics}"


class _Density:
    """q(a) of parameters `(..., 2 harmonics)`, relative to the uniform density."""

    def __init__(self, params: Tensor, harmonics: int):

        def integers(first: int, last: int) -> Tensor:
            return torch.arange(first, last + 1, dtype=params.dtype, device=params.device)

        k = integers(1, harmonics)
        cosines, sines = params.unflatten(-1, (2, harmonics)).unbind(-2)
        sharpness = (k**2 * (cosines**2 + sines**2 + torch.finfo(params.dtype).tiny).sqrt()).sum(-1, keepdim=True)
        # the identity to first order for parameters of unit size
        squeeze = SHARPEST * torch.tanh(sharpness / SHARPEST) / sharpness
        self.k, self.cosines, self.sines = k, cosines * squeeze, sines * squeeze
        grid = (2 * math.pi / GRID) * integers(0, GRID - 1) - math.pi
        waves = grid.unsqueeze(-1) * k
        exponent = self.cosines @ waves.cos().T + self.sines @ waves.sin().T
        self.log_z = exponent.logsumexp(-1) - math.log(GRID)
        self.weights = (exponent - self.log_z.unsqueeze(-1)).exp() / GRID
        # beyond half the highest frequency of the grid nothing is left, and the other half would be its mirror image
        self.n = integers(1, GRID // 2 - 1)
        moments = grid.unsqueeze(-1) * self.n
        self.even, self.odd = self.weights @ (moments.cos() / self.n), self.weights @ (moments.sin() / self.n)
        self.start = self._series(torch.full_like(self.log_z, -math.pi))

    def log(self, angle: Tensor) -> Tensor:
        waves = angle.unsqueeze(-1) * self.k
        return (self.cosines * waves.cos() + self.sines * waves.sin()).sum(-1) - self.log_z

    def cumulative(self, angle: Tensor) -> Tensor:
        """F(a), 0 at -pi and 1 at pi."""
        return (angle + math.pi) / (2 * math.pi) + (self._series(angle) - self.start) / math.pi

    def _series(self, angle: Tensor) -> Tensor:
        waves = angle.unsqueeze(-1) * self.n
        return (self.even * waves.sin() - self.odd * waves.cos()).sum(-1)

    def solve(self, target: Tensor) -> Tensor:
        """The angle where F is `target`, by Newton's method inside a bracket that shrinks."""
        low, high = torch.full_like(target, -math.pi), torch.full_like(target, math.pi)
        # F at the middles between points of the grid, as good as the midpoint rule
        steps = (self.weights.cumsum(-1) < target.unsqueeze(-1)).sum(-1)
        angle = ((2 * math.pi / GRID) * steps - math.pi).clamp(-math.pi, math.pi)
        for _ in range(60):
            error = self.cumulative(angle) - target
            low, high = torch.where(error < 0, angle, low), torch.where(error > 0, angle, high)
            step = error * torch.exp(-self.log(angle)) * (2 * math.pi)
            new = angle - step
            inside = (new > low) & (new < high)
            new = torch.where(inside, new, (low + high) / 2)
            if ((new - angle).abs() < 1e-3 * torch.finfo(angle.dtype).eps ** 0.25).all():
                return new
            angle = new
        return angle
