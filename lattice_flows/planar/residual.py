"""The residual map: a small covariant step of a loop, with its exact Jacobian."""

import functools
import itertools
import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.groups import Group
from lattice_flows.planar.coupling import RectangleMap

BOUND = 0.9
"""The bound on the sum of the moduli of the coefficients, below 1 so that the step has an inverse."""


class ResidualMap(RectangleMap):
    """h(Y) = exp(Q(Y)) Y, with words that are linear in Y and hold powers of a frozen loop W,

        Q = P [sum_{jk} c_jk W^(p_j) Y W^(p_k)],   p_j = (j - (N - 1) / 2) / 2,   j, k = 0 ... N-1,

    P the projection on traceless anti-Hermitian matrices and c_jk complex parameters, squeezed to sum |c_jk| <= 0.9.
    With phi(z) = (e^z - 1) / z and DQ the derivative of Q along Y -> exp(X) Y,

        logdet = log det A,   A = 1 + phi(-ad_Q) DQ.

    `lattice_flows/planar/README.md` derives this, and shows that h has one inverse.

    Source: B. C. Hall, Lie Groups, Lie Algebras, and Representations (2015), Theorem 5.4, for the derivative of the
    exponential map.

    Args:
        group: SU(N), any N >= 2, or another group of matrices with real powers.

    Raises:
        InvalidInput: the group is abelian.

    Example:
        >>> from lattice_flows import SU
        >>> residual, generator = ResidualMap(SU(3)), torch.Generator().manual_seed(0)
        >>> loop, boundary = SU(3).haar(2, 5, generator=generator, dtype=torch.float64)
        >>> params = torch.randn(5, residual.n_params, generator=generator, dtype=torch.float64)
        >>> g, logdet = residual(loop, params, boundary)
        >>> back, logdet_back = residual.inverse(g @ loop, params, boundary)
        >>> bool((back @ g - torch.eye(3)).abs().max() < 1e-12), bool((logdet + logdet_back).abs().max() < 1e-12)
        (True, True)
    """

    def __init__(self, group: Group):
        super().__init__()
        if group.abelian:
            raise InvalidInput(f"ResidualMap needs SU(N), got {group}; for U(1) use SpectralMap or FourierMap")
        self.group = group
        self.n_params = 2 * group.n**2

    def forward(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        q, jacobian = self._step(loop, *self._words(params, boundary))
        return self._exp(q), torch.linalg.slogdet(jacobian).logabsdet

    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        words = self._words(params, boundary)
        with torch.no_grad():
            start = self._solve(loop, *words)
            _, jacobian = self._step(start, *words)
        # one more step of Newton's method carries the gradient: of the loop and, through Q, of the words
        y = self._newton(start, loop, self._exp(self._field(start, *words)), jacobian)
        _, jacobian = self._step(y, *words)
        return y @ loop.mH, -torch.linalg.slogdet(jacobian).logabsdet

    def _solve(self, target: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """y with h(y) = target, so near that one more step of Newton's method reaches rounding.

        Elements that are near, or done, wait for all others: none depends on another.
        """
        y = target
        small = torch.finfo(target.real.dtype).eps ** 0.5
        for _ in range(200):
            turn = self._exp(self._field(y, left, right))
            distance = self._components(target @ (turn @ y).mH).abs().amax(-1)[..., None, None]
            far, done = ~(distance < 0.1), distance < small
            if done.all():
                return y
            if far.any():
                y = torch.where(far, turn.mH @ target, y)
            else:
                _, jacobian = self._step(y, left, right)
                y = torch.where(done, y, self._newton(y, target, turn, jacobian))
        raise NumericalFailure(f"the inverse of a residual step did not converge: it is off by {distance.max():.1e}")

    def _newton(self, y: Tensor, target: Tensor, turn: Tensor, jacobian: Tensor) -> Tensor:
        """A step from y, where exp(Q) = turn, towards h(y) = target."""
        off = self._components(turn.mH @ (target @ (turn @ y).mH) @ turn)
        return self._exp(torch.linalg.solve(jacobian, off)) @ y

    def _words(self, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """W^(p_j) `(..., N, N, N)` and sum_k c_jk W^(p_k) `(..., N, N, N)`: left and right factors of words."""
        n = self.group.n
        c = torch.view_as_complex(params.unflatten(-1, (n, n, 2)).contiguous())
        # not 0 where c is: there c would have no gradient, and the identity at first would stay
        size = c.abs().sum((-2, -1), keepdim=True) + torch.finfo(c.real.dtype).tiny
        c = c * (BOUND * torch.tanh(size) / size)
        root = self.group.power(boundary, 0.5)
        first = self.group.power(boundary, -(n - 1) / 4) if n % 2 == 0 else torch.linalg.matrix_power(root.mH, n // 2)
        left = torch.stack(list(itertools.accumulate([root] * (n - 1), torch.matmul, initial=first)), dim=-3)
        return left, torch.einsum("...jk,...kab->...jab", c, left)

    def _field(self, y: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """The components of Q `(..., N^2 - 1)`."""
        return self._components((left @ (y.unsqueeze(-3) @ right)).sum(-3))

    def _step(self, y: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The components of Q, and A = 1 + phi(-ad_Q) DQ `(..., N^2 - 1, N^2 - 1)`."""
        n = self.group.n
        basis, structure = _algebra(self.group, y.dtype, y.device)
        right = y.unsqueeze(-3) @ right
        q = self._components((left @ right).sum(-3))
        # X -> sum_j L_j X R_j as a matrix (ab, cd) on the elements X_cd, then between generators
        linear = left.flatten(-2).mT @ right.mT.flatten(-2)
        linear = linear.unflatten(-1, (n, n)).unflatten(-3, (n, n)).transpose(-3, -2).flatten(-2).flatten(-3, -2)
        moved = linear @ basis.flatten(1).T
        derivative = -2 * (basis.mT.flatten(1) @ moved).real
        ad = torch.einsum("...c,cab->...ba", q, structure)
        eye = torch.eye(len(basis), dtype=q.dtype, device=q.device)
        return q, eye + _phi(-ad) @ derivative

    def _components(self, m: Tensor) -> Tensor:
        """-2 Re tr(T_a M) `(..., N^2 - 1)`: the components of the algebra part of M."""
        basis, _ = _algebra(self.group, m.dtype, m.device)
        return -2 * (m.flatten(-2) @ basis.mT.flatten(1).T).real

    def _exp(self, q: Tensor) -> Tensor:
        basis, _ = _algebra(self.group, q.dtype.to_complex(), q.device)
        return self.group.exp((q.to(basis.dtype) @ basis.flatten(1)).unflatten(-1, basis.shape[1:]))

    def extra_repr(self) -> str:
        return f"{self.group}"


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def _algebra(group: Group, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The generators T_a `(N^2 - 1, N, N)`, and f_abc of [T_a, T_b] = sum_c f_abc T_c."""
    basis = group.generators(dtype=torch.float64)
    products = torch.einsum("aij,bjk->abik", basis, basis)
    structure = group.inner((products - products.transpose(0, 1)).unsqueeze(2), basis)
    return basis.to(device, dtype), structure.to(device, dtype.to_real())


def _phi(m: Tensor) -> Tensor:
    """(e^m - 1) / m by its series, as the norm of -ad_Q is below 2 BOUND.

    The terms are summed three at a time (M. S. Paterson and L. J. Stockmeyer, SIAM J. Comput. 2 (1973) 60), until the
    rest, (2 BOUND)^k / (k + 1)!, vanishes in the precision of m.
    """
    eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
    terms = 3
    while (2 * BOUND) ** terms / math.factorial(terms + 1) > torch.finfo(m.dtype).eps / 4:
        terms += 3
    square = m @ m
    cube = square @ m
    total = torch.zeros_like(m)
    for k in range(terms - 3, -1, -3):
        c = [1 / math.factorial(k + i + 1) for i in range(3)]
        total = c[0] * eye + c[1] * m + c[2] * square + (cube @ total if k < terms - 3 else 0)
    return total
