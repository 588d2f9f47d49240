"""U(1): an element is a real angle.

Heat bath and over-relaxation take no atan2, as its last digit depends on the place in a tensor.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from lattice_flows.groups.base import Group, Orientations, Reals
from lattice_flows.kernels.circular_spline import circular_spline, n_params
from lattice_flows.kernels.circular_spline.reference import wrap

ATTEMPTS = 6
"""The number of attempts of the heat bath at each link."""


@dataclass(frozen=True)
class U1(Reals, Group):
    """The group of phases e^{i a}. An element is the angle a in [-pi, pi), and the algebra is the real line.

    Example:
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
    n_class_features = 2
    abelian = True
    swept = True
    bare_coupling = 1.0
    fierz = Fraction(0), Fraction(-1)

    def haar(self, *shape, generator=None, dtype=None, device=None) -> Tensor:
        uniform = torch.rand(shape, generator=generator, dtype=self.element_dtype(dtype), device=device)
        return (2 * uniform - 1) * math.pi

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

    def retrace_gradient(self, a: Tensor) -> Tensor:
        return -a.sin()

    def defect(self, a: Tensor) -> Tensor:
        return (a.abs() - math.pi).clamp_min(0)

    def eigenphases(self, a: Tensor) -> tuple[Tensor, Tensor]:
        return a.unsqueeze(-1), torch.ones_like(a).unsqueeze(-1)

    def power(self, a: Tensor, exponent: float) -> Tensor:
        return wrap(a * exponent)

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

    def project_group(self, sums: Tensor) -> Tensor:
        return wrap(argument(sums))

    def matrices(self, a: Tensor) -> Tensor:
        return self.trace(a)[..., None, None]

    def algebra_matrices(self, x: Tensor) -> Tensor:
        return torch.complex(torch.zeros_like(x), x)[..., None, None]

    def alignment(self, a: Tensor, sums: Tensor) -> Tensor:
        return a.cos() * sums.real - a.sin() * sums.imag

    def link_forces(self, links: Tensor, tables: Tensor, forward: Orientations, active: Tensor) -> Tensor:
        link = links.index_select(-1, active)
        walks = (self.link_products(links, *walk) for walk in zip(tables, forward, strict=True))
        return functools.reduce(torch.add, (self.retrace_gradient(self.compose(link, walk)) for walk in walks))

    def heat_bath_numbers(self) -> tuple[int, ...]:
        return (ATTEMPTS, 2)

    def heat_bath(self, a: Tensor, sums: Tensor, strength: float, uniforms: Tensor) -> Tensor:
        """Draw angles from exp(k cos(a + arg S)), k = strength |S|, by rejection from a wrapped Cauchy law.

        With rho = 2 k / (tau + sqrt(2 tau)), tau = 1 + sqrt(1 + 4 k^2), proposals are 2 atan((1 - rho) / (1 + rho) t),
        t = tan(pi (u - 1/2)): Best and Fisher's law without its arc cosine. Where all attempts fail, the angle stays.
        The chance of that depends on S alone, so the density is invariant.

        Source: D. J. Best and N. I. Fisher, Appl. Statist. 28 (1979) 152.

        Example:
            >>> generator = torch.Generator().manual_seed(0)
            >>> sums, uniforms = torch.full((1, 1000), 3j), torch.rand(1, 1000, 6, 2, generator=generator)
            >>> angles = U1().heat_bath(torch.zeros(1, 1000), sums, 1.0, uniforms)
            >>> bool((angles.mean() + torch.pi / 2).abs() < 0.1)
            True
        """
        x, y = sums.real.contiguous(), sums.imag.contiguous()
        k = (strength * (x * x + y * y).sqrt()).unsqueeze(-1)
        tau = 1 + (1 + 4 * k * k).sqrt()
        q = (tau + (2 * tau).sqrt()) / 2  # k / rho
        rho = k / q
        turn, threshold = (part.contiguous() for part in uniforms.unbind(-1))
        turn = torch.pi * (turn - 0.5)
        # Best and Fisher's k (r - f)
        c = q * (1 - rho * rho).square() / (2 + 2 * rho * (rho + 2 * (2 * turn).cos()))
        accepted = threshold.log() < c.log() + 1 - c
        drawn = 2 * ((1 - rho) / (1 + rho) * turn.tan()).atan() - argument(sums).unsqueeze(-1)
        for fits, angle in zip(accepted.unbind(-1), wrap(drawn).unbind(-1), strict=True):
            a = torch.where(fits, angle, a)
        return a

    def over_relaxation(self, a: Tensor, sums: Tensor) -> Tensor:
        """The other angle with the same Re(e^{i a} S): -a - 2 arg S.

        Source: M. Creutz, Phys. Rev. D 36 (1987) 515; F. R. Brown and T. J. Woch, Phys. Rev. Lett. 58 (1987) 2394.

        Example:
            >>> U1().over_relaxation(torch.tensor([0.5]), torch.tensor([1.0 + 0j]))
            tensor([-0.5000])
        """
        return wrap(-a - 2 * argument(sums))

    n_spectral_params = staticmethod(n_params)

    def spectral_flow(self, a: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        return circular_spline(a, params, bins, inverse=inverse)

    def character_indices(self, labels: Tensor) -> Tensor:
        return labels[:, 0]

    def characters(self, a: Tensor, indices: Tensor) -> Tensor:
        return torch.cos(a.double().unsqueeze(-1) * indices)


def argument(z: Tensor) -> Tensor:
    """arg z of complex numbers, by the tangent of half of it.

    Example:
        >>> argument(torch.tensor([1j, -1.0, 0.0]))
        tensor([1.5708, 3.1416, 0.0000])
    """
    x, y = z.real.contiguous(), z.imag.contiguous()
    r, tiny = (x * x + y * y).sqrt(), torch.finfo(x.dtype).tiny
    # each quotient where it does not cancel
    half = torch.where(x < 0, (r - x) / torch.where(y == 0, tiny, y), y / (r + x).clamp_min(tiny))
    return 2 * half.atan()
