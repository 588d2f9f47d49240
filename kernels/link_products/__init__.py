"""link_products: ordered products of links along walks, without shifted copies of the links."""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.autograd import OpFunction
from lattice_flows.kernels.link_products import reference

__all__ = ["link_products"]

LARGEST = 8
"""The largest N that there is a compiled kernel for."""


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
    if links.dtype not in (torch.complex64, torch.complex128) or links.ndim < 3 or links.shape[-1] != links.shape[-2]:
        raise InvalidInput(f"links must be complex (*batch, n_links, N, N), got {links.dtype} {tuple(links.shape)}")
    if table.dtype != torch.int64 or table.ndim != 2 or len(table) < 1 or len(table) != len(forward):
        raise InvalidInput(
            f"the table of link indices must be int64 (steps, n), steps >= 1, with one orientation a step, "
            f"got {table.dtype} {tuple(table.shape)} and {len(forward)} orientations"
        )
    batch, element = links.shape[:-3], links.shape[-3:]
    products = _LinkProducts.apply(links.reshape(math.prod(batch), *element), table, tuple(forward))
    return products.reshape(*batch, *products.shape[1:])


def _native(links: Tensor) -> ctypes.CDLL | None:
    n = links.shape[-1]
    return build.native("link_products", links.dtype, n) if 2 <= n <= LARGEST else None


def _check(links: Tensor, table: Tensor) -> None:
    if table.numel():
        size, (low, high) = links.shape[1], (int(index) for index in table.aminmax())
        if low < 0 or high >= size:
            raise InvalidInput(f"the table must hold indices 0 ... {size - 1} of {size} links, got {low} ... {high}")


@torch.library.custom_op("lattice_flows::link_products", mutates_args=())
def _forward(links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
    return reference.link_products(links, table, forward)


@_forward.register_kernel("cpu")
def _(links, table, forward):
    _check(links, table)
    library = _native(links)
    if library is None:
        return reference.link_products(links, table, forward)
    out = links.new_empty(len(links), table.shape[1], *links.shape[2:])
    build.call(
        library.link_products, links.resolve_conj().contiguous(), table.contiguous(),
        torch.tensor(forward, dtype=torch.int64), *links.shape[:2], *table.shape, out, torch.get_num_threads(),
    )  # fmt: skip
    return out


@_forward.register_fake
def _(links, table, forward):
    return links.new_empty(len(links), table.shape[1], *links.shape[2:])


@torch.library.custom_op("lattice_flows::link_products_backward", mutates_args=())
def _backward(links: Tensor, table: Tensor, forward: Sequence[bool], grad: Tensor) -> Tensor:
    return reference.link_products_backward(links, table, forward, grad)


@_backward.register_kernel("cpu")
def _(links, table, forward, grad):
    _check(links, table)
    library = _native(links)
    if library is None:
        return reference.link_products_backward(links, table, forward, grad)
    out = torch.empty_like(links, memory_format=torch.contiguous_format)
    build.call(
        library.link_products_backward, links.resolve_conj().contiguous(), table.contiguous(),
        torch.tensor(forward, dtype=torch.int64), grad.resolve_conj().contiguous(), *links.shape[:2], *table.shape, out,
        torch.get_num_threads(),
    )  # fmt: skip
    return out


@_backward.register_fake
def _(links, table, forward, grad):
    return torch.empty_like(links, memory_format=torch.contiguous_format)


class _LinkProducts(OpFunction):
    @staticmethod
    def forward(links, table, forward):
        return _forward(links, table, forward)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.orientation = inputs[2]

    @staticmethod
    def backward(ctx, grad):
        links, table = ctx.saved_tensors
        return _backward(links, table, ctx.orientation, grad), None, None
