"""SU(N) for every N >= 2: an element is a unitary N x N matrix of determinant 1."""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups.base import Orientations
from lattice_flows.groups.matrix import MatrixGroup
from lattice_flows.kernels import (
    heat_bath,
    link_forces,
    over_relaxation,
    special_unitary,
    spectral_flow,
    spectral_power,
    spectrum,
)
from lattice_flows.kernels.spectral_flow import n_params

ATTEMPTS = 4
"""The number of attempts of the heat bath in each SU(2) subgroup."""


@dataclass(frozen=True)
class SU(MatrixGroup):
    """The special unitary group SU(N).

    Raises:
        InvalidInput: N is not an integer >= 2.

    Example:
        >>> from lattice_flows import SU
        >>> group = SU(3)
        >>> links = group.haar(4, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> links.shape, links.dtype
        (torch.Size([4, 2, 8, 8, 3, 3]), torch.complex128)
        >>> bool(group.defect(links).max() < 1e-14)
        True
    """

    N: int
    swept = True

    def __post_init__(self):
        if isinstance(self.N, bool) or not isinstance(self.N, int) or self.N < 2:
            raise InvalidInput(f"SU(N) needs an integer N >= 2, got {self.N!r}; for U(1) use U1()")

    @property
    def name(self) -> str:
        return f"SU({self.N})"

    @property
    def n(self) -> int:
        return self.N

    def haar(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        """Haar elements by the QR decomposition of a Ginibre matrix (F. Mezzadri, math-ph/0609050).

        A positive diagonal of R gives U(N). Dividing the last column by the determinant commutes with multiplication by
        SU(N) from the left, so it gives the Haar measure of SU(N).
        """
        size = (*shape, *self.element_shape)
        ginibre = torch.randn(size, generator=generator, dtype=self.element_dtype(dtype), device=device)
        return special_unitary(ginibre)

    def class_features(self, a: Tensor) -> Tensor:
        """Real and imaginary part of tr(a^k) / N for k = 1 ... N // 2 (the real part alone for SU(2)).

        Newton's identities give the first N // 2 coefficients of the characteristic polynomial; the others are their
        complex conjugates, as the determinant is 1.
        """
        if self.N == 2:
            return self.retrace(a).unsqueeze(-1)
        traces = [self.trace(power) for power in itertools.accumulate([a] * (self.N // 2), torch.matmul)]
        return torch.view_as_real(torch.stack(traces, dim=-1)).flatten(-2)

    @property
    def n_class_features(self) -> int:
        return 1 if self.N == 2 else 2 * (self.N // 2)

    def project_algebra(self, m: Tensor) -> Tensor:
        """The traceless anti-Hermitian part of a matrix."""
        m = (m - m.mH) / 2
        return m - self.trace(m)[..., None, None] * torch.eye(self.N, dtype=m.dtype, device=m.device)

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

    @property
    def fierz(self) -> tuple[Fraction, Fraction]:
        return Fraction(-1, 2), Fraction(1, 2 * self.N)

    def eigenphases(self, a: Tensor) -> tuple[Tensor, Tensor]:
        return spectrum.eigenphases(a)

    def power(self, a: Tensor, exponent: float) -> Tensor:
        return a if exponent == 1 else spectral_power(a, exponent)

    def restore(self, a: Tensor) -> Tensor:
        """U (3 - U^dagger U) / 2, without the phase of its determinant: unitary up to the square of the defect of U.

        Source: A. Bjorck and C. Bowie, SIAM J. Numer. Anal. 8 (1971) 358, for the iteration.

        Example:
            >>> off = 1.001 * SU(3).identity(5, dtype=torch.float64)
            >>> bool(SU(3).defect(SU(3).restore(off)).max() < 1e-5)
            True
        """
        factor = -0.5 * (a.mH @ a)
        diagonal = torch.view_as_real(factor).diagonal(dim1=-3, dim2=-2)  # (..., 2, N)
        diagonal[..., 0, :] += 1.5
        diagonal[..., 1, :] -= (torch.linalg.det(a).imag / self.N).unsqueeze(-1)
        return a @ factor

    def link_forces(self, links: Tensor, tables: Tensor, forward: Orientations, active: Tensor) -> Tensor:
        return link_forces(links, tables, forward, active) / (-2 * self.N)

    def heat_bath_numbers(self) -> tuple[int, ...]:
        return (math.comb(self.N, 2), ATTEMPTS, 4)

    def heat_bath(self, a: Tensor, sums: Tensor, strength: float, uniforms: Tensor) -> Tensor:
        return heat_bath(a, sums, strength, uniforms)

    def over_relaxation(self, a: Tensor, sums: Tensor) -> Tensor:
        return over_relaxation(a, sums)

    def spectral_flow(self, a: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        return spectral_flow(a, params, bins, inverse=inverse)

    def n_spectral_params(self, bins: int) -> int:
        return n_params(self.N, bins)

    def character_indices(self, labels: Tensor) -> Tensor:
        """The indices `(n, N - 1, N - 1)` of h_k in the determinants, from the Dynkin labels `(n, N - 1)`."""
        rows = labels.flip(-1).cumsum(-1).flip(-1)  # of Young diagrams
        place = torch.arange(self.N - 1)
        return rows[:, :, None] - place[:, None] + place

    def characters(self, a: Tensor, indices: Tensor) -> Tensor:
        """The determinants of Jacobi and Trudi in the complete symmetric polynomials h_k of the eigenvalues.

        Source: W. Fulton and J. Harris, Representation Theory (1991), eq. (A.5).
        """
        powers = itertools.accumulate([a.to(torch.complex128)] * self.N, torch.matmul)
        traces = [power.diagonal(dim1=-2, dim2=-1).sum(-1) for power in powers]
        one = torch.ones_like(traces[0])
        e, h = [one], [one]
        for k in range(1, self.N + 1):  # Newton's identities
            e.append(sum((-1) ** (i - 1) * e[k - i] * traces[i - 1] for i in range(1, k + 1)) / k)  # type: ignore[arg-type]
        for k in range(1, int(indices.max()) + 1):
            h.append(sum((-1) ** (i - 1) * e[i] * h[k - i] for i in range(1, min(k, self.N) + 1)))  # type: ignore[arg-type]
        h += [torch.zeros_like(one)] * (self.N - 1)  # those of negative indices
        return torch.linalg.det(torch.stack(h, dim=-1)[..., indices]).real
