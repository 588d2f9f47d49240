"""circular_spline: the U(1) map, a monotone spline of the circle followed by a rotation."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.circular_spline import reference
from lattice_flows.kernels.circular_spline.reference import n_params
from lattice_flows.kernels.define import define_op, differentiable, like
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
    outer = angle.shape[:-1].numel()
    step, logdet = _derivable(angle.reshape(outer, rows), params.reshape(outer, rows, expected[-1]), bins, inverse)
    return step.reshape(angle.shape), logdet.reshape(angle.shape)


_forward = define_op(
    reference.circular_spline,
    lambda angle, params, bins, inverse: (like(angle), like(angle)),
    lambda angle, params, bins, inverse, *out: (
        angle.contiguous(), params, *params.stride(), *angle.shape, bins, inverse, *out
    ),
)  # fmt: skip
_backward = define_op(
    reference.circular_spline_backward,
    lambda angle, params, *_: (like(angle), torch.empty_like(params)),
    lambda angle, params, grad_step, grad_logdet, bins, inverse, grad_angle, grad_params: (
        angle.contiguous(), params, *params.stride(), grad_step.contiguous(), grad_logdet.contiguous(), *angle.shape,
        bins, inverse, grad_angle, grad_params, *grad_params.stride(),
    ),
)  # fmt: skip
_derivable = differentiable(_forward, _backward, tensors=2, numbers=2)
