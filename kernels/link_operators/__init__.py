"""link_operators: force and values of sums of operators of plaquettes and of pairs of them, on whole lattices."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, plain, underivable
from lattice_flows.kernels.link_operators import reference
from lattice_flows.kernels.link_sweeps import LARGEST, SMALLEST, has_kernel, integers, no_memory, sublattices

__all__ = ["OPERATORS", "link_operators"]

OPERATORS = 8
"""The number of operators."""


class Summed(NamedTuple):
    """The force of a weighted sum `(chains, dim, *extents, *element)`, and the values `(chains, n)`, float64."""

    force: Tensor
    values: Tensor


def link_operators(links: Tensor, extents: Sequence[int], weights: Tensor) -> Summed:
    """The force of a weighted sum of operators, and the value of each of them.

    With plaquettes P, and pairs of plaquettes P and P' that share a link, begin there and follow it, the operators are
    sums over plaquettes or pairs, each counted once, of

        Re tr P;  Re tr P P'^-1, Re tr P P', Re tr P tr P', Re tr P (tr P')*;  Re (tr P)^2, Re tr P^2, |tr P|^2

    in this order. With weights `(chains, 1)` only the first one is computed, several times as fast. The force F is the
    tangent field with W(exp(X) U) = W(U) + inner(X, F) + O(X^2), inner(X, Y) = -2 tr(X Y), for angles X Y. A chain
    depends on its own links and weights alone. There is no derivative, and asking for one raises.

    Shapes: links `(chains, dim, *extents, N, N)`, N >= 2, complex, or for U(1) angles `(chains, dim, *extents)`, real;
    weights `(chains, 8)` or `(chains, 1)`, float64.

    Extents without `sublattices`, as well as other devices than CPUs and N > 8, run the reference, which is slower.

    Raises:
        InvalidInput: shapes or dtypes do not fit.

    Source: M. Luscher, 0907.5491, section 3, for the operators.

    Example:
        >>> import torch
        >>> links, weights = torch.zeros(1, 2, 8, 8), torch.ones(1, 8, dtype=torch.float64)
        >>> link_operators(links, (8, 8), weights).values[0].tolist()  # a plaquette shares its links with four others
        [64.0, 128.0, 128.0, 128.0, 128.0, 64.0, 64.0, 64.0]
    """
    extents = tuple(extents)
    dim, chains = len(extents), len(links)
    element = links.shape[-1:] * 2 if links.is_complex() else ()
    if links.shape[1:] != (dim, *extents, *element):
        raise InvalidInput(
            f"links must be (chains, dim, *extents, N, N), or angles (chains, dim, *extents), got {links.dtype} "
            f"{tuple(links.shape)} and extents {extents}"
        )
    if weights.dtype != torch.float64 or weights.shape not in ((chains, 1), (chains, OPERATORS)):
        raise InvalidInput(
            f"weights must be float64 ({chains}, 1) or ({chains}, {OPERATORS}), got {weights.dtype} "
            f"{tuple(weights.shape)}"
        )
    flat, nodes = links.reshape(chains, dim * math.prod(extents), *(element or (1, 1))), sublattices(extents)
    force, values = _operators(flat, list(extents), list(nodes or ()), weights)
    return Summed(force.reshape(links.shape), values)


def available(extents: tuple[int, ...], n: int, links: Tensor) -> bool:
    """Whether there is a kernel for links of SU(N), or with n = 1 of U(1), on lattices of these extents."""
    return links.is_cpu and has_kernel(reference, 1, extents, n, links)


def _shapes(links, extents, nodes, weights):
    return torch.empty_like(links, memory_format=torch.contiguous_format), torch.empty_like(weights)


_op = define_op(
    reference.link_operators,
    _shapes,
    lambda links, extents, nodes, weights, *outputs: (
        plain(links), len(links), len(extents), integers(extents), integers(nodes), weights.contiguous(),
        weights.shape[1], *outputs,
    ),
    smallest=SMALLEST,
    largest=LARGEST,
    failed=no_memory,
    serves=lambda links, extents, nodes, weights: bool(nodes),
)  # fmt: skip
_operators = underivable(_op)
