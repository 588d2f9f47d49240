"""Groups of unitary N x N matrices: the operations that all of them share."""

import functools
from collections.abc import Iterable

import torch
from torch import Tensor

from lattice_flows.groups.base import Group, Orientations, check_precision
from lattice_flows.kernels import algebra_exp, link_products, link_sums


class MatrixGroup(Group):
    """A subgroup of SU(N). Its algebra consists of traceless anti-Hermitian matrices, with inner(X, Y) = -2 tr(X Y).

    To add one, define `name`, `n`, `haar`, `project_algebra`, `generators`, `restore`, and the class features.
    `project_algebra` must be the orthogonal projection: forces and momenta follow from it.
    """

    @property
    def element_shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    @property
    def bare_coupling(self) -> float:
        return 2.0 * self.n

    def element_dtype(self, dtype=None) -> torch.dtype:
        return check_precision(dtype).to_complex()

    def identity(self, *shape, dtype=None, device=None) -> Tensor:
        eye = torch.eye(self.n, dtype=self.element_dtype(dtype), device=device)
        return eye.expand(*shape, *self.element_shape).clone()

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    def inverse(self, a: Tensor) -> Tensor:
        return a.mH

    def trace(self, a: Tensor) -> Tensor:
        return a.diagonal(dim1=-2, dim2=-1).mean(-1)

    def retrace(self, a: Tensor) -> Tensor:
        return a.diagonal(dim1=-2, dim2=-1).real.mean(-1)

    def exp(self, algebra: Tensor) -> Tensor:
        return algebra_exp(algebra)

    def project_group(self, sums: Tensor) -> Tensor:
        """The unitary factor of the polar decomposition, without the phase of its determinant (principal root)."""
        left, _, right = torch.linalg.svd(sums)
        unitary = left @ right
        phase = torch.angle(torch.linalg.det(unitary)) / self.n
        return unitary * torch.polar(torch.ones_like(phase), -phase)[..., None, None]

    link_products = staticmethod(link_products)
    link_sums = staticmethod(link_sums)

    def random_algebra(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        # randn gives complex entries of unit variance; the generators are normalised to tr(T_a T_b) = -1/2
        size, dtype = (*shape, *self.element_shape), self.element_dtype(dtype)
        return self.project_algebra(torch.randn(size, generator=generator, dtype=dtype, device=device))

    def project_sum(self, elements: Iterable[Tensor]) -> Tensor:
        # the projection is linear, and costs more than a sum
        return self.project_algebra(functools.reduce(torch.add, elements))

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        return -2 * (x * y.mT).sum((-2, -1)).real

    def bracket(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y - y @ x

    def retrace_gradient(self, a: Tensor) -> Tensor:
        return self.project_algebra(a) / (-2 * self.n)

    def algebra_gradient(self, a: Tensor, gradient: Tensor) -> Tensor:
        return self.project_algebra(gradient @ a.mH) / 2

    def algebra_derivative(self, a: Tensor, force: Tensor) -> Tensor:
        return 2 * force @ a

    def defect(self, a: Tensor) -> Tensor:
        eye = torch.eye(self.n, dtype=a.dtype, device=a.device)
        unitarity = (a.mH @ a - eye).abs().amax((-2, -1))
        return torch.maximum(unitarity, (torch.linalg.det(a) - 1).abs())

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().amax((-2, -1))

    def matrices(self, a: Tensor) -> Tensor:
        return a

    def algebra_matrices(self, x: Tensor) -> Tensor:
        return x

    def alignment(self, a: Tensor, sums: Tensor) -> Tensor:
        return self.n * self.retrace(a @ sums)

    def link_forces(self, links: Tensor, tables: Tensor, forward: Orientations, active: Tensor) -> Tensor:
        return self.retrace_gradient(links.index_select(-3, active) @ self.link_sums(links, tables, forward))
