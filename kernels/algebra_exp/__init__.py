"""algebra_exp: the exponential map from the algebra of SU(N) to the group."""

import ctypes
import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build, gpu
from lattice_flows.kernels.algebra_exp import reference
from lattice_flows.kernels.autograd import OpFunction

__all__ = ["algebra_exp"]

LARGEST = 3
"""The largest N that there is a compiled kernel for."""

LARGEST_ON_GPU = 3
"""The largest N that there is a Triton kernel for."""


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
    n = x.shape[-1] if x.ndim else 0
    if x.dtype not in (torch.complex64, torch.complex128) or x.ndim < 2 or n < 2 or x.shape[-2] != n:
        raise InvalidInput(f"algebra_exp needs complex (..., N, N) matrices, N >= 2, got {x.dtype} {tuple(x.shape)}")
    return _AlgebraExp.apply(x.reshape(math.prod(x.shape[:-2]), n, n)).reshape(x.shape)


def _native(x: Tensor) -> ctypes.CDLL | None:
    n = x.shape[-1]
    return build.native("algebra_exp", x.dtype, n) if n <= LARGEST else None


@torch.library.custom_op("lattice_flows::algebra_exp", mutates_args=())
def _forward(x: Tensor) -> Tensor:
    return reference.algebra_exp(x)


@_forward.register_kernel("cpu")
def _(x):
    library = _native(x)
    if library is None:
        return reference.algebra_exp(x)
    x = x.resolve_conj().contiguous()
    out = torch.empty_like(x)
    build.call(library.algebra_exp, x, len(x), out, torch.get_num_threads())
    return out


@_forward.register_kernel("cuda")
def _(x):
    return gpu.implementation("algebra_exp", x.shape[-1]).algebra_exp(x)


@_forward.register_fake
def _(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("lattice_flows::algebra_exp_backward", mutates_args=())
def _backward(x: Tensor, grad: Tensor) -> Tensor:
    return reference.algebra_exp_backward(x, grad)


@_backward.register_kernel("cpu")
def _(x, grad):
    library = _native(x)
    if library is None:
        return reference.algebra_exp_backward(x, grad)
    x, grad = x.resolve_conj().contiguous(), grad.resolve_conj().contiguous()
    out = torch.empty_like(x)
    build.call(library.algebra_exp_backward, x, grad, len(x), out, torch.get_num_threads())
    return out


@_backward.register_kernel("cuda")
def _(x, grad):
    return gpu.implementation("algebra_exp", x.shape[-1]).algebra_exp_backward(x, grad)


@_backward.register_fake
def _(x, grad):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


class _AlgebraExp(OpFunction):
    @staticmethod
    def forward(x):
        return _forward(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return _backward(x, grad)
