"""Conjugation-equivariant maps: splines of the angle for U(1), splines of the gaps between eigenphases for SU(N)."""

from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU, Group
from lattice_flows.kernels.circular_spline import circular_spline
from lattice_flows.kernels.circular_spline import n_params as n_circular_params
from lattice_flows.kernels.spectral_flow import n_params as n_spectral_params
from lattice_flows.kernels.spectral_flow import spectral_flow
from lattice_flows.kernels.splines import check_bins
from lattice_flows.layers.base import ConjugationMap


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
        self.n_params = n_circular_params(bins)

    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return circular_spline(loop, params, self.bins)

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return circular_spline(loop, params, self.bins, inverse=True)

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
        self.n_params = n_spectral_params(group.n, bins)

    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return spectral_flow(loop, params, self.bins)

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return spectral_flow(loop, params, self.bins, inverse=True)

    def extra_repr(self) -> str:
        return f"{self.group}, bins={self.bins}"


def conjugation_map(group: Group, bins: int) -> ConjugationMap:
    """The spline map of a group: `PhaseMap` for U(1), `SpectralMap` for SU(N)."""
    return SpectralMap(group, bins) if isinstance(group, SU) else PhaseMap(bins)
