"""link_stout: steps of stout smearing of some links, with the log-determinants of their Jacobians."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.define import define_op, underivable
from lattice_flows.kernels.link_products import arguments
from lattice_flows.kernels.link_products.reference import check_indices
from lattice_flows.kernels.link_stout import reference
from lattice_flows.kernels.link_sums import Orientations, check_active, flatten_along
from lattice_flows.kernels.matrices import REAL

__all__ = ["link_stout"]

LARGEST = 3  # the largest N that there is a compiled kernel for


def link_stout(
    links: Tensor, tables: Tensor, forward: Orientations, active: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The links exp(Q) U, U = U[active[j]], and log|det| of the Jacobian of each at fixed staples:

        Q = -P [U M],   M_j = sum_a weights[a] S_1 S_2 ... S_k,

    P the traceless anti-Hermitian part and S_i the steps of walk a as in `link_sums`. The weights are to have
    sum |weights[a]| < 1: the step has an inverse then. There is no derivative.

    Shapes: links `(*batch, n_links, N, N)`, N >= 2, complex; tables `(w, k, n)` and active `(n,)`, int64; forward: w
    times k; weights `(w,)`, float64 -> `(*batch, n, N, N)`, `(*batch, n)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or an index is not one of a link.

    Source: C. Morningstar, M. Peardon, hep-lat/0311018, for the step.

    Example:
        >>> import torch
        >>> links, index = torch.eye(3, dtype=torch.complex128).expand(2, 3, 3), torch.tensor([0])
        >>> weights = torch.tensor([0.5], dtype=torch.float64)
        >>> moved, logdet = link_stout(links, torch.tensor([[[1]]]), ((False,),), index, weights)
        >>> bool((moved - links[0]).abs().max() < 1e-15), logdet  # 8 log(1 - 0.5)
        (True, tensor([-5.5452], dtype=torch.float64))
    """
    flat = flatten_along(links, tables, forward)
    check_active(active, tables)
    if weights.dtype != torch.float64 or weights.shape != tables.shape[:1]:
        raise InvalidInput(f"weights must be float64 ({len(tables)},), got {weights.dtype} {tuple(weights.shape)}")
    moved, logdet = _link_stout(flat, tables, [step for walk in forward for step in walk], active, weights)
    batch = links.shape[:-3]
    return moved.reshape(*batch, *moved.shape[1:]), logdet.reshape(*batch, *logdet.shape[1:])


def available(links: Tensor) -> bool:
    """Whether there is a kernel for these links."""
    known = links.is_cpu and links.is_complex() and 2 <= links.shape[-1] <= LARGEST
    return known and build.native("link_stout", links.dtype, links.shape[-1]) is not None


def _shapes(links, tables, forward, active, weights):
    shape = len(links), tables.shape[2]
    return links.new_empty(*shape, *links.shape[2:]), links.new_empty(shape, dtype=REAL[links.dtype])


def _failed(op, links, tables, forward, active, weights):
    check_indices(links, tables, active)


_op = define_op(reference.link_stout, _shapes, arguments, largest=LARGEST, failed=_failed)
_link_stout = underivable(_op)
