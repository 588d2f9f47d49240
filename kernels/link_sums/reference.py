"""link_sums in plain PyTorch: the definition of the op."""

from collections.abc import Sequence

from torch import Tensor

from lattice_flows.kernels.link_products.reference import check_indices, link_products
from lattice_flows.kernels.matrices import project


def link_sums(links: Tensor, tables: Tensor, forward: Sequence[bool]) -> Tensor:
    """Sums `(batch, n, N, N)` of products of links `(batch, n_links, N, N)`; see `lattice_flows.kernels.link_sums`.

    The orientations of all walks stand one after the other.
    """
    total = links.new_zeros(len(links), tables.shape[-1], *links.shape[2:])
    for walk, table in enumerate(tables):
        steps = len(table)
        total = total + link_products(links, table, forward[walk * steps : (walk + 1) * steps])
    return total


def link_forces(links: Tensor, tables: Tensor, forward: Sequence[bool], active: Tensor) -> Tensor:
    """Traceless anti-Hermitian parts `(batch, n, N, N)` of U[active] times the sums."""
    check_indices(links, active)
    return project(links.index_select(1, active) @ link_sums(links, tables, forward))
