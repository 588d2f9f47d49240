"""Affine layers of a scalar field: couplings, and the linear map that carries white noise to a free field."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice, ScalarField
from lattice_flows.layers.base import Transform

RANGE = 2.0
"""The largest |s|: one layer scales the field by a factor between exp(-2) and exp(2)."""


class AffineCoupling(Transform):
    """phi -> phi exp(s) + t at the sites of one colour, s and t functions of the field at the other sites around.

    The log-determinant is the sum of s over these sites. The layer commutes with phi -> -phi: its network has tanh and
    no biases, so the last features f are odd in the field; t is linear in f, and s = 2 tanh(r / 2), r linear in f^2.
    The colours are those of `Lattice.colours`: a checkerboard on even extents.

    The network is a periodic convolution, then layers at each site. It is computed at the active sites alone, as one
    linear map of gathered windows of frozen sites.

    Args:
        colour: of the active sites.
        hidden: channels of the convolution, then widths of the layers after it.
        kernel_size: the odd extent of the convolution.

    Raises:
        InvalidInput: the lattice has no such colour, numbers are out of range, or the field has another shape.

    Source: L. Dinh, J. Sohl-Dickstein, S. Bengio, 1605.08803 (affine couplings); M. S. Albergo, G. Kanwar, P. E.
    Shanahan, 1904.12072 (on checkerboards of a lattice).

    Example:
        >>> layer = AffineCoupling((4, 6), colour=0, hidden=(8,))
        >>> phi = torch.randn(5, 4, 6)
        >>> y, logdet = layer(phi)
        >>> bool(torch.allclose(layer.inverse(y)[0], phi, atol=1e-5)), bool(torch.allclose(layer(-phi)[0], -y))
        (True, True)
    """

    active: Tensor
    windows: Tensor
    frozen: Tensor

    def __init__(
        self, lattice: Lattice | Sequence[int], colour: int, hidden: Sequence[int] = (16, 16), kernel_size: int = 5
    ):
        super().__init__()
        self.space = ScalarField(Lattice(lattice))
        if not hidden or min(hidden) < 1:
            raise InvalidInput(f"an affine coupling needs hidden channels >= 1, got {tuple(hidden)}")
        windows = _windows(self.space.lattice, colour, kernel_size)
        for name, index in zip(("active", "windows", "frozen"), windows, strict=True):
            self.register_buffer(name, index, persistent=False)
        widths = [self.windows.shape[1], *hidden]
        self.layers = nn.ModuleList(nn.Linear(*pair, bias=False) for pair in itertools.pairwise(widths))
        self.shift = nn.Linear(widths[-1], 1, bias=False)
        self.scale = nn.Linear(widths[-1], 1)
        for head in (self.shift, self.scale):  # near the identity: at 0 the layers before would have no gradient
            nn.init.normal_(head.weight, std=0.3 / widths[-1] ** 0.5)
        nn.init.zeros_(self.scale.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat, s, t = self._parts(x)
        moved = flat.index_select(-1, self.active) * s.exp() + t
        return flat.index_copy(-1, self.active, moved).reshape(x.shape), s.sum(-1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        flat, s, t = self._parts(y)
        moved = (flat.index_select(-1, self.active) - t) * (-s).exp()
        return flat.index_copy(-1, self.active, moved).reshape(y.shape), -s.sum(-1)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The field `(*batch, V)`, and s and t `(*batch, n_active)` at the active sites."""
        flat = self.space.flatten(self.space.check(x))
        features = flat.index_select(-1, self.windows.flatten()).unflatten(-1, self.windows.shape)
        if self.frozen.numel():
            features = features * self.frozen
        for layer in self.layers:
            features = layer(features).tanh()
        s = RANGE * (self.scale(features.square()).squeeze(-1) / RANGE).tanh()
        return flat, s, self.shift(features).squeeze(-1)

    def extra_repr(self) -> str:
        return f"{self.space.lattice}"


def _windows(lattice: Lattice, colour: int, kernel_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The active sites `(n,)`, the sites `(n, window)` around each, and which are frozen; empty if all are."""
    colours = lattice.colours()
    n_colours = lattice.n_colours()
    if not 0 <= colour < n_colours:
        raise InvalidInput(f"the colours of {lattice} are 0 to {n_colours - 1}, got {colour!r}")
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 3 or kernel_size % 2 == 0:
        raise InvalidInput(f"kernel_size must be odd and >= 3, got {kernel_size!r}")
    active = (colours == colour).nonzero().squeeze(1)
    steps = range(-(kernel_size // 2), kernel_size // 2 + 1)
    # of two colours, only steps of odd length leave the colour
    offsets = [step for step in itertools.product(steps, repeat=lattice.dim) if sum(step) % 2 or n_colours > 2]
    here = lattice.coordinates()[:, active].unsqueeze(2)
    windows = lattice.index(here + torch.tensor(offsets).T.unsqueeze(1))
    frozen = colours[windows] != colour
    return active, windows, torch.empty(0) if frozen.all() else frozen


class FreeField(Transform):
    """phi(k) -> exp(s(k)) phi(k) in momentum space: white noise becomes a Gaussian field with propagator exp(2 s(k)).

    With k^2 = sum_mu 4 sin^2(k_mu / 2), z = k^2 / 2d - 1 in [-1, 1] and Chebyshev polynomials T_j,

        s(k) = -log(k^2 + M^2) / 2 + sum_{j <= order} c_j T_j(z),

    M^2 > 0 and c_j learned. At c = 0 this is a free field of mass M. A free field has all the long-range correlations
    that local couplings would have to build up layer by layer. The log-determinant is sum_k s(k) for every field. The
    parameters do not depend on the lattice.

    Args:
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
