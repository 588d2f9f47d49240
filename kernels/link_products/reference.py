"""link_products in plain PyTorch: the definition of the op.

No lazy conjugates and no torch.func.vjp: they fail silently, or crash, in an op that torch.compile runs for the first
time. AOTDispatcher then watches for aliases in a mode in which the dispatch keys of both are shut off.
"""

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def link_products(links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
    """Products `(batch, n, N, N)` of links `(batch, n_links, N, N)`; see `lattice_flows.kernels.link_products`."""
    return functools.reduce(torch.matmul, _steps(links, table, forward)).contiguous()


def link_products_backward(links: Tensor, table: Tensor, forward: Sequence[bool], grad: Tensor) -> Tensor:
    """The gradient of the links.

    For P = S_1 ... S_k that of S_i is (S_1 ... S_{i-1})^dagger grad (S_{i+1} ... S_k)^dagger.
    """
    steps = _steps(links, table, forward)
    before = [None, *itertools.accumulate(steps[:-1], torch.matmul)]
    total = torch.zeros_like(links, memory_format=torch.contiguous_format)
    for index, ahead, step, left in reversed(list(zip(table, forward, steps, before, strict=True))):
        own = grad if left is None else _adjoint(left) @ grad
        total.index_add_(1, index, own if ahead else _adjoint(own))
        grad = grad @ _adjoint(step)
    return total


def _steps(links: Tensor, table: Tensor, forward: Sequence[bool]) -> list[Tensor]:
    gathered = links.index_select(1, table.flatten()).unflatten(1, table.shape).unbind(1)
    return [link if ahead else _adjoint(link) for link, ahead in zip(gathered, forward, strict=True)]


def _adjoint(m: Tensor) -> Tensor:
    return m.mT.conj_physical()
