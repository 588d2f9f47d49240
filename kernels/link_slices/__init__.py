"""link_slices: products of loops that share a link, in time slices, with derivatives along tangent fields of slices."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, plain, underivable
from lattice_flows.kernels.link_slices import reference
from lattice_flows.kernels.link_slices.reference import BEFORE, FIRST, KINDS
from lattice_flows.kernels.link_sweeps import LARGEST, check_links, integers, no_memory

__all__ = ["BEFORE", "FIRST", "KINDS", "link_slices"]

PRODUCTS = 4
"""The number of products of each kind."""


class Sums(NamedTuple):
    """Values `(chains, T, 9, 4)` by `KINDS`, and their derivatives `(chains, T, 14, 4)`, float64.

    The first nine derivatives are those along the tangent field in the slice itself, the others those of the kinds from
    `FIRST` on along it in the next slice, for `BEFORE` in the slice before.
    """

    values: Tensor
    slopes: Tensor


def link_slices(links: Tensor, tangents: Tensor, extents: Sequence[int]) -> Sums:
    """Sums over the time slices t of products of two loops A and B that begin with the same link in t,

        Re tr A B^dagger, Re tr A B, Re tr A (tr B)*, Re tr A tr B.

    Loops are plaquettes, time is the last direction, and a link along it from t to t + 1 is in t. By `KINDS`, A and B
    come back on both sides of one plane in space, in two planes; above and below in time; in space and above, in space
    and below; and, from links in time, on both sides of one plane, in two planes. Kinds "space" and "time" are single
    plaquettes P, with

        Re tr P, Re tr P P, |tr P|^2, Re (tr P)^2.

    A derivative along a tangent field X moves links to exp(X) U. X acts in space alone: its components of links in time
    are ignored. There is no derivative of the op, and asking for one raises.

    Shapes: links and tangents `(chains, dim, *extents, N, N)`, complex; tangents anti-Hermitian, for N > 1 traceless.

    Other devices than CPUs, N = 1 and N > 8 run the reference: it is slower.

    Raises:
        InvalidInput: shapes or dtypes do not fit, fewer than three directions, or an extent below 2.

    Example:
        >>> links = torch.eye(3, dtype=torch.complex128).expand(1, 3, 4, 4, 4, 3, 3)
        >>> values, slopes = link_slices(links, torch.zeros_like(links), (4, 4, 4))
        >>> values[0, 0, 0], slopes.shape  # 16 plaquettes in space
        (tensor([ 48.,  48., 144., 144.], dtype=torch.float64), torch.Size([1, 4, 14, 4]))
    """
    extents, dim, shape = tuple(extents), len(extents), links.shape
    fits = links.is_complex() and shape[1:] == (dim, *extents, *shape[-1:] * 2)
    if dim < 3 or not fits or (tangents.shape, tangents.dtype) != (shape, links.dtype):
        raise InvalidInput(
            "links and tangents must be complex (chains, dim, *extents, N, N) of three directions or more, got "
            f"{links.dtype} {tuple(shape)}, {tangents.dtype} {tuple(tangents.shape)} and extents {extents}"
        )
    nodes, flat = check_links(links, extents)
    return Sums(*_slices(flat, tangents.reshape(flat.shape), list(extents), list(nodes)))


def _shapes(links, tangents, extents, nodes):
    kinds = len(KINDS), 2 * len(KINDS) - FIRST
    return tuple(links.new_empty(len(links), extents[-1], n, PRODUCTS, dtype=torch.float64) for n in kinds)


def _arguments(links, tangents, extents, nodes, *outputs):
    return plain(links), plain(tangents), len(links), len(extents), integers(extents), integers(nodes), *outputs


_slices = underivable(
    define_op(
        reference.link_slices, _shapes, _arguments, largest=LARGEST, failed=no_memory,
    )
)  # fmt: skip
