"""link_products of N <= 3 for GPUs, in Triton: sums of one walk. The gradient is that of the reference."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lattice_flows.kernels.link_products.reference import link_products_backward
from lattice_flows.kernels.link_sums.triton import link_sums

__all__ = ["link_products", "link_products_backward"]


def link_products(links: Tensor, table: Tensor, forward: Sequence[bool]) -> Tensor:
    """Products `(batch, n, N, N)` of links along walks; see `lattice_flows.kernels.link_products`."""
    return link_sums(links, table[None], forward)
