"""algebra_exp in plain PyTorch: the definition of the op."""

import torch
from torch import Tensor

from lattice_flows.kernels.matrices import project


def algebra_exp(x: Tensor) -> Tensor:
    """exp of the traceless anti-Hermitian part of x `(..., N, N)`; see `lattice_flows.kernels.algebra_exp`."""
    return torch.linalg.matrix_exp(project(x))


def algebra_exp_backward(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of x, traceless and anti-Hermitian.

    The adjoint of the derivative of exp at x is its derivative at x^dagger = -x, and a derivative is a block of

        exp [[a, b], [0, a]] = [[exp(a), dexp(a) b], [0, exp(a)]]

    (I. Najfeld and T. F. Havel, Adv. Appl. Math. 16 (1995) 321).
    """
    n = x.shape[-1]
    # of the size of 1, as more would cost matrix_exp squarings and digits
    size = grad.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
    x, b = -project(x), grad / size
    block = torch.cat((torch.cat((x, b), dim=-1), torch.cat((torch.zeros_like(x), x), dim=-1)), dim=-2)
    return project(size * torch.linalg.matrix_exp(block)[..., :n, n:])
