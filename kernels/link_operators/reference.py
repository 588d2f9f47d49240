"""link_operators in plain PyTorch: the definition of the op."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.define import gradients
from lattice_flows.kernels.link_sweeps.reference import Field
from lattice_flows.kernels.matrices import adjoint, project


def link_operators(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The force `(chains, dim * V, N, N)` of sums of operators and the values `(chains, n)` of the first n operators.

    See `lattice_flows.kernels.link_operators`. Angles have N = 1.
    """
    dim, n = len(extents), weights.shape[1]
    field = Field(links, extents, torch.ones(dim, dim, dtype=torch.float64))

    def total(u: Tensor) -> Tensor:
        field.u = u
        return (weights * _values(field)[:, :n]).sum()

    values, u = _values(field)[:, :n], field.u
    (derivative,) = gradients(total, (u,), (torch.ones((), dtype=torch.float64),))
    loops = u @ adjoint(derivative)
    return -(loops.imag if field.angles else project(loops) / 2), values


def _values(field: Field) -> Tensor:
    """The values `(chains, 8)` of the operators, by sums over plaquettes P and over the loops R of every link."""
    dim, volume, n = len(field.up), field.grid.numel(), field.u.shape[-1]
    everywhere, plaquettes = field.grid.flatten(), []
    for mu, nu in itertools.combinations(range(dim), 2):
        ahead = field.at(nu, field.up[mu]) @ adjoint(field.at(mu, field.up[nu]))
        plaquettes.append(field.at(mu, everywhere) @ ahead @ adjoint(field.at(nu, everywhere)))
    p = torch.cat(plaquettes, 1)
    loops = field.u @ torch.cat([field.staples(mu, everywhere) for mu in range(dim)], 1)
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
