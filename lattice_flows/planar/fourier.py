"""The U(1) map onto a smooth exponential family, which has no knots and thin tails."""

import copy
import functools
import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.kernels.circular_spline.reference import wrap
from lattice_flows.layers.base import ConjugationMap

SHARPEST = 80.0
"""The bound on sum_k k^2 |c_k|. There, sums over GRID points give integrals to 1e-9 for one harmonic, to 1e-6 for 8
and to 1e-4 for 16. Below 20 they give them to the last digit for one and to 1e-10 for 8."""
GRID = 128
"""The number of points of the grid of angles."""


class FourierMap(ConjugationMap):
    """The U(1) map that turns uniform angles into ones with density q(a) = exp(sum_k Re c_k e^{-ika}) / (2 pi Z).

    With F(a) the integral of q from -pi to a, h(a) = F^{-1}((a + pi) / 2 pi) and

        logdet = log Z - sum_k Re c_k e^{-i k h(a)}.

    Sums over a grid give Z and the Fourier coefficients of q, and so F, to rounding where q is smooth. Newton's method
    inverts F. A cut of two plaquettes has such a density with k = 1 alone, that of von Mises,
    exp(2 beta cos(W / 2) cos a).

    Source: R. Gatto and S. R. Jammalamadaka, Stat. Methodol. 4 (2007) 341, for the densities.

    Args:
        group, harmonics: U(1), and the number of coefficients c_k.

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
        if not group.abelian:
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
            # where q is below rounding, F does not tell angles apart
            slope = density.log(angle).exp().clamp_min(torch.finfo(angle.dtype).eps) / (2 * math.pi)
        # one more step of Newton's method carries the gradient; rounding at small slopes must not lengthen it
        step = (density.cumulative(angle) - target) / slope
        longest = torch.finfo(angle.dtype).eps ** 0.5
        angle = angle - step + (step - step.clamp(-longest, longest)).detach()
        return wrap(angle - loop), -density.log(angle)

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        density = _Density(params, self.harmonics)
        return wrap((2 * density.cumulative(loop) - 1) * math.pi - loop), density.log(loop)

    def extra_repr(self) -> str:
        return f"harmonics={self.harmonics}"


class _Density:
    """q(a) of parameters `(..., 2 harmonics)`, relative to the uniform density."""

    def __init__(self, params: Tensor, harmonics: int):
        self.k, waves, self.n, moments = _waves(harmonics, params.dtype, params.device)
        coefficients = params.unflatten(-1, (2, harmonics))
        tiny = torch.finfo(params.dtype).tiny
        sharpness = (self.k**2 * (coefficients.square().sum(-2) + tiny).sqrt()).sum(-1)
        # the identity to second order, where tanh is
        squeeze = SHARPEST * torch.tanh(sharpness / SHARPEST) / sharpness
        self.coefficients = coefficients.flatten(-2) * squeeze.unsqueeze(-1)
        exponent = self.coefficients @ waves
        self.log_z = exponent.logsumexp(-1) - math.log(GRID)
        self.weights = (exponent - self.log_z.unsqueeze(-1)).exp() / GRID
        self.moments = self.weights @ moments
        self.start = self._series(torch.full_like(self.log_z, -math.pi))

    def log(self, angle: Tensor) -> Tensor:
        waves = angle.unsqueeze(-1) * self.k
        return (self.coefficients * torch.cat((waves.cos(), waves.sin()), dim=-1)).sum(-1) - self.log_z

    def cumulative(self, angle: Tensor) -> Tensor:
        """F(a), 0 at -pi and 1 at pi."""
        return (angle + math.pi) / (2 * math.pi) + (self._series(angle) - self.start) / math.pi

    def _series(self, angle: Tensor) -> Tensor:
        waves = angle.unsqueeze(-1) * self.n
        return (self.moments * torch.cat((waves.sin(), -waves.cos()), dim=-1)).sum(-1)

    def _at(self, where: Tensor) -> "_Density":
        """The densities at these places of the flattened batch."""
        part = copy.copy(self)
        part.coefficients, part.moments = (x.flatten(0, -2)[where] for x in (self.coefficients, self.moments))
        part.log_z, part.start = (x.flatten()[where] for x in (self.log_z, self.start))
        return part

    def solve(self, target: Tensor) -> Tensor:
        """The angle where F is `target`, to the root of rounding, by Newton's method inside a shrinking bracket."""
        steps = (self.weights.cumsum(-1) < target.unsqueeze(-1)).sum(-1, dtype=target.dtype)
        solution = ((2 * math.pi / GRID) * steps - math.pi).clamp(-math.pi, math.pi).flatten()
        where = torch.arange(solution.numel(), device=target.device)
        low, high = torch.full_like(solution, -math.pi), torch.full_like(solution, math.pi)
        angle, target = solution, target.flatten()
        small = torch.finfo(angle.dtype).eps ** 0.5
        for _ in range(60):
            density = self._at(where)
            error = density.cumulative(angle) - target
            low, high = torch.where(error < 0, angle, low), torch.where(error > 0, angle, high)
            new = angle - error * torch.exp(-density.log(angle)) * (2 * math.pi)
            new = torch.where((new >= low) & (new <= high), new, (low + high) / 2)
            solution = solution.index_copy(0, where, new)
            # few angles, in the tails, need many steps
            left = (new - angle).abs() > small
            if not left.any():
                break
            where, angle, target, low, high = (x[left] for x in (where, new, target, low, high))
        return solution.reshape(steps.shape)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def _waves(harmonics: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """k and cos, sin (k a) `(2 harmonics, GRID)` on the grid; n and cos, sin (n a) / n `(GRID, 2 (GRID / 2 - 1))`.

    Beyond half the highest frequency of the grid, the moments are the mirror image of those below.
    """
    grid = (2 * math.pi / GRID) * torch.arange(GRID, dtype=torch.float64) - math.pi
    k, n = torch.arange(1, harmonics + 1, dtype=torch.float64), torch.arange(1, GRID // 2, dtype=torch.float64)
    waves, moments = grid * k.unsqueeze(-1), grid.unsqueeze(-1) * n
    tables = k, torch.cat((waves.cos(), waves.sin())), n, torch.cat((moments.cos() / n, moments.sin() / n), dim=-1)
    return tuple(table.to(device, dtype) for table in tables)  # type: ignore[return-value]
