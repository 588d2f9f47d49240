"""link_stout in plain PyTorch: the definition of the op."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.link_products.reference import check_indices, link_products
from lattice_flows.kernels.matrices import REAL, adjoint, project


def link_stout(
    links: Tensor, tables: Tensor, forward: Sequence[bool], active: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Links `(batch, n, N, N)` after the step, and log-determinants `(batch, n)`; see `link_stout` of the folder.

    The orientations of all walks stand one after the other.
    """
    check_indices(links, active)
    steps, link = tables.shape[1], links.index_select(1, active)
    total = torch.zeros_like(link)
    for walk, (table, weight) in enumerate(zip(tables, weights, strict=True)):
        total = total + weight * link_products(links, table, forward[walk * steps : (walk + 1) * steps])
    b = -(link @ total.to(links.dtype))
    turn = torch.linalg.matrix_exp(project(b))
    return turn @ link, _log_det(b, turn)


def _log_det(b: Tensor, turn: Tensor) -> Tensor:
    """log det of X -> X + exp(-Q) dexp_Q(P[X B]) on all matrices X, which changes the part in the algebra alone.

    A derivative of exp is a block of the exponential of a matrix of twice the size.
    """
    n = b.shape[-1]
    units = torch.eye(2 * n * n, dtype=REAL[b.dtype], device=b.device)
    x = project(torch.view_as_complex(units.reshape(-1, n, n, 2)) @ b.unsqueeze(-3))
    q = project(b).unsqueeze(-3).expand_as(x)
    block = torch.cat((torch.cat((q, x), dim=-1), torch.cat((torch.zeros_like(q), q), dim=-1)), dim=-2)
    change = adjoint(turn).unsqueeze(-3) @ torch.linalg.matrix_exp(block)[..., :n, n:]
    return torch.linalg.slogdet(torch.view_as_real(change).flatten(-3) + units).logabsdet
