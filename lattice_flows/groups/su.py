"""SU(N) for every N >= 2: an element is a unitary N x N matrix of determinant 1."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups.base import Group, check_precision
from lattice_flows.kernels import algebra_exp, spectral_power, spectrum


def _traceless(m: Tensor) -> Tensor:
    mean = m.diagonal(dim1=-2, dim2=-1).mean(-1)
    return m - mean[..., None, None] * torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)


@dataclass(frozen=True)
class SU(Group):
    """The special unitary group SU(N). Its algebra is the traceless anti-Hermitian matrices, (X, Y) = -2 tr(X Y).

    Raises:
        InvalidInput: N is not an integer >= 2.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> group = SU(3)
        >>> links = group.haar(4, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> links.shape, links.dtype
        (torch.Size([4, 2, 8, 8, 3, 3]), torch.complex128)
        >>> bool(group.defect(links).max() < 1e-14)
        True
    """

    N: int

    def __post_init__(self):
        if isinstance(self.N, bool) or not isinstance(self.N, int) or self.N < 2:
            raise InvalidInput(f"SU(N) needs an integer N >= 2, got {self.N!r}; for U(1) use U1()")

    @property
    def name(self) -> str:
        return f"SU({self.N})"

    @property
    def n(self) -> int:
        return self.N

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (self.N, self.N)

    def element_dtype(self, dtype=None) -> torch.dtype:
        return check_precision(dtype).to_complex()

    def haar(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        """Haar elements by the QR decomposition of a Ginibre matrix (F. Mezzadri, math-ph/0609050).

        The diagonal of R is made positive, which gives U(N); dividing the last column by the determinant commutes with
        multiplication by SU(N) from the left, and so leaves the Haar measure of SU(N).
        """
        size = (*shape, *self.element_shape)
        ginibre = torch.randn(size, generator=generator, dtype=self.element_dtype(dtype), device=device)
        q, r = torch.linalg.qr(ginibre)
        q = q * torch.sgn(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
        det = torch.linalg.det(q)
        return torch.cat((q[..., :-1], q[..., -1:] * torch.sgn(det).conj()[..., None, None]), dim=-1)

    def identity(self, *shape, dtype=None, device=None) -> Tensor:
        eye = torch.eye(self.N, dtype=self.element_dtype(dtype), device=device)
        return eye.expand(*shape, *self.element_shape).clone()

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    def inverse(self, a: Tensor) -> Tensor:
        return a.mH

    def trace(self, a: Tensor) -> Tensor:
        return a.diagonal(dim1=-2, dim2=-1).mean(-1)

    def retrace(self, a: Tensor) -> Tensor:
        return a.diagonal(dim1=-2, dim2=-1).real.mean(-1)

    def class_features(self, a: Tensor) -> Tensor:
        """Real and imaginary part of tr(a^k) / N for k = 1 ... N // 2 (the real part alone for SU(2)).

        They determine the characteristic polynomial: Newton's identities give its first N // 2 coefficients, and the
        others are their complex conjugates because the determinant is 1.
        """
        if self.N == 2:
            return self.retrace(a).unsqueeze(-1)
        power, features = a, []
        for k in range(1, self.N // 2 + 1):
            power = a if k == 1 else power @ a
            trace = self.trace(power)
            features += [trace.real, trace.imag]
        return torch.stack(features, dim=-1)

    @property
    def n_class_features(self) -> int:
        return 1 if self.N == 2 else 2 * (self.N // 2)

    def exp(self, algebra: Tensor) -> Tensor:
        return algebra_exp(algebra)

    def project_algebra(self, m: Tensor) -> Tensor:
        """The traceless anti-Hermitian part of a matrix."""
        return _traceless((m - m.mH) / 2)

    def random_algebra(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        size = (*shape, *self.element_shape)
        # randn gives complex entries of unit variance; the generators are normalised to tr(T_a T_b) = -1/2.
        return self.project_algebra(
            torch.randn(size, generator=generator, dtype=self.element_dtype(dtype), device=device)
        )

    def generators(self, *, dtype=None, device=None) -> Tensor:
        """The generalised Gell-Mann matrices times -i/2: tr(T_a T_b) = -delta_ab / 2."""
        basis = []
        for i, j in itertools.combinations(range(self.N), 2):
            for upper in (1, -1j):
                m = torch.zeros(self.N, self.N, dtype=torch.complex128)
                m[i, j], m[j, i] = upper, upper.conjugate()  # type: ignore[assignment]
                basis.append(m)
        for k in range(1, self.N):
            m = torch.diag(torch.tensor([1.0] * k + [-k] + [0.0] * (self.N - k - 1), dtype=torch.complex128))
            basis.append(m * math.sqrt(2 / (k * (k + 1))))
        return (torch.stack(basis) * -0.5j).to(device, self.element_dtype(dtype))

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        return -2 * (x * y.mT).sum((-2, -1)).real

    def retrace_gradient(self, a: Tensor) -> Tensor:
        return self.project_algebra(a) / (-2 * self.N)

    def algebra_gradient(self, a: Tensor, gradient: Tensor) -> Tensor:
        return self.project_algebra(gradient @ a.mH) / 2

    def defect(self, a: Tensor) -> Tensor:
        eye = torch.eye(self.N, dtype=a.dtype, device=a.device)
        unitarity = (a.mH @ a - eye).abs().amax((-2, -1))
        return torch.maximum(unitarity, (torch.linalg.det(a) - 1).abs())

    def eigenphases(self, a: Tensor) -> tuple[Tensor, Tensor]:
        return spectrum.eigenphases(a)

    def rebuild(self, phases: Tensor, frame: Tensor) -> Tensor:
        return (frame * torch.polar(torch.ones_like(phases), phases).unsqueeze(-2)) @ frame.mH

    def power(self, a: Tensor, exponent: float) -> Tensor:
        return a if exponent == 1 else spectral_power(a, exponent)

    def log_vandermonde(self, phases: Tensor) -> Tensor:
        return spectrum.log_vandermonde(spectrum.gaps(phases))
