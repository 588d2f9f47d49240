"""link_products: ordered products of links along walks, without shifted copies of the links."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, differentiable, like, plain
from lattice_flows.kernels.link_products import reference
from lattice_flows.kernels.link_products.reference import check_indices
from lattice_flows.kernels.matrices import REAL

__all__ = ["link_products"]

LARGEST = 8  # the largest N that there is a compiled kernel for
LARGEST_ON_GPU = 3  # and a Triton kernel


def link_products(links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
    """The products S_1 S_2 ... S_k of links along n walks of k steps.

    S_i of walk j is the link U[table[i, j]] where forward[i], and otherwise its adjoint: the inverse of a unitary link.
    Once differentiable in the links, which may be any matrices.

    Shapes: links `(*batch, n_links, N, N)`, complex64 or complex128; table `(k, n)`, int64, shared by the batch;
    forward: k of them -> `(*batch, n, N, N)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or an index of the table is not one of a link. (On a GPU
            torch's own assertion stops an index that is not.)

    Example:
        >>> import torch
        >>> links = torch.tensor([2, 3j, 5 + 1j]).reshape(3, 1, 1)
        >>> table = torch.tensor([[0, 1], [1, 2]])
        >>> link_products(links, table, (True, False)).flatten()  # 2 (-3i) and 3i (5 - i)
        tensor([0.-6.j, 3.+15.j])
    """
    flat = flatten(links)
    if table.dtype != torch.int64 or table.ndim != 2 or len(table) < 1 or len(table) != len(forward):
        raise InvalidInput(
            f"the table of link indices must be int64 (steps, n), steps >= 1, with one orientation a step, "
            f"got {table.dtype} {tuple(table.shape)} and {len(forward)} orientations"
        )
    products = _derivable(flat, table, tuple(forward))
    return products.reshape(*links.shape[:-3], *products.shape[1:])


def flatten(links: Tensor) -> Tensor:
    """Links with one batch axis, if they are links at all."""
    if links.dtype not in REAL or links.ndim < 3 or links.shape[-1] != links.shape[-2]:
        raise InvalidInput(f"links must be complex (*batch, n_links, N, N), got {links.dtype} {tuple(links.shape)}")
    return links.reshape(links.shape[:-3].numel(), *links.shape[-3:])


def arguments(links, table, forward, *buffers):
    """Links, a table, the directions of all steps, and more, as C reads them."""
    directions = torch.tensor(forward, dtype=torch.int64)
    return plain(links), table.contiguous(), directions, *links.shape[:2], *table.shape, *map(plain, buffers)


def _cpu(links, table, *more):
    check_indices(links, table)
    return arguments(links, table, *more)


_forward = define_op(
    reference.link_products,
    lambda links, table, forward: links.new_empty(len(links), table.shape[1], *links.shape[2:]),
    _cpu,
    largest=LARGEST,
)
_backward = define_op(
    reference.link_products_backward,
    like,
    lambda links, table, grad, forward, out: _cpu(links, table, forward, grad, out),
    largest=LARGEST,
)
_derivable = differentiable(_forward, _backward, tensors=2, numbers=1)
