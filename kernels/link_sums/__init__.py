"""link_sums: sums over walks of ordered products of links, such as staples, without the products in memory."""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_sums import reference
from lattice_flows.kernels.no_derivative import Underivable

__all__ = ["link_forces", "link_sums"]

SMALLEST, LARGEST = 1, 8
"""The smallest and the largest N that there is a compiled kernel for; N = 1 is U(1)."""

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
    flat = _flatten(links, tables, forward)
    sums = _LinkSums.apply(flat, tables, [step for walk in forward for step in walk])
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
    flat = _flatten(links, tables, forward)
    if active.dtype != torch.int64 or active.shape != tables.shape[-1:]:
        raise InvalidInput(
            f"the active links must be int64 ({tables.shape[-1]},), one index for every end in the tables, "
            f"got {active.dtype} {tuple(active.shape)}"
        )
    forces = _LinkForces.apply(flat, tables, [step for walk in forward for step in walk], active)
    return forces.reshape(*links.shape[:-3], *forces.shape[1:])


def _flatten(links: Tensor, tables: Tensor, forward: Orientations) -> Tensor:
    """The links with one batch axis, if all fit each other."""
    if links.dtype not in (torch.complex64, torch.complex128) or links.ndim < 3 or links.shape[-1] != links.shape[-2]:
        raise InvalidInput(f"links must be complex (*batch, n_links, N, N), got {links.dtype} {tuple(links.shape)}")
    fits = tables.dtype == torch.int64 and tables.ndim == 3 and min(tables.shape[:2]) >= 1
    if not fits or [len(walk) for walk in forward] != [tables.shape[1]] * tables.shape[0]:
        raise InvalidInput(
            "the tables of link indices must be int64 (walks, steps, n), walks and steps >= 1, with one orientation a "
            f"step of each walk, got {tables.dtype} {tuple(tables.shape)} and {[len(walk) for walk in forward]}"
        )
    return links.reshape(math.prod(links.shape[:-3]), *links.shape[-3:])


def _native(links: Tensor) -> ctypes.CDLL | None:
    n = links.shape[-1]
    return build.native("link_sums", links.dtype, n) if SMALLEST <= n <= LARGEST else None


def _refuse(links: Tensor, *tables: Tensor) -> None:
    """Raises where an index is not one of a link."""
    for table in tables:
        if table.numel():
            last, (low, high) = links.shape[1] - 1, (int(index) for index in table.aminmax())
            if low < 0 or high > last:
                raise InvalidInput(f"the tables must hold indices 0 ... {last} of the links, got {low} ... {high}")


@torch.library.custom_op("lattice_flows::link_sums", mutates_args=())
def _sums(links: Tensor, tables: Tensor, forward: Sequence[bool]) -> Tensor:
    return reference.link_sums(links, tables, forward)


@_sums.register_kernel("cpu")
def _(links, tables, forward):
    library = _native(links)
    if library is None:
        _refuse(links, tables)
        return reference.link_sums(links, tables, forward)
    return _call(library.link_sums, links, tables, forward)


@_sums.register_fake
def _(links, tables, forward):
    return links.new_empty(len(links), tables.shape[2], *links.shape[2:])


@torch.library.custom_op("lattice_flows::link_forces", mutates_args=())
def _forces(links: Tensor, tables: Tensor, forward: Sequence[bool], active: Tensor) -> Tensor:
    return reference.link_forces(links, tables, forward, active)


@_forces.register_kernel("cpu")
def _(links, tables, forward, active):
    library = _native(links)
    if library is None:
        _refuse(links, tables, active)
        return reference.link_forces(links, tables, forward, active)
    return _call(library.link_forces, links, tables, forward, active)


@_forces.register_fake
def _(links, tables, forward, active):
    return links.new_empty(len(links), tables.shape[2], *links.shape[2:])


def _call(function, links: Tensor, tables: Tensor, forward: Sequence[bool], *active: Tensor) -> Tensor:
    """Of a compiled function, which checks indices as it goes and reads nothing through those that are not of links."""
    out = links.new_empty(len(links), tables.shape[2], *links.shape[2:])
    failed = build.call(
        function, links.resolve_conj().contiguous(), tables.contiguous(), torch.tensor(forward, dtype=torch.int64),
        *(index.contiguous() for index in active), *links.shape[:2], *tables.shape, out, torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        _refuse(links, tables, *active)
    return out


class _LinkSums(Underivable):
    @staticmethod
    def forward(links, tables, forward):
        return _sums(links, tables, forward)


class _LinkForces(Underivable):
    @staticmethod
    def forward(links, tables, forward, active):
        return _forces(links, tables, forward, active)
