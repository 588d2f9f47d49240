"""circular_spline in plain PyTorch: the definition of the op."""

import functools
import math

import torch
from torch import Tensor

from lattice_flows.kernels.define import gradients
from lattice_flows.kernels.splines import knots, n_knot_params, rational_quadratic


def n_params(bins: int) -> int:
    """Parameters per angle: a spline whose two end slopes are one, and a shift.

    Example:
        >>> n_params(bins=8)
        25
    """
    return n_knot_params(bins, circular=True) + 1


def wrap(angle: Tensor) -> Tensor:
    """The representative of an angle in [-pi, pi)."""
    return angle - 2 * math.pi * torch.floor((angle + math.pi) / (2 * math.pi))


def circular_spline(angle: Tensor, params: Tensor, bins: int, inverse: bool) -> tuple[Tensor, Tensor]:
    """h(angle) - angle and log|dh/dangle|, or the same of h^-1; see `lattice_flows.kernels.circular_spline`."""
    shift = params[..., -1]
    moved = wrap(angle - shift) if inverse else angle
    curve = knots(params[..., :-1], bins, circular=True)
    x, rest = (math.pi + moved) / (2 * math.pi), (math.pi - moved) / (2 * math.pi)
    y, _, log_slope = rational_quadratic(x, rest, curve, inverse)
    new = (2 * y - 1) * math.pi
    return wrap((new if inverse else new + shift) - angle), log_slope


def circular_spline_backward(
    angle: Tensor, params: Tensor, grad_step: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of the angle and of the parameters."""
    function = functools.partial(circular_spline, bins=bins, inverse=inverse)
    grad_angle, grad_params = gradients(function, (angle, params), (grad_step, grad_logdet))
    return grad_angle, grad_params
