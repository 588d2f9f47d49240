"""unitary_eig: eigenphases and orthonormal eigenvectors of batched unitary matrices."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.kernels import build
from lattice_flows.kernels.unitary_eig import reference

__all__ = ["unitary_eig"]

LARGEST = 8
"""The largest N that there is a compiled kernel for."""


def unitary_eig(w: Tensor) -> tuple[Tensor, Tensor]:
    """Phases `(..., N)` in [-pi, pi], in no particular order, and unitary eigenvectors `(..., N, N)` of unitary `w`.

        w = V diag(exp(i phases)) V^dagger,   V^dagger V = 1 to rounding, also where phases meet

    `torch.linalg.eig` does not serve: its eigenvectors of a normal matrix lose their orthogonality as phases approach
    each other. No derivative is defined: `lattice_flows.kernels.spectrum` has those of what does not depend on the
    frame. The maths is in the README beside this file.

    Shapes: w `(..., N, N)`, complex, any N -> phases `(..., N)`, real, frame `(..., N, N)`.

    Raises:
        InvalidInput: `w` is not complex or not square.
        NumericalFailure: `w` holds NaN or Inf, or is not unitary.

    Source: H. H. Goldstine and L. P. Horwitz, J. ACM 6 (1959) 176.

    Example:
        >>> import torch
        >>> w = torch.diag(torch.exp(1j * torch.tensor([0.5, -0.2, -0.3])))
        >>> phases, frame = unitary_eig(w)
        >>> phases.sort().values
        tensor([-0.3000, -0.2000,  0.5000])
    """
    if w.dtype not in (torch.complex64, torch.complex128) or w.ndim < 2 or w.shape[-1] != w.shape[-2]:
        raise InvalidInput(f"unitary_eig needs complex (..., N, N) matrices, got {w.dtype} {tuple(w.shape)}")
    batch, n = w.shape[:-2], w.shape[-1]
    phases, frame = _forward(w.detach().reshape(batch.numel(), n, n))
    return phases.reshape(*batch, n), frame.reshape(w.shape)


@torch.library.custom_op("lattice_flows::unitary_eig", mutates_args=())
def _forward(w: Tensor) -> tuple[Tensor, Tensor]:
    return reference.unitary_eig(w)


@_forward.register_kernel("cpu")
def _(w):
    n = w.shape[-1]
    library = build.native("unitary_eig", w.dtype, n) if 2 <= n <= LARGEST else None
    if library is None:
        return reference.unitary_eig(w)
    w = w.contiguous()
    phases, frame = w.real.new_empty(w.shape[:2]), torch.empty_like(w)
    if build.call(library.unitary_eig, w, w.shape[0], phases, frame, torch.get_num_threads()):
        raise NumericalFailure(reference.FAILURE)
    return phases, frame


@_forward.register_fake
def _(w):
    return w.real.new_empty(w.shape[:2]), torch.empty_like(w, memory_format=torch.contiguous_format)
