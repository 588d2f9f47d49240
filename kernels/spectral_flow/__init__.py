"""spectral_flow: the spectral map of SU(N), which moves the eigenphases of a matrix at fixed eigenvectors."""

import ctypes
import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.kernels import build, gpu
from lattice_flows.kernels.autograd import OpFunction
from lattice_flows.kernels.spectral_flow import reference
from lattice_flows.kernels.spectral_flow.reference import n_params
from lattice_flows.kernels.splines import check_bins

__all__ = ["n_params", "spectral_flow"]

LARGEST = 8
"""The largest N that there is a compiled kernel for."""

LARGEST_ON_GPU = 3
"""The largest N that there is a Triton kernel for."""

KEEP_FRAMES_FROM = 5
"""From this N on the eigenvectors are kept for the backward pass; below, they are computed again more quickly."""


def spectral_flow(w: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """g = h(w) w^-1 and the log-determinant of h relative to Haar measure, or the same of h^-1.

    h leaves the eigenvectors of w and maps the gaps between its eigenphases by rational-quadratic splines: the maths is
    in the README beside this file. Once differentiable in w and params; the gradient of w is its part tangent to SU(N).

    Shapes: w `(..., N, N)` in SU(N), complex; params `(..., n_params(N, bins))`, real, of the same precision
    -> g `(..., N, N)`, logdet `(...)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or the number of bins is none from 1 to 64.
        NumericalFailure: w holds NaN or Inf, or is far from unitary.

    Source: D. Boyda et al., 2008.05456; C. Durkan et al., 1906.04032.

    Example:
        >>> import torch
        >>> w = torch.diag(torch.exp(1j * torch.tensor([0.5, -0.2, -0.3])))
        >>> g, logdet = spectral_flow(w, torch.zeros(n_params(3, bins=8)), bins=8)  # the identity map
        >>> bool((g - torch.eye(3)).abs().max() < 1e-6), bool(logdet.abs() < 1e-5)
        (True, True)
    """
    check_bins(bins)
    batch, n = w.shape[:-2], w.shape[-1]
    if w.dtype not in (torch.complex64, torch.complex128) or w.ndim < 2 or n < 2 or w.shape[-2] != n:
        raise InvalidInput(f"spectral_flow needs complex (..., N, N) matrices, N >= 2, got {w.dtype} {tuple(w.shape)}")
    expected = (*batch, n_params(n, bins))
    real = torch.float32 if w.dtype == torch.complex64 else torch.float64
    if params.shape != expected or params.dtype != real:
        raise InvalidInput(
            f"the parameters must be {real} of shape {expected} for {bins} bins and these matrices, "
            f"got {params.dtype} of shape {tuple(params.shape)}"
        )
    # Two batch axes, so that parameters that come plane by plane, as from a convolution, need not be copied.
    rows = batch[-1] if batch else 1
    outer = math.prod(batch[:-1])
    keep = n >= KEEP_FRAMES_FROM and torch.is_grad_enabled() and (w.requires_grad or params.requires_grad)
    g, logdet, _ = _SpectralFlow.apply(
        w.reshape(outer, rows, n, n), params.reshape(outer, rows, expected[-1]), bins, inverse, keep
    )
    return g.reshape(w.shape), logdet.reshape(batch)


def _native(w: Tensor) -> ctypes.CDLL | None:
    n = w.shape[-1]
    return build.native("spectral_flow", w.dtype, n) if n <= LARGEST else None


def _check(failures: int) -> None:
    if failures:
        raise NumericalFailure("spectral_flow: the matrices hold NaN or Inf, or are not unitary")


def _new_frames(w: Tensor, params: Tensor, keep: bool) -> Tensor:
    """Room for the eigenvectors of all matrices, in blocks of as many as the CPU has lanes, at most 16."""
    n = w.shape[-1]
    blocks = w.shape[0] * w.shape[1] + 16
    return params.new_empty(blocks * (2 * n * n + 3 * n + 3) if keep else 0)


@torch.library.custom_op("lattice_flows::spectral_flow", mutates_args=())
def _forward(w: Tensor, params: Tensor, bins: int, inverse: bool, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """g, logdet, and with `keep`, where the implementation has a use for it, the frames of eigenvectors."""
    return *reference.spectral_flow(w, params, bins, inverse), _new_frames(w, params, keep)


@_forward.register_kernel("cpu")
def _(w, params, bins, inverse, keep):
    library = _native(w)
    if library is None:
        return *reference.spectral_flow(w, params, bins, inverse), _new_frames(w, params, keep)
    w = w.contiguous()
    g, logdet, frames = torch.empty_like(w), params.new_empty(w.shape[:2]), _new_frames(w, params, keep)
    failures = build.call(
        library.spectral_flow, w, params, *params.stride(), *w.shape[:2], bins, inverse, g, logdet, frames,
        torch.get_num_threads(),
    )  # fmt: skip
    _check(failures)
    return g, logdet, frames


@_forward.register_kernel("cuda")
def _(w, params, bins, inverse, keep):
    kernel = gpu.implementation("spectral_flow", w.shape[-1])
    return *kernel.spectral_flow(w, params, bins, inverse), _new_frames(w, params, keep)


@_forward.register_fake
def _(w, params, bins, inverse, keep):
    g = torch.empty_like(w, memory_format=torch.contiguous_format)
    return g, params.new_empty(w.shape[:2]), _new_frames(w, params, keep)


@torch.library.custom_op("lattice_flows::spectral_flow_backward", mutates_args=())
def _backward(
    w: Tensor, params: Tensor, frames: Tensor, grad_g: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    return reference.spectral_flow_backward(w, params, grad_g, grad_logdet, bins, inverse)


@_backward.register_kernel("cpu")
def _(w, params, frames, grad_g, grad_logdet, bins, inverse):
    library = _native(w)
    if library is None:
        return reference.spectral_flow_backward(w, params, grad_g, grad_logdet, bins, inverse)
    w, grad_g, grad_logdet = w.contiguous(), grad_g.contiguous(), grad_logdet.contiguous()
    grad_w, grad_params = torch.empty_like(w), torch.empty_like(params)
    failures = build.call(
        library.spectral_flow_backward, w, params, *params.stride(), frames, grad_g, grad_logdet, *w.shape[:2], bins,
        inverse, grad_w, grad_params, *grad_params.stride(), torch.get_num_threads(),
    )  # fmt: skip
    _check(failures)
    return grad_w, grad_params


@_backward.register_kernel("cuda")
def _(w, params, frames, grad_g, grad_logdet, bins, inverse):
    kernel = gpu.implementation("spectral_flow", w.shape[-1])
    return kernel.spectral_flow_backward(w, params, grad_g, grad_logdet, bins, inverse)


@_backward.register_fake
def _(w, params, frames, grad_g, grad_logdet, bins, inverse):
    return torch.empty_like(w, memory_format=torch.contiguous_format), torch.empty_like(params)


class _SpectralFlow(OpFunction):
    @staticmethod
    def forward(w, params, bins, inverse, keep):
        return _forward(w, params, bins, inverse, keep)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2], output[2])
        ctx.mark_non_differentiable(output[2])
        ctx.bins, ctx.inverse = inputs[2:4]

    @staticmethod
    def backward(ctx, grad_g, grad_logdet, _):
        return *_backward(*ctx.saved_tensors, grad_g, grad_logdet, ctx.bins, ctx.inverse), None, None, None
