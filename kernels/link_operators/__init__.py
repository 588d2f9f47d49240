"""link_operators: force and values of sums of operators of plaquettes and of pairs of them, on whole lattices."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, plain, underivable
from lattice_flows.kernels.link_operators import reference
from lattice_flows.kernels.link_sweeps import LARGEST, SMALLEST, check_links, has_kernel, integers, no_memory

__all__ = ["OPERATORS", "link_operators", "link_steps"]

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

    Other devices than CPUs and N > 8 run the reference, which is slower.

    Raises:
        InvalidInput: shapes or dtypes do not fit.

    Source: M. Luscher, 0907.5491, section 3, for the operators.

    Example:
        >>> import torch
        >>> links, weights = torch.zeros(1, 2, 8, 8), torch.ones(1, 8, dtype=torch.float64)
        >>> link_operators(links, (8, 8), weights).values[0].tolist()  # a plaquette shares its links with four others
        [64.0, 128.0, 128.0, 128.0, 128.0, 64.0, 64.0, 64.0]
    """
    force, values = _operators(*_checked(links, tuple(extents), weights), weights)
    return Summed(force.reshape(links.shape), values)


class Stepped(NamedTuple):
    """New links `(chains, dim, *extents, *element)`, and the values `(chains, n)` at the midpoint, float64."""

    links: Tensor
    values: Tensor


def link_steps(links: Tensor, extents: Sequence[int], ahead: Tensor, weights: Tensor) -> Stepped:
    """A step of the midpoint rule along the force F of a weighted sum of operators, in one call.

    V = exp(a F_0(U)) U,   U' = exp(F(V)) U,

    with the force F_0 of sum Re tr P, the first operator, and a weight a for each chain. Links are restored after it.
    The rest is as for `link_operators`.

    Shapes: links and weights as for `link_operators`; ahead, the a, `(chains, 1)`, float64.

    Raises:
        InvalidInput: shapes or dtypes do not fit.

    Source: E. Hairer, C. Lubich, G. Wanner, Geometric Numerical Integration (2006), IV.8, for the rule on groups.

    Example:
        >>> import torch
        >>> links, ahead = torch.zeros(1, 2, 8, 8), torch.full((1, 1), 0.1, dtype=torch.float64)
        >>> links[0, 0, 0, 0] = 1.0
        >>> stepped = link_steps(links, (8, 8), ahead, 2 * ahead)  # towards links at rest
        >>> bool(0.6 < stepped.links[0, 0, 0, 0] < 0.9), bool(stepped.values > 63.1)  # of 64
        (True, True)
    """
    flat, extents, nodes = _checked(links, tuple(extents), weights)
    if ahead.dtype != torch.float64 or ahead.shape != (len(links), 1):
        raise InvalidInput(f"ahead must be float64 ({len(links)}, 1), got {ahead.dtype} {tuple(ahead.shape)}")
    new, values = _steps(flat, extents, nodes, ahead, weights)
    return Stepped(new.reshape(links.shape), values)


def _checked(links: Tensor, extents: tuple[int, ...], weights: Tensor) -> tuple[Tensor, list[int], list[int]]:
    """The links `(chains, dim * V, N, N)`, the extents, and the cut into sublattices, if all fit each other."""
    nodes, flat = check_links(links, extents)
    chains = len(links)
    if weights.dtype != torch.float64 or weights.shape not in ((chains, 1), (chains, OPERATORS)):
        raise InvalidInput(
            f"weights must be float64 ({chains}, 1) or ({chains}, {OPERATORS}), got {weights.dtype} "
            f"{tuple(weights.shape)}"
        )
    return flat, list(extents), list(nodes)


def available(extents: tuple[int, ...], n: int, links: Tensor) -> bool:
    """Whether there is a kernel for links of SU(N), or with n = 1 of U(1), on lattices of these extents."""
    return links.is_cpu and has_kernel(reference, 1, extents, n, links)


def _shapes(links, extents, nodes, *weights):
    return torch.empty_like(links, memory_format=torch.contiguous_format), torch.empty_like(weights[-1])


def _arguments(links, extents, nodes, *rest):
    weights, outputs = rest[:-2], rest[-2:]
    return (
        plain(links), len(links), len(extents), integers(extents), integers(nodes),
        *(own.contiguous() for own in weights), weights[-1].shape[1], *outputs,
    )  # fmt: skip


def _define(reference):
    return underivable(define_op(reference, _shapes, _arguments, smallest=SMALLEST, largest=LARGEST, failed=no_memory))


_operators, _steps = _define(reference.link_operators), _define(reference.link_steps)
