"""spectral_power: real powers of SU(N) matrices, in the group and covariant under conjugation."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, differentiable, like
from lattice_flows.kernels.matrices import REAL, check_matrices, not_unitary
from lattice_flows.kernels.spectral_power import reference

__all__ = ["spectral_power"]

LARGEST = 8  # the largest N that there is a compiled kernel for


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
    batch, n = check_matrices(w, "spectral_power needs")
    s = _exponents(exponent, batch, w)
    return _derivable(w.reshape(batch.numel(), n, n), s.reshape(batch.numel())).reshape(w.shape)


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


_forward = define_op(
    reference.spectral_power,
    like,
    lambda w, exponent, power: (w.contiguous(), exponent, exponent.stride(0), len(w), power),
    largest=LARGEST,
    failed=not_unitary,
)
_backward = define_op(
    reference.spectral_power_backward,
    like,
    lambda w, exponent, grad, out: (w.contiguous(), exponent, exponent.stride(0), grad.contiguous(), len(w), out),
    largest=LARGEST,
    failed=not_unitary,
)
_derivable = differentiable(_forward, _backward, tensors=2)
