"""U(1): an element is a real angle."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.groups.base import Group, check_precision
from lattice_flows.kernels.circular_spline.reference import wrap


@dataclass(frozen=True)
class U1(Group):
    """The group of phases e^{i a}, an element being the angle a in [-pi, pi). Its algebra is the real line.

    Example:
        >>> import torch
        >>> from lattice_flows import U1
        >>> group = U1()
        >>> links = group.haar(2, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> links.shape, links.dtype
        (torch.Size([2, 8, 8]), torch.float32)
        >>> bool(torch.allclose(group.retrace(links), links.cos()))
        True
    """

    @property
    def name(self) -> str:
        return "U(1)"

    @property
    def n(self) -> int:
        return 1

    @property
    def element_shape(self) -> tuple[int, ...]:
        return ()

    def element_dtype(self, dtype=None) -> torch.dtype:
        return check_precision(dtype)

    def haar(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        uniform = torch.rand(shape, generator=generator, dtype=self.element_dtype(dtype), device=device)
        return (2 * uniform - 1) * math.pi

    def identity(self, *shape, dtype=None, device=None) -> Tensor:
        return torch.zeros(shape, dtype=self.element_dtype(dtype), device=device)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        return wrap(a + b)

    def inverse(self, a: Tensor) -> Tensor:
        return wrap(-a)

    def trace(self, a: Tensor) -> Tensor:
        return torch.polar(torch.ones_like(a), a)

    def retrace(self, a: Tensor) -> Tensor:
        return a.cos()

    def class_features(self, a: Tensor) -> Tensor:
        return torch.stack((a.cos(), a.sin()), dim=-1)

    @property
    def n_class_features(self) -> int:
        return 2

    def exp(self, algebra: Tensor) -> Tensor:
        return wrap(algebra)

    def project_algebra(self, m: Tensor) -> Tensor:
        """The sine of the angle: the imaginary part of e^{i a}."""
        return m.sin()

    def random_algebra(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=self.element_dtype(dtype), device=device)

    def generators(self, *, dtype=None, device=None) -> Tensor:
        return torch.ones(1, dtype=self.element_dtype(dtype), device=device)

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def retrace_gradient(self, a: Tensor) -> Tensor:
        return -a.sin()

    def algebra_gradient(self, a: Tensor, gradient: Tensor) -> Tensor:
        return gradient

    def defect(self, a: Tensor) -> Tensor:
        return (a.abs() - math.pi).clamp_min(0)

    def eigenphases(self, a: Tensor) -> tuple[Tensor, Tensor]:
        return a.unsqueeze(-1), torch.ones_like(a).unsqueeze(-1)

    def rebuild(self, phases: Tensor, frame: Tensor) -> Tensor:
        return phases.squeeze(-1)

    def power(self, a: Tensor, exponent: float) -> Tensor:
        return wrap(a * exponent)

    def log_vandermonde(self, phases: Tensor) -> Tensor:
        return torch.zeros_like(phases[..., 0])
