"""Splines of the eigenphases: a conjugation map for every group that has one."""

from torch import Tensor

from lattice_flows.groups import Group
from lattice_flows.kernels.splines import check_bins
from lattice_flows.layers.base import ConjugationMap


class SpectralMap(ConjugationMap):
    """Splines of the eigenphases of a loop, at fixed eigenvectors: the method `spectral_flow` of the group.

    For U(1) it is a rational-quadratic spline of the circle, then a shift (D. J. Rezende et al., 2002.02428).

    For SU(N) it moves the N gaps between eigenphases (D. Boyda et al., 2008.05456), a stick of length 2 pi that is
    broken piece by piece. With the pieces p_k and the rest R_k = p_k + ... + p_N,

        u_k = p_k / R_k,   u'_k = spline_k(u_k),   k = 1 ... N-1.

    `lattice_flows/kernels/spectral_flow/README.md` has the log-determinant and the rules that bound its gradient.

    Args:
        group: U(1), SU(N), or another group with `spectral_flow`.
        bins: the number of bins of each spline.

    Raises:
        InvalidInput: the group has no spectral map, or bins out of range.

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

    def __init__(self, group: Group, bins: int = 8):
        super().__init__()
        self.group = group
        self.bins = check_bins(bins)
        self.n_params = group.n_spectral_params(bins)

    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self.group.spectral_flow(loop, params, self.bins)

    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return self.group.spectral_flow(loop, params, self.bins, inverse=True)

    def extra_repr(self) -> str:
        return f"{self.group}, bins={self.bins}"
