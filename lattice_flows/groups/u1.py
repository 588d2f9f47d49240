"""U(1): an element is a real angle."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.groups import von_mises
from lattice_flows.groups.base import Group, Orientations, check_precision
from lattice_flows.kernels.circular_spline import circular_spline, n_params
from lattice_flows.kernels.circular_spline.reference import wrap


@dataclass(frozen=True)
class U1(Group):
    """The group of phases e^{i a}. An element is the angle a in [-pi, pi), and the algebra is the real line.

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

    name = "U(1)"
    n = 1
    element_shape = ()
    n_class_features = 2
    abelian = True
    bare_coupling = 1.0

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

    def power(self, a: Tensor, exponent: float) -> Tensor:
        return wrap(a * exponent)

    def restore(self, a: Tensor) -> Tensor:
        return a

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """The angle between a and b."""
        return wrap(a - b).abs()

    def link_products(self, links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
        # one gather for the whole walk, as the gradient of every gather fills a field of zeros
        steps = links.index_select(-1, table.flatten()).unflatten(-1, table.shape).unbind(-2)
        return functools.reduce(
            self.compose, (step if ahead else self.inverse(step) for step, ahead in zip(steps, forward, strict=True))
        )

    def link_sums(self, links: Tensor, tables: Tensor, forward: Orientations) -> Tensor:
        # sums of explicit terms: torch's reductions of more than four terms round according to the place in the tensor
        steps = links.index_select(-1, tables.flatten()).unflatten(-1, tables.shape)
        ahead = torch.tensor(forward, device=links.device).unsqueeze(-1)
        angles = functools.reduce(torch.add, torch.where(ahead, steps, -steps).unbind(-2))
        return torch.complex(*(functools.reduce(torch.add, part.unbind(-2)) for part in (angles.cos(), angles.sin())))

    def alignment(self, a: Tensor, sums: Tensor) -> Tensor:
        return a.cos() * sums.real - a.sin() * sums.imag

    def link_forces(self, links: Tensor, tables: Tensor, forward: Orientations, active: Tensor) -> Tensor:
        link = links.index_select(-1, active)
        walks = (self.link_products(links, *walk) for walk in zip(tables, forward, strict=True))
        return functools.reduce(torch.add, (self.retrace_gradient(self.compose(link, walk)) for walk in walks))

    def heat_bath_numbers(self) -> tuple[int, ...]:
        return (von_mises.ATTEMPTS, 2)

    def heat_bath(self, a: Tensor, sums: Tensor, strength: float, uniforms: Tensor) -> Tensor:
        """Draw from the von Mises density; see `lattice_flows.groups.von_mises`."""
        return von_mises.heat_bath(a, sums, strength, uniforms)

    def over_relaxation(self, a: Tensor, sums: Tensor) -> Tensor:
        return von_mises.over_relaxation(a, sums)

    def n_spectral_params(self, bins: int) -> int:
        return n_params(bins)

    def spectral_flow(self, a: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """A spline of the circle and a rotation (D. J. Rezende et al., 2002.02428)."""
        return circular_spline(a, params, bins, inverse=inverse)

    def character_indices(self, labels: Tensor) -> Tensor:
        return labels[:, 0]

    def characters(self, a: Tensor, indices: Tensor) -> Tensor:
        return torch.cos(a.double().unsqueeze(-1) * indices)
