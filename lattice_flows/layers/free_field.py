"""The linear map that carries white noise to a free field, with a learned spectrum."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice, ScalarField
from lattice_flows.layers.base import Transform


class FreeField(Transform):
    """phi(k) -> exp(s(k)) phi(k) in momentum space: white noise becomes a Gaussian field with propagator exp(2 s(k)).

    With k^2 = sum_mu 4 sin^2(k_mu / 2), z = k^2 / 2d - 1 in [-1, 1] and Chebyshev polynomials T_j,

        s(k) = -log(k^2 + M^2) / 2 + sum_{j <= order} c_j T_j(z),

    M^2 > 0 and c_j learned. At c = 0 this is a free field of mass M. A free field has all the long-range correlations
    that local couplings would have to build up layer by layer. The log-determinant is sum_k s(k), the same for every
    field. The parameters do not depend on the lattice.

    Args:
        lattice: a `Lattice`, or its extents.
        order: of the polynomial.

    Raises:
        InvalidInput: an order < 0, or a field of another shape.

    Example:
        >>> layer = FreeField((4, 6))
        >>> phi = torch.randn(5, 4, 6)
        >>> y, logdet = layer(phi)
        >>> bool(torch.allclose(layer.inverse(y)[0], phi, atol=1e-5)), logdet.shape
        (True, torch.Size([5]))
    """

    k_squared: Tensor
    polynomials: Tensor

    def __init__(self, lattice: Lattice | Sequence[int], order: int = 4):
        super().__init__()
        if isinstance(order, bool) or not isinstance(order, int) or order < 0:
            raise InvalidInput(f"order must be an integer >= 0, got {order!r}")
        self.space = ScalarField(Lattice(lattice))
        k = self.space.lattice.coordinates().double() / torch.tensor(self.space.shape).unsqueeze(1)
        k_squared = (4 * (torch.pi * k).sin().square()).sum(0).reshape(self.space.shape)
        angle = (k_squared / (2 * self.space.dim) - 1).clamp(-1, 1).acos()
        polynomials = torch.stack([(j * angle).cos() for j in range(order + 1)])
        self.register_buffer("k_squared", k_squared, persistent=False)
        self.register_buffer("polynomials", polynomials, persistent=False)
        self.mass = nn.Parameter(torch.zeros(()))
        self.coefficients = nn.Parameter(torch.zeros(order + 1))

    @property
    def log_spectrum(self) -> Tensor:
        """s(k) `(*sites)`."""
        kind = self.mass.dtype
        rest = torch.tensordot(self.coefficients, self.polynomials.to(kind), dims=1)
        return rest - (self.k_squared.to(kind) + softplus(self.mass)).log() / 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._scaled(x, self.log_spectrum)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._scaled(y, -self.log_spectrum)

    def _scaled(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        axes = tuple(range(-self.space.dim, 0))
        half = s.shape[-1] // 2 + 1
        modes = torch.fft.rfftn(self.space.check(x), dim=axes) * s[..., :half].exp()
        return torch.fft.irfftn(modes, s=self.space.shape, dim=axes), s.sum().expand(self.space.batch(x))

    def extra_repr(self) -> str:
        return f"{self.space.lattice}"
