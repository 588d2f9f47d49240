"""link_products in plain PyTorch: the definition of the op."""

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.matrices import adjoint


def link_products(links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
    """Products `(batch, n, N, N)` of links `(batch, n_links, N, N)`; see `lattice_flows.kernels.link_products`."""
    check_indices(links, table)
    return functools.reduce(torch.matmul, _steps(links, table, forward)).contiguous()


def link_products_backward(links: Tensor, table: Tensor, grad: Tensor, forward: Sequence[bool]) -> Tensor:
    """The gradient of the links.

    For P = S_1 ... S_k that of S_i is (S_1 ... S_{i-1})^dagger grad (S_{i+1} ... S_k)^dagger.
    """
    check_indices(links, table)
    steps = _steps(links, table, forward)
    before = [None, *itertools.accumulate(steps[:-1], torch.matmul)]
    total = torch.zeros_like(links, memory_format=torch.contiguous_format)
    for index, ahead, step, left in reversed(list(zip(table, forward, steps, before, strict=True))):
        own = grad if left is None else adjoint(left) @ grad
        total.index_add_(1, index, own if ahead else adjoint(own))
        grad = grad @ adjoint(step)
    return total


def _steps(links: Tensor, table: Tensor, forward: Sequence[bool]) -> list[Tensor]:
    gathered = links.index_select(1, table.flatten()).unflatten(1, table.shape).unbind(1)
    return [link if ahead else adjoint(link) for link, ahead in zip(gathered, forward, strict=True)]


def check_indices(links: Tensor, *tables: Tensor) -> None:
    """Raises InvalidInput where an index is not one of a link; on GPUs an assertion of torch's stops it."""
    for table in tables:
        if table.is_cpu and table.numel():
            size, (low, high) = links.shape[1], (int(index) for index in table.aminmax())
            if low < 0 or high >= size:
                raise InvalidInput(f"tables must hold indices 0 ... {size - 1} of {size} links, got {low} ... {high}")
