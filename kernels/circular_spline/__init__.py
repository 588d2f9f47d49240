"""circular_spline: the U(1) map, a monotone spline of the circle followed by a rotation."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build, gpu
from lattice_flows.kernels.autograd import OpFunction
from lattice_flows.kernels.circular_spline import reference
from lattice_flows.kernels.circular_spline.reference import n_params
from lattice_flows.kernels.splines import check_bins

__all__ = ["circular_spline", "n_params"]


def circular_spline(angle: Tensor, params: Tensor, bins: int, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """h(angle) - angle, in [-pi, pi), and log|dh/dangle|, or the same of h^-1.

    h is a monotone rational-quadratic spline of the circle, cut at pi, and then a rotation by the last parameter. Once
    differentiable in angle and params.

    Shapes: angle `(...)` in [-pi, pi), real; params `(..., n_params(bins))` of the same dtype -> step, logdet `(...)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other, or the number of bins is none from 1 to 64.

    Source: D. J. Rezende et al., 2002.02428.

    Example:
        >>> import torch
        >>> step, logdet = circular_spline(torch.tensor([-3.0, 0.5]), torch.zeros(2, n_params(bins=8)), bins=8)
        >>> bool(step.abs().max() < 1e-6), bool(logdet.abs().max() < 1e-6)  # the identity map
        (True, True)
    """
    expected = (*angle.shape, n_params(check_bins(bins)))
    if angle.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(f"circular_spline needs angles in float32 or float64, got {angle.dtype}")
    if params.shape != expected or params.dtype != angle.dtype:
        raise InvalidInput(
            f"the parameters must be {angle.dtype} of shape {expected} for {bins} bins and these angles, "
            f"got {params.dtype} of shape {tuple(params.shape)}"
        )
    rows = angle.shape[-1] if angle.ndim else 1
    outer = math.prod(angle.shape[:-1])
    step, logdet = _CircularSpline.apply(
        angle.reshape(outer, rows), params.reshape(outer, rows, expected[-1]), bins, inverse
    )
    return step.reshape(angle.shape), logdet.reshape(angle.shape)


@torch.library.custom_op("lattice_flows::circular_spline", mutates_args=())
def _forward(angle: Tensor, params: Tensor, bins: int, inverse: bool) -> tuple[Tensor, Tensor]:
    return reference.circular_spline(angle, params, bins, inverse)


@_forward.register_kernel("cpu")
def _(angle, params, bins, inverse):
    library = build.native("circular_spline", angle.dtype)
    if library is None:
        return reference.circular_spline(angle, params, bins, inverse)
    angle = angle.contiguous()
    step, logdet = torch.empty_like(angle), torch.empty_like(angle)
    build.call(
        library.circular_spline, angle, params, *params.stride(), *angle.shape, bins, inverse, step, logdet,
        torch.get_num_threads(),
    )  # fmt: skip
    return step, logdet


@_forward.register_kernel("cuda")
def _(angle, params, bins, inverse):
    return gpu.implementation("circular_spline").circular_spline(angle, params, bins, inverse)


@_forward.register_fake
def _(angle, params, bins, inverse):
    contiguous = torch.empty_like(angle, memory_format=torch.contiguous_format)
    return contiguous, torch.empty_like(contiguous)


@torch.library.custom_op("lattice_flows::circular_spline_backward", mutates_args=())
def _backward(
    angle: Tensor, params: Tensor, grad_step: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    return reference.circular_spline_backward(angle, params, grad_step, grad_logdet, bins, inverse)


@_backward.register_kernel("cpu")
def _(angle, params, grad_step, grad_logdet, bins, inverse):
    library = build.native("circular_spline", angle.dtype)
    if library is None:
        return reference.circular_spline_backward(angle, params, grad_step, grad_logdet, bins, inverse)
    angle, grad_step, grad_logdet = angle.contiguous(), grad_step.contiguous(), grad_logdet.contiguous()
    grad_angle, grad_params = torch.empty_like(angle), torch.empty_like(params)
    build.call(
        library.circular_spline_backward, angle, params, *params.stride(), grad_step, grad_logdet, *angle.shape, bins,
        inverse, grad_angle, grad_params, *grad_params.stride(), torch.get_num_threads(),
    )  # fmt: skip
    return grad_angle, grad_params


@_backward.register_kernel("cuda")
def _(angle, params, grad_step, grad_logdet, bins, inverse):
    kernel = gpu.implementation("circular_spline")
    return kernel.circular_spline_backward(angle, params, grad_step, grad_logdet, bins, inverse)


@_backward.register_fake
def _(angle, params, grad_step, grad_logdet, bins, inverse):
    return torch.empty_like(angle, memory_format=torch.contiguous_format), torch.empty_like(params)


class _CircularSpline(OpFunction):
    @staticmethod
    def forward(angle, params, bins, inverse):
        return _forward(angle, params, bins, inverse)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.bins, ctx.inverse = inputs[2:]

    @staticmethod
    def backward(ctx, grad_step, grad_logdet):
        angle, params = ctx.saved_tensors
        return *_backward(angle, params, grad_step, grad_logdet, ctx.bins, ctx.inverse), None, None
