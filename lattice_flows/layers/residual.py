"""Residual steps exp(Q(Y)) Y of group elements, with their exact Jacobian and their inverse."""

import functools
import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import NumericalFailure
from lattice_flows.groups import Group

BOUND = 0.9
"""The bound on the size of steps, below 1 so that they have an inverse."""


class Residual(ABC):
    """The map h(Y) = exp(Q(Y)) Y, Q the projection on the algebra of a linear function L of the matrix Y.

    With |.| the norm of Frobenius let |L(Z)| <= size |Z|, size < 1. Then h has one inverse: |exp A - exp B| <= |A - B|
    for anti-Hermitian A and B, and projections shorten, so that Y -> exp(-Q(Y)) h contracts distances by the size.

    With phi(z) = (e^z - 1) / z and DQ the derivative of Q along Y -> exp(X) Y,

        logdet = log det A,   A = 1 + phi(-ad_Q) DQ.

    As ad_Q is antisymmetric, |phi(-ad_Q)| <= 1 and |A - 1| <= size: the determinant does not vanish.

    To add one, implement `matrix` and `step`.

    Source: B. C. Hall, Lie Groups, Lie Algebras, and Representations (2015), Theorem 5.4, for the derivative of the
    exponential map.

    Args:
        size: a bound of L, at most `BOUND`.
    """

    def __init__(self, group: Group, size: float = BOUND):
        self.group = group
        self.size = size

    @abstractmethod
    def matrix(self, y: Tensor) -> Tensor:
        """L(Y) `(..., N, N)` of elements `(..., *element)`."""

    @abstractmethod
    def step(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The components of Q `(..., n)` and of DQ `(..., n, n)`, in the basis of `algebra`."""

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The factor h(Y) Y^-1 `(..., *element)` and log|dh/dY| `(...)`."""
        q, jacobian = self._jacobian(y)
        return self._exp(q), torch.linalg.slogdet(jacobian).logabsdet

    def inverse(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The factor h^-1(Y) Y^-1 and log|dh^-1/dY|, with derivatives by the theorem of implicit functions.

        Raises:
            NumericalFailure: the iteration does not converge, as input is not finite.
        """
        with torch.no_grad():
            start = self._solve(target)
            _, jacobian = self._jacobian(start)
        # one more step of Newton's method carries the derivative
        y = self._newton(start, self._off(start, self._turned(start, target)), jacobian)
        _, jacobian = self._jacobian(y)
        factor = self.group.compose(y, self.group.inverse(target))
        return factor, -torch.linalg.slogdet(jacobian).logabsdet

    def _solve(self, target: Tensor) -> Tensor:
        """y with h(y) = target, so near that one more step of Newton's method reaches rounding.

        Elements that are near, or done, wait for all others: none depends on another.
        """
        y = target
        small = torch.finfo(target.real.dtype).eps ** 0.5
        for _ in range(200):
            turned = self._turned(y, target)
            off = self._off(y, turned)
            distance = off.abs().amax(-1)
            far, done = ~(distance < 0.1), distance < small
            if done.all():
                return y
            if far.any():
                y = self._where(far, turned, y)
            else:
                _, jacobian = self._jacobian(y)
                y = self._where(done, y, self._newton(y, off, jacobian))
        raise NumericalFailure(f"the inverse of a residual step did not converge: it is off by {distance.max():.1e}")

    def _where(self, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.where(condition.reshape(*condition.shape, *[1] * len(self.group.element_shape)), a, b)

    def _turned(self, y: Tensor, target: Tensor) -> Tensor:
        """exp(-Q(y)) target: the next y of the iteration."""
        return self.group.compose(self._exp(-self.components(self.matrix(y))), target)

    def _off(self, y: Tensor, turned: Tensor) -> Tensor:
        """The components of the tangent vector from y to the next y."""
        return self.components(self.group.matrices(self.group.compose(turned, self.group.inverse(y))))

    def _newton(self, y: Tensor, off: Tensor, jacobian: Tensor) -> Tensor:
        return self.group.compose(self._exp(torch.linalg.solve(jacobian, off)), y)

    def _jacobian(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The components of Q, and A `(..., n, n)`."""
        q, derivative = self.step(y)
        eye = torch.eye(q.shape[-1], dtype=q.dtype, device=q.device)
        if self.group.abelian:
            return q, eye + derivative
        minus_ad = torch.tensordot(q, algebra(self.group, q.dtype, q.device).minus_ad, dims=1)
        # the eigenvalues of Q lie within 2 size
        return q, eye + phi(minus_ad, 2 * self.size) @ derivative

    def components(self, m: Tensor) -> Tensor:
        """The components `(..., n)` of the algebra part of matrices `(..., N, N)`."""
        dual = algebra(self.group, m.real.dtype, m.device).dual
        return torch.view_as_real(m.resolve_conj()).flatten(-3) @ dual

    def _exp(self, q: Tensor) -> Tensor:
        basis = algebra(self.group, q.dtype, q.device).basis
        return self.group.exp(torch.tensordot(q.to(basis.dtype), basis, dims=1))


class Algebra(NamedTuple):
    """The basis of the algebra of a group, with linear maps to components."""

    basis: Tensor
    """`group.generators`, `(n, *element)`."""
    dual: Tensor
    """`(2 N^2, n)`: from the real and imaginary parts of a matrix to the components of its algebra part."""
    minus_ad: Tensor
    """`(n, n, n)`: from the components of Q to those of X -> -[Q, X]."""
    products: Tensor
    """`(2 N^2, n^2)`: from the parts of a matrix M to the components of X -> X M."""


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def algebra(group: Group, precision: torch.dtype, device: torch.device) -> Algebra:
    """The basis and the maps in a real precision."""
    basis = group.generators(dtype=torch.float64)
    matrices = group.algebra_matrices(basis)
    inverse = matrices / matrices[0].abs().square().sum()  # Re tr(inverse_a^dagger T_b) = delta_ab
    products = torch.einsum("aij,bjk->abik", matrices, matrices)
    commutators = products - products.transpose(0, 1)
    minus_ad = -torch.einsum("acij,bij->abc", commutators, inverse.conj()).real
    images = torch.einsum("aij,bik->abkj", inverse, matrices.conj()).flatten(0, 1)
    dual, images = (torch.view_as_real(m.resolve_conj()).flatten(1).T.contiguous() for m in (inverse, images))
    return Algebra(
        basis.to(device, group.element_dtype(precision)), *(m.to(device, precision) for m in (dual, minus_ad, images))
    )


def phi(m: Tensor, norm: float) -> Tensor:
    """(e^m - 1) / m by its series, for matrices of at most this norm.

    The terms are summed three at a time (M. S. Paterson and L. J. Stockmeyer, SIAM J. Comput. 2 (1973) 60), until the
    rest, norm^k / (k + 1)!, vanishes in the precision of m.
    """
    terms = 3
    while norm**terms / math.factorial(terms + 1) > torch.finfo(m.dtype).eps / 4:
        terms += 3
    square = m @ m
    cube, total = square @ m, None
    for k in range(terms - 3, -1, -3):
        c = [1 / math.factorial(k + i + 1) for i in range(3)]
        part = (c[2] * square).add_(m, alpha=c[1])
        part.diagonal(dim1=-2, dim2=-1).add_(c[0])
        total = part if total is None else part.add_(cube @ total)
    assert total is not None
    return total
