"""algebra_exp: the exponential map from the algebra of SU(N) to the group."""

from torch import Tensor

from lattice_flows.kernels.algebra_exp import reference
from lattice_flows.kernels.define import define_op, differentiable, like, plain
from lattice_flows.kernels.matrices import check_matrices

__all__ = ["algebra_exp"]

LARGEST = 3  # the largest N that there is a compiled kernel for
LARGEST_ON_GPU = 3  # and a Triton kernel


def algebra_exp(x: Tensor) -> Tensor:
    """exp(x) for traceless anti-Hermitian x, any N >= 2 and any norm: an element of SU(N).

    Where x is in the algebra up to rounding only, it is the exponential of its part in the algebra, and so unitary all
    the same. Once differentiable: the gradient is traceless and anti-Hermitian. Where x is not finite, nor is exp(x).

    Shapes: x `(..., N, N)`, complex64 or complex128 -> `(..., N, N)`.

    Raises:
        InvalidInput: x is not complex, or its matrices are not square.

    Source: the form of SU(3) in powers of x and its derivative, C. Morningstar and M. Peardon, hep-lat/0311018.

    Example:
        >>> import torch
        >>> x = torch.diag(torch.tensor([0.5j, -0.2j, -0.3j]))
        >>> bool((algebra_exp(x) - torch.diag(torch.exp(x.diagonal()))).abs().max() < 1e-6)
        True
    """
    batch, n = check_matrices(x, "algebra_exp needs")
    return _derivable(x.reshape(batch.numel(), n, n)).reshape(x.shape)


_forward = define_op(reference.algebra_exp, like, lambda x, out: (plain(x), len(x), out), largest=LARGEST)
_backward = define_op(
    reference.algebra_exp_backward,
    like,
    lambda x, grad, out: (plain(x), plain(grad), len(x), out),
    largest=LARGEST,
)
_derivable = differentiable(_forward, _backward, tensors=1)
