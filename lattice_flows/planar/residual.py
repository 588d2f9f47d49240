"""The residual map: a small covariant step of a loop, with its exact Jacobian."""

import itertools

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.layers.residual import BOUND, Residual, algebra
from lattice_flows.planar.coupling import RectangleMap


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
        return self._words(params, boundary).forward(loop)

    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        return self._words(params, boundary).inverse(loop)

    def _words(self, params: Tensor, boundary: Tensor) -> "_Words":
        """Words of left factors W^(p_j) and right factors sum_k c_jk W^(p_k)."""
        n = self.group.n
        c = torch.view_as_complex(params.unflatten(-1, (n, n, 2)).contiguous())
        # not 0 where c is: there c would have no gradient, and the identity at first would stay
        size = c.abs().sum((-2, -1), keepdim=True) + torch.finfo(c.real.dtype).tiny
        c = c * (BOUND * torch.tanh(size) / size)
        root = self.group.power(boundary, 0.5)
        first = self.group.power(boundary, -(n - 1) / 4) if n % 2 == 0 else torch.linalg.matrix_power(root.mH, n // 2)
        left = torch.stack(list(itertools.accumulate([root] * (n - 1), torch.matmul, initial=first)), dim=-3)
        return _Words(self.group, left, torch.einsum("...jk,...kab->...jab", c, left))

    def extra_repr(self) -> str:
        return f"{self.group}"


class _Words(Residual):
    """The step of words sum_j L_j Y R_j, from their left and right factors `(..., words, N, N)`."""

    def __init__(self, group: Group, left: Tensor, right: Tensor):
        super().__init__(group)
        self.left, self.right = left, right

    def matrix(self, y: Tensor) -> Tensor:
        return (self.left @ (y.unsqueeze(-3) @ self.right)).sum(-3)

    def step(self, y: Tensor) -> tuple[Tensor, Tensor]:
        n, right = self.group.n, y.unsqueeze(-3) @ self.right
        q = self.components((self.left @ right).sum(-3))
        # X -> sum_j L_j X R_j as a matrix (ab, cd) on the elements X_cd, then between generators
        linear = self.left.flatten(-2).mT @ right.mT.flatten(-2)
        linear = linear.unflatten(-1, (n, n)).unflatten(-3, (n, n)).transpose(-3, -2).flatten(-2).flatten(-3, -2)
        basis = algebra(self.group, q.dtype, q.device).basis
        moved = linear @ basis.flatten(1).T
        return q, -2 * (basis.mT.flatten(1) @ moved).real
