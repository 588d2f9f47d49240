"""special_unitary: elements of SU(N) from any matrices, Haar's from those of normal numbers."""

from torch import Tensor

from lattice_flows.kernels.define import define_op, like, plain, underivable
from lattice_flows.kernels.matrices import check_matrices
from lattice_flows.kernels.special_unitary import reference

__all__ = ["special_unitary"]

LARGEST = 8  # the largest N that there is a compiled kernel for


def special_unitary(m: Tensor) -> Tensor:
    """Q of M = Q R, where R has a positive diagonal but for the phase of its last entry, which makes det Q = 1.

    Each matrix depends on its own M alone. There is no derivative, and asking for one raises.

    Shapes: m `(..., N, N)`, complex, of full rank -> `(..., N, N)`.

    Raises:
        InvalidInput: the matrices are not complex and square.

    Source: L. Giraud et al., Numer. Math. 101 (2005) 87, for Gram's and Schmidt's way twice.

    Example:
        >>> import torch
        >>> m = torch.tensor([[3.0, 1.0], [4.0, 7.0]], dtype=torch.complex64)
        >>> special_unitary(m).real
        tensor([[ 0.6000, -0.8000],
                [ 0.8000,  0.6000]])
    """
    batch, n = check_matrices(m, "special_unitary needs")
    return _derivable(m.reshape(batch.numel(), n, n)).reshape(m.shape)


_op = define_op(
    reference.special_unitary,
    like,
    lambda m, out: (plain(m), len(m), out),
    largest=LARGEST,
)
_derivable = underivable(_op)
