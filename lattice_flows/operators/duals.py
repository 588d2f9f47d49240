"""Fields of matrices with their derivatives along a tangent field of the links: forward differentiation by hand."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.kernels import link_products, link_sums
from lattice_flows.lattice.space import GaugeField


class Dual(NamedTuple):
    """Matrices at n places, and their derivatives.

    Shapes: both `(*batch, n, N, N)`, complex for every group.
    """

    value: Tensor
    slope: Tensor

    def __add__(self, other: "Dual") -> "Dual":  # type: ignore[override]
        return Dual(self.value + other.value, self.slope + other.slope)

    def __matmul__(self, other: "Dual") -> "Dual":
        return Dual(self.value @ other.value, self.slope @ other.value + self.value @ other.slope)

    def adjoint(self) -> "Dual":
        """The adjoint matrices."""
        return Dual(*(own.mT.clone(memory_format=torch.contiguous_format).conj_physical_() for own in self))

    def trace(self) -> "Dual":
        """The traces, as matrices of one element."""
        return Dual(*(own.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] for own in self))

    def overlap(self, other: "Dual", last: int) -> "Dual":
        """The sums of Re tr A B^dagger over places x = ... + t, in float64, for each t = 0 ... last - 1.

        Shapes: both parts of the result `(*batch, last)`.
        """
        (one, change), (two, other_change) = ([_real(own, last) for own in x] for x in (self, other))
        return Dual(_dot(one, two), _dot(one, other_change) + _dot(change, two))

    def total(self, last: int) -> "Dual":
        """The same sums of the real parts of all matrix elements."""
        return Dual(*(_real(own, last)[..., ::2].sum(-3).sum(-1).double() for own in self))


def of_links(space: GaugeField, links: Tensor, tangent: Tensor) -> Dual:
    """Links U in flat order, with their derivatives X U along a tangent field X of the same shape."""
    group = space.group
    value = group.matrices(space.flatten(space.check(links))).contiguous()
    return Dual(value, group.algebra_matrices(space.flatten(tangent)) @ value)


def stacked(*fields: Dual) -> Tensor:
    """Several fields as one tensor `(*batch, 2 n, N, N)`: all values, then all derivatives."""
    return torch.cat([*(own.value for own in fields), *(own.slope for own in fields)], -3)


def gathered(stack: Tensor, places: Tensor) -> Dual:
    """The matrices of `stacked` fields at some places."""
    values, slopes = (stack.index_select(-3, places + start) for start in (0, stack.shape[-3] // 2))
    return Dual(values, slopes)


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


def products(stack: Tensor, along: Walks) -> Dual:
    """The products of `stacked` fields along walks, as `link_products` makes them.

    Example:
        >>> from lattice_flows import SU
        >>> space, generator = GaugeField(SU(2), (3, 4)), torch.Generator().manual_seed(0)
        >>> links = of_links(space, space.cold(1), space.momenta(generator)[None])
        >>> along = walks(torch.tensor([[0, 1, 2], [3, 4, 5]]), (True, False), 24)
        >>> products(stacked(links), along).slope.shape
        torch.Size([1, 3, 2, 2])
    """
    steps = len(along.table)
    if torch.is_grad_enabled() and stack.requires_grad:  # `link_sums` has no derivative
        each = link_products(stack, along.derived.transpose(0, 1).flatten(1), along.forward)
        slope = each.unflatten(-3, (steps, -1)).sum(-4)
    else:
        slope = link_sums(stack, along.derived, (along.forward,) * steps)
    return Dual(link_products(stack, along.table, along.forward), slope)


def _real(matrices: Tensor, last: int) -> Tensor:
    """Real numbers `(*batch, n / last, last, 2 N^2)`."""
    return torch.view_as_real(matrices).flatten(-3).unflatten(-2, (-1, last))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-3).sum(-1).double()
