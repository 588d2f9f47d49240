"""Conjugation-equivariant maps: splines of the angle for U(1), splines of the gaps between eigenphases for SU(N)."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU
from lattice_flows.groups import spectrum as sp
from lattice_flows.groups.u1 import wrap
from lattice_flows.layers.base import ConjugationMap
from lattice_flows.layers.splines import check_bins, knots, n_knot_params, rational_quadratic


class PhaseMap(ConjugationMap):
    """The U(1) map: a rational-quadratic spline of the circle, then a shift (D. J. Rezende et al., 2002.02428).

    Args:
        bins: the number of spline bins on the circle.

    Example:
        >>> import torch
        >>> from lattice_flows import U1
        >>> phase_map = PhaseMap(bins=8)
        >>> loop = U1().haar(5, generator=torch.Generator().manual_seed(0))
        >>> g, logdet = phase_map(loop, torch.zeros(5, phase_map.n_params))  # the identity
        >>> bool(g.abs().max() < 1e-5), bool(logdet.abs().max() < 1e-5)
        (True, True)
    """

    def __init__(self, bins: int = 8):
        super().__init__()
        self.bins = check_bins(bins)
        self.n_params = n_knot_params(bins, circular=True) + 1

    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        new, logdet = self._spline(loop, params)
        return wrap(new + params[..., -1] - loop), logdet

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        new, logdet = self._spline(wrap(loop - params[..., -1]), params, inverse=True)
        return wrap(new - loop), logdet

    def _spline(self, angle: Tensor, params: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        curve = knots(params[..., :-1], self.bins, circular=True)
        x, rest = (math.pi + angle) / (2 * math.pi), (math.pi - angle) / (2 * math.pi)
        y, _, log_slope = rational_quadratic(x, rest, curve, inverse)
        return (2 * y - 1) * math.pi, log_slope

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


class SpectralMap(ConjugationMap):
    """The SU(N) map: splines of the gaps between eigenphases, at fixed eigenvectors (D. Boyda et al., 2008.05456).

    The N gaps are a simplex. It is mapped to itself by breaking a stick of length 2 pi, the gap that closes the circle
    first: with (p_1, ..., p_N) = (g_N, g_1, ..., g_{N-1}) and what is left, R_k = p_k + ... + p_N,

        u_k = p_k / R_k,   u'_k = spline_k(u_k),   k = 1 ... N-1,

    which keeps every wall of the alcove in place. At the centre elements, the corners of the simplex, the map must
    stretch all directions alike, or the gradient of the log-determinant grows like 1 / distance. Two rules see to it:

    - the parameters of spline_k are scaled by R_k / (2 pi), so that it tends to the identity where nothing is left to
      break: this is so at the identity of the group, where p_1 = 2 pi, and only spline_1 acts, on all gaps at once;
    - splines 2 ... N-1 have at both ends the slope of spline_1 at 0, the stretching at the other centre elements.

    (For N >= 4 the gradient still grows where p_1 and p_N vanish together away from the centre: three phases meet
    there, and Haar measure suppresses that by the eighth power of the distance.) In all, with the Vandermonde
    determinant of the Haar measure,

        logdet = sum_k log spline_k'(u_k) + sum_k log(R'_k / R_k)
                 + sum_{i<j} 2 log|sin((theta'_i - theta'_j) / 2) / sin((theta_i - theta_j) / 2)|.

    Args:
        group: SU(N), any N >= 2.
        bins: the number of bins of each of the N - 1 splines.

    Raises:
        InvalidInput: the group is not SU(N).

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> spectral_map = SpectralMap(SU(3), bins=8)
        >>> generator = torch.Generator().manual_seed(0)
        >>> loop = SU(3).haar(5, generator=generator, dtype=torch.float64)
        >>> params = torch.randn(5, spectral_map.n_params, generator=generator, dtype=torch.float64)
        >>> g, logdet = spectral_map(loop, params)
        >>> back, logdet_back = spectral_map.inverse(g @ loop, params)
        >>> bool((back @ g - torch.eye(3)).abs().max() < 1e-12), bool((logdet + logdet_back).abs().max() < 1e-12)
        (True, True)
    """

    def __init__(self, group: SU, bins: int = 8):
        super().__init__()
        if not isinstance(group, SU):
            raise InvalidInput(f"SpectralMap needs SU(N), got {group}; for U(1) use PhaseMap")
        self.group = group
        self.bins = check_bins(bins)
        self.n_params = n_knot_params(bins) + (group.n - 2) * (n_knot_params(bins) - 2)

    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(loop, params, self._break)

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(loop, params, self._mend)

    def _move(self, loop, params, simplex_map) -> tuple[Tensor, Tensor]:
        phases, frame = self.group.eigenphases(loop)
        gap = sp.gaps(phases)
        pieces, logdet = simplex_map(gap.roll(1, -1), self._raw(params))
        new_gap = pieces.roll(-1, -1)
        logdet = logdet + sp.log_vandermonde_ratio(new_gap, gap)
        shift = sp.phases_from_gaps(new_gap - gap)
        return sp.displacement(loop, shift, frame, gap, new_gap), logdet

    def _raw(self, params: Tensor) -> Tensor:
        """Unconstrained numbers `(..., N - 1, n_knot_params)` of every spline, the shared slopes filled in."""
        size, before_slopes = n_knot_params(self.bins), 2 * self.bins
        first, others = params[..., :size], params[..., size:].unflatten(-1, (self.group.n - 2, size - 2))
        shared = first[..., None, before_slopes : before_slopes + 1].expand(*others.shape[:-1], 1)
        others = torch.cat((others[..., :before_slopes], shared, others[..., before_slopes:], shared), dim=-1)
        return torch.cat((first.unsqueeze(-2), others), dim=-2)

    def _break(self, piece: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """All splines at once: every coordinate is known."""
        left = piece.flip(-1).cumsum(-1).flip(-1)
        curve = knots(raw * (left[..., :-1] / left[..., :1]).unsqueeze(-1), self.bins)
        y, rest, log_slope = rational_quadratic(piece[..., :-1] / left[..., :-1], left[..., 1:] / left[..., :-1], curve)
        new_left = left[..., :1] * torch.cat((torch.ones_like(rest[..., :1]), rest.cumprod(-1)), dim=-1)
        new_piece = torch.cat((new_left[..., :-1] * y, new_left[..., -1:]), dim=-1)
        # R_1 does not change
        logdet = log_slope.sum(-1) + (new_left[..., 1:-1] / left[..., 1:-1]).log().sum(-1)
        return new_piece, logdet

    def _mend(self, piece: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """One spline after the other: what is left of the original stick scales the next one's parameters."""
        left = piece.flip(-1).cumsum(-1).flip(-1)
        stick = left[..., 0]
        old_left, old_pieces, logdet = stick, [], torch.zeros_like(stick)
        for k in range(self.group.n - 1):
            curve = knots(raw[..., k, :] * (old_left / stick).unsqueeze(-1), self.bins)
            x, rest, log_slope = rational_quadratic(
                piece[..., k] / left[..., k], left[..., k + 1] / left[..., k], curve, inverse=True
            )
            logdet = logdet + log_slope + (old_left / left[..., k]).log()
            old_pieces.append(old_left * x)
            old_left = old_left * rest
        return torch.stack((*old_pieces, old_left), dim=-1), logdet

    def extra_repr(self) -> str:
        return f"{self.group}, bins={self.bins}"
