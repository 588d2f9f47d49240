"""link_sums: sums over walks of ordered products of links, such as staples, without the products in memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, underivable
from lattice_flows.kernels.link_products import arguments, flatten
from lattice_flows.kernels.link_products.reference import check_indices
from lattice_flows.kernels.link_sums import reference

__all__ = ["link_forces", "link_sums"]

SMALLEST, LARGEST = 1, 8  # the smallest and largest N that there is a compiled kernel for; N = 1 is U(1)
LARGEST_ON_GPU = 3  # and a Triton kernel

Orientations = Sequence[Sequence[bool]]


def link_sums(links: Tensor, tables: Tensor, forward: Orientations) -> Tensor:
    """The sums over w walks of k steps of products of links, for n ends of such walks:

        S_j = sum_a  S_1 S_2 ... S_k,    S_i = U[tables[a, i, j]] where forward[a][i], else its adjoint.

    The links may be any matrices. There is no derivative, and asking for one raises: `link_products` has one.

    Shapes: links `(*batch, n_links, N, N)`, complex64 or complex128; tables `(w, k, n)`, int64, shared by the batch;
    forward: w times k -> `(*batch, n, N, N)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or an index is not one of a link.

    Example:
        >>> import torch
        >>> links = torch.tensor([2, 3j, 5 + 1j]).reshape(3, 1, 1)
        >>> tables = torch.tensor([[[0], [1]], [[1], [2]]])
        >>> link_sums(links, tables, ((True, False), (True, False))).flatten()  # 2 (-3i) + 3i (5 - i)
        tensor([3.+9.j])
    """
    flat = flatten_along(links, tables, forward)
    sums = _link_sums(flat, tables, [step for walk in forward for step in walk])
    return sums.reshape(*links.shape[:-3], *sums.shape[1:])


def link_forces(links: Tensor, tables: Tensor, forward: Orientations, active: Tensor) -> Tensor:
    """The traceless anti-Hermitian parts of U[active[j]] S_j, with the sums S_j of `link_sums`.

    With the walks that close U[active[j]], the staples, they are the force of a sum of loops. There is no derivative.

    Shapes: active `(n,)`, int64; the others as in `link_sums` -> `(*batch, n, N, N)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or an index is not one of a link.

    Example:
        >>> import torch
        >>> links = torch.tensor([[0, 1j], [1j, 0]])[None]
        >>> index = torch.tensor([0])
        >>> link_forces(links.expand(2, 2, 2), index[None, None], ((False,),), index).abs().max()  # of U U^dagger
        tensor(0.)
    """
    flat = flatten_along(links, tables, forward)
    check_active(active, tables)
    forces = _link_forces(flat, tables, [step for walk in forward for step in walk], active)
    return forces.reshape(*links.shape[:-3], *forces.shape[1:])


def flatten_along(links: Tensor, tables: Tensor, forward: Orientations) -> Tensor:
    """The links with one batch axis, if all fit each other."""
    fits = tables.dtype == torch.int64 and tables.ndim == 3 and min(tables.shape[:2]) >= 1
    if not fits or [len(walk) for walk in forward] != [tables.shape[1]] * tables.shape[0]:
        raise InvalidInput(
            "the tables of link indices must be int64 (walks, steps, n), walks and steps >= 1, with one orientation a "
            f"step of each walk, got {tables.dtype} {tuple(tables.shape)} and {[len(walk) for walk in forward]}"
        )
    return flatten(links)


def check_active(active: Tensor, tables: Tensor) -> None:
    """Raises InvalidInput where there is not an index of a link for every end of walks."""
    if active.dtype != torch.int64 or active.shape != tables.shape[-1:]:
        raise InvalidInput(
            f"the active links must be int64 ({tables.shape[-1]},), one index for every end in the tables, "
            f"got {active.dtype} {tuple(active.shape)}"
        )


def _shapes(links, tables, *_):
    return links.new_empty(len(links), tables.shape[2], *links.shape[2:])


# The compiled functions check indices as they go, and read nothing through those that are not of links.
def _failed(op, links, tables, forward, *active):
    check_indices(links, tables, *active)


_sums = define_op(reference.link_sums, _shapes, arguments, smallest=SMALLEST, largest=LARGEST, failed=_failed)
_forces = define_op(reference.link_forces, _shapes, arguments, smallest=SMALLEST, largest=LARGEST, failed=_failed)
_link_sums, _link_forces = underivable(_sums), underivable(_forces)
