"""Fields of matrices with their derivatives along a tangent field of the links: forward differentiation by hand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.kernels import link_products, link_sums
from lattice_flows.lattice.space import GaugeField


class Dual(tuple[Tensor, ...]):
    """Matrices at n places and, where they are wanted, their derivatives.

    Shapes: both `(*batch, n, N, N)`, complex for every group.
    """

    __slots__ = ()

    def __new__(cls, *parts: Tensor) -> "Dual":
        return super().__new__(cls, parts)

    @property
    def value(self) -> Tensor:
        """The matrices."""
        return self[0]

    @property
    def slope(self) -> Tensor:
        """Their derivatives."""
        return self[1]

    def __add__(self, other: "Dual") -> "Dual":  # type: ignore[override]
        return Dual(*(a + b for a, b in zip(self, other, strict=True)))

    def __matmul__(self, other: "Dual") -> "Dual":
        return _product(torch.matmul, self, other)

    def adjoint(self) -> "Dual":
        """The adjoint matrices."""
        return Dual(*(own.mT.clone(memory_format=torch.contiguous_format).conj_physical_() for own in self))

    def trace(self) -> "Dual":
        """The traces, as matrices of one element."""
        return Dual(*(own.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] for own in self))

    def overlap(self, other: "Dual", last: int) -> "Dual":
        """The sums of Re tr A B^dagger over places x = ... + t, in float64, for each t = 0 ... last - 1.

        Shapes: all parts of the result `(*batch, last)`.
        """
        return _product(_dot, *(Dual(*(_real(own, last) for own in x)) for x in (self, other)))

    def total(self, last: int) -> "Dual":
        """The same sums of the real parts of all matrix elements."""
        return Dual(*(_real(own, last)[..., ::2].sum(-3).sum(-1).double() for own in self))


def _product(function: Callable[[Tensor, Tensor], Tensor], one: Dual, two: Dual) -> Dual:
    """A function that is linear in both arguments."""
    value = function(one.value, two.value)
    if len(one) == 1:
        return Dual(value)
    return Dual(value, function(one.slope, two.value) + function(one.value, two.slope))


def of_links(space: GaugeField, links: Tensor, tangent: Tensor | None = None) -> Dual:
    """Links U in flat order, with their derivatives X U along a tangent field X of the same shape, if one is given."""
    group = space.group
    value = group.matrices(space.flatten(space.check(links))).contiguous()
    return Dual(value) if tangent is None else Dual(value, group.algebra_matrices(space.flatten(tangent)) @ value)


class Stack(NamedTuple):
    """Several fields as one: all values, then all derivatives."""

    matrices: Tensor
    """`(*batch, parts * n, N, N)`."""
    parts: int


def stacked(*fields: Dual) -> Stack:
    """Fields one after the other."""
    parts = len(fields[0])
    return Stack(torch.cat([own[part] for part in range(parts) for own in fields], -3), parts)


def gathered(stack: Stack, places: Tensor) -> Dual:
    """The matrices of `stacked` fields at some places."""
    size = stack.matrices.shape[-3] // stack.parts
    return Dual(*(stack.matrices.index_select(-3, places + part * size) for part in range(stack.parts)))


class Walks(NamedTuple):
    """Walks through `stacked` fields, and those with one step that is a derivative."""

    table: Tensor
    derived: Tensor
    forward: tuple[bool, ...]


def walks(table: Tensor, forward: Sequence[bool], places: int) -> Walks:
    """Walks for a table `(steps, n)` of places, of so many in all."""
    steps = len(table)
    ends = torch.arange(steps)
    derived = table.repeat(steps, 1, 1)
    derived[ends, ends] += places
    return Walks(table, derived, tuple(forward))


def products(stack: Stack, along: Walks) -> Dual:
    """The products of `stacked` fields along walks, as `link_products` makes them.

    Example:
        >>> from lattice_flows import SU
        >>> space, generator = GaugeField(SU(2), (3, 4)), torch.Generator().manual_seed(0)
        >>> links = of_links(space, space.cold(1), space.momenta(generator)[None])
        >>> along = walks(torch.tensor([[0, 1, 2], [3, 4, 5]]), (True, False), 24)
        >>> products(stacked(links), along).slope.shape
        torch.Size([1, 3, 2, 2])
    """
    matrices, steps = stack.matrices, len(along.table)
    value = link_products(matrices, along.table, along.forward)
    if stack.parts == 1:
        return Dual(value)
    if torch.is_grad_enabled() and matrices.requires_grad:  # `link_sums` has no derivative
        each = link_products(matrices, along.derived.transpose(0, 1).flatten(1), along.forward)
        slope = each.unflatten(-3, (steps, -1)).sum(-4)
    else:
        slope = link_sums(matrices, along.derived, (along.forward,) * steps)
    return Dual(value, slope)


def _real(matrices: Tensor, last: int) -> Tensor:
    """Real numbers `(*batch, n / last, last, 2 N^2)`."""
    return torch.view_as_real(matrices).flatten(-3).unflatten(-2, (-1, last))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-3).sum(-1).double()
