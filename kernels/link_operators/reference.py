"""link_operators in plain PyTorch: the definition of the op."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.kernels.link_sweeps.reference import Field
from lattice_flows.kernels.matrices import adjoint, project
from lattice_flows.kernels.special_unitary.reference import special_unitary


def link_operators(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The force `(chains, dim * V, N, N)` of sums of operators and the values `(chains, n)` of the first n operators.

    See `lattice_flows.kernels.link_operators`. Angles have N = 1.
    """
    field = Field(links, extents, torch.ones(len(extents), len(extents), dtype=torch.float64))
    everywhere = field.grid.flatten()
    loops = field.u @ torch.cat([field.staples(mu, everywhere) for mu in range(len(extents))], 1)
    every = torch.nn.functional.pad(weights, (0, 8 - weights.shape[1]))
    derivative = _derivative(field, loops, every.to(field.u.real.dtype))
    force = -(derivative.imag if field.angles else project(derivative) / 2)
    return force, _values(field, loops)[:, : weights.shape[1]].contiguous()


def link_steps(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], ahead: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """New links `(chains, dim * V, N, N)` and the values `(chains, n)` at the midpoint of a step.

    See `lattice_flows.kernels.link_operators.link_steps`.
    """
    middle = _moved(links, link_operators(links, extents, nodes, ahead)[0])
    force, values = link_operators(middle, extents, nodes, weights)
    return _moved(links, force), values


def _moved(links: Tensor, tangent: Tensor) -> Tensor:
    """exp(X) U without rounding errors, or X + U in [-pi, pi)."""
    if links.is_complex():
        return special_unitary(torch.linalg.matrix_exp(tangent) @ links)
    return torch.remainder(links + tangent + torch.pi, 2 * torch.pi) - torch.pi


class Plane(NamedTuple):
    """Plaquettes P = a b c^dagger d^dagger of one plane, and where their links a, b, c and d lie."""

    places: tuple[Tensor, ...]
    a: Tensor
    across: Tensor  # b c^dagger
    d: Tensor

    @property
    def plaquettes(self) -> Tensor:
        """P `(chains, V, N, N)`, from the beginning of a."""
        return self.a @ self.across @ adjoint(self.d)


def _planes(field: Field) -> Iterator[Plane]:
    volume, sites = field.grid.numel(), field.grid.flatten()
    for mu, nu in itertools.combinations(range(len(field.up)), 2):
        places = mu * volume + sites, nu * volume + field.up[mu], mu * volume + field.up[nu], nu * volume + sites
        a, b, c, d = (field.u[:, place] for place in places)
        yield Plane(places, a, b @ adjoint(c), d)


def _derivative(field: Field, loops: Tensor, weights: Tensor) -> Tensor:
    """G with dW = sum over links of Re tr(dU U^dagger G), by what the derivative inserts into loops.

    Sums over pairs are squares of the loops R of a link, without what each plaquette has with itself at its four links.
    So R inserts `before` ahead of all of its plaquettes, which follow the link, and a plaquette `own` into itself.
    """
    w = [weights[:, k, None, None, None] for k in range(8)]
    total, trace = torch.zeros_like(loops), _trace(loops)[..., None, None]
    one = torch.eye(loops.shape[-1], dtype=loops.dtype)
    before = w[2] * loops + w[1] * adjoint(loops) + (w[3] * trace + w[4] * trace.conj_physical()) * one
    for plane in _planes(field):
        a, across, d, p = plane.a, plane.across, plane.d, plane.plaquettes
        trace = _trace(p)[..., None, None]
        own = (w[0] + 2 * (w[5] - 2 * w[3]) * trace + 2 * (w[7] - 2 * w[4]) * trace.conj_physical()) * one
        of_a, of_b, of_c, of_d = (before[:, place] for place in plane.places)
        # at the beginning of a and d, at that of b, and at that of c
        first, second, third = of_a + adjoint(of_d) + own + 2 * (w[6] - 2 * w[2]) * p, of_b, adjoint(of_c)
        middle = a @ (second @ across + across @ third) @ adjoint(d)
        corner = adjoint(d) @ a
        rest = corner @ second + third @ corner + adjoint(d) @ first @ a
        found = p @ first + middle, across @ rest, -rest @ across, -first @ p - middle
        for place, part in zip(plane.places, found, strict=True):
            total.index_add_(1, place, part)
    return total


def _values(field: Field, loops: Tensor) -> Tensor:
    """The values `(chains, 8)` of the operators, by sums over plaquettes P and over the loops R of every link."""
    dim, volume, n = len(field.up), field.grid.numel(), field.u.shape[-1]
    p = torch.cat([plane.plaquettes for plane in _planes(field)], 1)
    trace, of_links = _trace(p), _trace(loops)
    plaquette, square, traced, length = (
        x.double().sum(1) for x in (trace.real, (trace * trace).real, _trace(p @ p).real, _squared(trace))
    )
    against, along, product, conjugate = (
        x.double().sum(1) / 2
        for x in (
            _squared(loops).sum((2, 3)), _trace(loops @ loops).real, (of_links * of_links).real, _squared(of_links)
        )
    )  # fmt: skip
    pairs = [
        against - dim * (dim - 1) * n * volume, along - 2 * traced, product - 2 * square, conjugate - 2 * length,
    ]  # fmt: skip
    return torch.stack([plaquette, *pairs, square, traced, length], 1)


def _trace(m: Tensor) -> Tensor:
    return m.diagonal(dim1=-2, dim2=-1).sum(-1)


def _squared(x: Tensor) -> Tensor:
    return torch.view_as_real(x).square().sum(-1)
