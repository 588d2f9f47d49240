"""unitary_eig: eigenphases and orthonormal eigenvectors of batched unitary matrices."""

from torch import Tensor

from lattice_flows.kernels.define import define_op, like, underivable
from lattice_flows.kernels.matrices import check_matrices, not_unitary
from lattice_flows.kernels.unitary_eig import reference

__all__ = ["unitary_eig"]

LARGEST = 8  # the largest N that there is a compiled kernel for


def unitary_eig(w: Tensor) -> tuple[Tensor, Tensor]:
    """Phases `(..., N)` in [-pi, pi], in no particular order, and unitary eigenvectors `(..., N, N)` of unitary `w`.

        w = V diag(exp(i phases)) V^dagger,   V^dagger V = 1 to rounding, also where phases meet

    `torch.linalg.eig` does not serve: its eigenvectors of a normal matrix lose their orthogonality as phases approach
    each other. There is no derivative, and asking for one raises: `lattice_flows.kernels.spectrum` has those of what
    does not depend on the frame. The maths is in the README beside this file.

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
    batch, n = check_matrices(w, "unitary_eig needs", smallest=0)
    phases, frame = _decompose(w.reshape(batch.numel(), n, n))
    return phases.reshape(*batch, n), frame.reshape(w.shape)


_forward = define_op(
    reference.unitary_eig,
    lambda w: (w.real.new_empty(w.shape[:2]), like(w)),
    lambda w, phases, frame: (w.contiguous(), len(w), phases, frame),
    largest=LARGEST,
    failed=not_unitary,
)
_decompose = underivable(_forward)
