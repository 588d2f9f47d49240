"""spectral_power: real powers of SU(N) matrices, in the group and covariant under conjugation."""

import ctypes
import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.kernels import build
from lattice_flows.kernels.autograd import OpFunction
from lattice_flows.kernels.spectral_power import reference

__all__ = ["spectral_power"]

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""The precision of the exponents: a table, because torch.compile does not trace dtype.to_real()."""

LARGEST = 8
"""The largest N that there is a compiled kernel for."""


def spectral_power(w: Tensor, exponent: float | Tensor) -> Tensor:
    """The principal power w^s = V diag(exp(i s theta)) V^dagger of w = V diag(exp(i theta)) V^dagger in SU(N).

    The phases theta are those in the alcove: sorted, of sum 0, theta_N - theta_1 <= 2 pi. So w^s lies in SU(N), and
    V w^s V^dagger = (V w V^dagger)^s. Once differentiable in w, with the part of the gradient that is tangent to SU(N),
    which for s that is not an integer grows like 1 / (2 pi - theta_N + theta_1): the README beside this file has the
    maths and says what happens where that vanishes.

    Shapes: w `(..., N, N)` in SU(N), complex; exponent a number, or a real tensor of the same precision that
    broadcasts to `(...)` -> `(..., N, N)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, the exponent is not finite, or it requires grad.
        NumericalFailure: w holds NaN or Inf, or is not unitary.

    Source: Yu. Daleckii and S. Krein (1951), for the derivative.

    Example:
        >>> import torch
        >>> w = torch.diag(torch.exp(1j * torch.tensor([0.5, -0.2, -0.3])))
        >>> spectral_power(w, 2.0).diagonal().angle()
        tensor([ 1.0000, -0.4000, -0.6000])
    """
    batch, n = w.shape[:-2], w.shape[-1]
    if w.dtype not in REAL or w.ndim < 2 or n < 2 or w.shape[-2] != n:
        raise InvalidInput(f"spectral_power needs complex (..., N, N) matrices, N >= 2, got {w.dtype} {tuple(w.shape)}")
    s = _exponents(exponent, batch, w)
    return _SpectralPower.apply(w.reshape(batch.numel(), n, n), s.reshape(batch.numel())).reshape(w.shape)


def _exponents(exponent: float | Tensor, batch: torch.Size, w: Tensor) -> Tensor:
    real = REAL[w.dtype]
    if not isinstance(exponent, Tensor):
        # by comparisons, which torch.compile traces
        if not isinstance(exponent, int | float) or not -math.inf < exponent < math.inf:
            raise InvalidInput(f"the exponent must be a finite real number or a tensor of them, got {exponent!r}")
        return torch.full((), exponent, dtype=real, device=w.device).expand(batch)
    if exponent.dtype != real or exponent.device != w.device:
        raise InvalidInput(
            f"the exponents must be {real} on {w.device} for these matrices, got {exponent.dtype} on {exponent.device}"
        )
    if exponent.requires_grad:
        raise InvalidInput("spectral_power has no derivative with respect to the exponent; detach() it")
    sizes = zip(reversed(exponent.shape), reversed(batch), strict=False)
    if exponent.ndim > len(batch) or any(own not in (1, size) for own, size in sizes):
        raise InvalidInput(
            f"the exponents must broadcast to {tuple(batch)}, the batch of the matrices, got {tuple(exponent.shape)}"
        )
    return exponent.expand(batch)


def _native(w: Tensor) -> ctypes.CDLL | None:
    n = w.shape[-1]
    return build.native("spectral_power", w.dtype, n) if n <= LARGEST else None


def _check(failures: int) -> None:
    if failures:
        raise NumericalFailure("spectral_power: the matrices hold NaN or Inf, or are not unitary")


@torch.library.custom_op("lattice_flows::spectral_power", mutates_args=())
def _forward(w: Tensor, exponent: Tensor) -> Tensor:
    return reference.spectral_power(w, exponent)


@_forward.register_kernel("cpu")
def _(w, exponent):
    library = _native(w)
    if library is None:
        return reference.spectral_power(w, exponent)
    w = w.contiguous()
    power = torch.empty_like(w)
    failures = build.call(
        library.spectral_power, w, exponent, exponent.stride(0), w.shape[0], power, torch.get_num_threads()
    )  # fmt: skip
    _check(failures)
    return power


@_forward.register_fake
def _(w, exponent):
    return torch.empty_like(w, memory_format=torch.contiguous_format)


@torch.library.custom_op("lattice_flows::spectral_power_backward", mutates_args=())
def _backward(w: Tensor, exponent: Tensor, grad: Tensor) -> Tensor:
    return reference.spectral_power_backward(w, exponent, grad)


@_backward.register_kernel("cpu")
def _(w, exponent, grad):
    library = _native(w)
    if library is None:
        return reference.spectral_power_backward(w, exponent, grad)
    w, grad = w.contiguous(), grad.contiguous()
    grad_w = torch.empty_like(w)
    failures = build.call(
        library.spectral_power_backward, w, exponent, exponent.stride(0), grad, w.shape[0], grad_w,
        torch.get_num_threads(),
    )  # fmt: skip
    _check(failures)
    return grad_w


@_backward.register_fake
def _(w, exponent, grad):
    return torch.empty_like(w, memory_format=torch.contiguous_format)


class _SpectralPower(OpFunction):
    @staticmethod
    def forward(w, exponent):
        return _forward(w, exponent)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return _backward(*ctx.saved_tensors, grad), None
