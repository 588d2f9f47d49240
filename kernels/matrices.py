"""Matrices in the references: without lazy conjugates, which ops below a dispatch mode silently leave out."""

from typing import NoReturn

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, NumericalFailure

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""The precision of complex numbers: a table, because torch.compile does not trace dtype.to_real()."""


def check_matrices(x: Tensor, wanting: str, smallest: int = 2) -> tuple[torch.Size, int]:
    """The batch shape and N of complex x `(..., N, N)`; of others the InvalidInput begins with `wanting`."""
    shape = x.shape
    if x.dtype not in REAL or len(shape) < 2 or shape[-1] < smallest or shape[-2] != shape[-1]:
        least = f", N >= {smallest}" if smallest else ""
        raise InvalidInput(f"{wanting} complex (..., N, N) matrices{least}, got {x.dtype} {tuple(shape)}")
    return shape[:-2], shape[-1]


def not_unitary(op: str, *inputs: Tensor | int) -> NoReturn:
    """Raises what an op that needs unitary matrices says of others."""
    raise NumericalFailure(f"{op}: the matrices hold NaN or Inf, or are not unitary")


def adjoint(m: Tensor) -> Tensor:
    """The conjugate transpose."""
    return m.mT.conj_physical()


def project(x: Tensor) -> Tensor:
    """The traceless anti-Hermitian part of matrices: their part in the algebra of SU(N)."""
    x = (x - adjoint(x)) / 2
    trace = x.diagonal(dim1=-2, dim2=-1).mean(-1)
    return x - trace[..., None, None] * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def orthonormal(m: Tensor) -> Tensor:
    """The columns made orthonormal, one after the other: Q of m = Q R, where R has a positive diagonal.

    The QR decomposition of small matrices on GPUs does one at a time. There it is Gram's and Schmidt's, twice.

    Source: L. Giraud et al., Numer. Math. 101 (2005) 87, for the second time.
    """
    if m.device.type == "cpu":
        q, r = torch.linalg.qr(m)
        return q * torch.sgn(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    return gram_schmidt(m)


def gram_schmidt(m: Tensor) -> Tensor:
    """What `orthonormal` says, column by column."""
    found: list[Tensor] = []
    for column in m.unbind(-1):
        for other in 2 * found:
            column = column - (other.conj_physical() * column).sum(-1, keepdim=True) * other
        found.append(column / torch.linalg.vector_norm(column, dim=-1, keepdim=True))
    return torch.stack(found, dim=-1)
