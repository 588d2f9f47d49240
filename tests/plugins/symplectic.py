"""A group of somebody else's, in one file: Sp(2), the unitary 4 x 4 matrices U with U J U^T = J."""

from dataclasses import dataclass

import torch

from lattice_flows import groups
from lattice_flows.groups import MatrixGroup


def partner(column):
    """J v^* `(..., 4)`, which is orthogonal to v, with J (a, b) = (-b, a)."""
    upper, lower = column.conj().chunk(2, -1)
    return torch.cat((-lower, upper), -1)


def from_columns(first, second):
    """The element that Gram and Schmidt make of two columns `(..., 4)` and of their partners."""
    first = first / torch.linalg.vector_norm(first, dim=-1, keepdim=True)
    for v in (first, partner(first)):
        second = second - (v.conj() * second).sum(-1, keepdim=True) * v
    second = second / torch.linalg.vector_norm(second, dim=-1, keepdim=True)
    return torch.stack((first, second, partner(first), partner(second)), -1)


@dataclass(frozen=True)
class Sp2(MatrixGroup):
    """Sp(2) inside SU(4)."""

    name = "Sp(2)"
    n = 4
    n_class_features = 2

    def haar(self, *shape, generator=None, dtype=None, device=None):
        size, kind = (2, *shape, 4), self.element_dtype(dtype)
        return from_columns(*torch.randn(size, generator=generator, dtype=kind, device=device))

    def restore(self, a):
        return from_columns(a[..., 0], a[..., 1])

    def project_algebra(self, m):
        part = (m - m.mH) / 2
        return (part + partner(partner(part.mT).mT.conj())) / 2  # J X^* J^T, on columns and then on rows

    def generators(self, *, dtype=None, device=None):
        """An orthonormal basis of the image of the projection, by Gram and Schmidt."""
        units = torch.eye(16, dtype=torch.complex128).reshape(16, 4, 4)
        basis = []
        for m in (*units, *(1j * units)):
            x = self.project_algebra(m)
            for other in basis:
                x = x - self.inner(other, x) * other
            size = self.inner(x, x)
            if size > 1e-8:
                basis.append(x / size.sqrt())
        return torch.stack(basis).to(device, self.element_dtype(dtype))

    def class_features(self, a):
        return torch.stack((self.retrace(a), self.retrace(a @ a)), -1)

    def defect(self, a):
        return torch.maximum(super().defect(a), (a - self.restore(a)).abs().amax((-2, -1)))

    def __str__(self):
        return self.name


groups.register("Sp", lambda n: Sp2() if n == 2 else None)
