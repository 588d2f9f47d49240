"""circular_spline for GPUs, in Triton: one angle a lane."""

from __future__ import annotations

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import (
    CIRCULAR,
    PI,
    TWO_PI,
    block_of_lanes,
    follow,
    follow_back,
    jit,
    launch,
    offsets,
    store_gradients,
    tl,
)


def circular_spline(angle: Tensor, params: Tensor, bins: int, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """h(angle) - angle and log|dh/dangle| `(B, A)` of `angle` `(B, A)` and `params` `(B, A, P)` of any strides."""
    angle = angle.detach().contiguous()
    step, logdet = torch.empty_like(angle), torch.empty_like(angle)
    launch(
        forward_kernel, angle.numel(), angle, params.detach(), step, logdet, angle.numel(), angle.shape[1],
        *params.stride(), BINS=bins, INVERSE=inverse,
    )  # fmt: skip
    return step, logdet


def circular_spline_backward(
    angle: Tensor, params: Tensor, grad_step: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of the angle, contiguous, and of the parameters, which have the strides of empty_like(params)."""
    angle, grad_params = angle.detach().contiguous(), torch.empty_like(params)
    grad_angle = torch.empty_like(angle)
    launch(
        backward_kernel, angle.numel(), angle, params.detach(), grad_step.contiguous(), grad_logdet.contiguous(),
        grad_angle, grad_params, angle.numel(), angle.shape[1], *params.stride(), *grad_params.stride(),
        BINS=bins, INVERSE=inverse,
    )  # fmt: skip
    return grad_angle, grad_params


@jit
def _wrap(angle):
    return angle - tl.floor((angle + PI) / TWO_PI) * TWO_PI


@jit
def _spline(angle, params, stride, BINS: tl.constexpr, INVERSE: tl.constexpr):
    """The `follow` of a point of the circle, and the shift."""
    shift = tl.load(params + tl.cast(stride, tl.int64) * (3 * BINS))
    moved = angle
    if INVERSE:
        moved = _wrap(angle - shift)
    x, rest = (moved + PI) / TWO_PI, (-moved + PI) / TWO_PI
    return follow(params, stride, tl.zeros_like(x) + 1, x, rest, BINS, CIRCULAR, INVERSE), shift


@jit
def forward_kernel(
    angles, numbers, steps, logdets, count, rows, outer_stride, row_stride, stride,
    BINS: tl.constexpr, INVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Steps and log-determinants of a block of angles."""
    lane, valid = block_of_lanes(count, BLOCK)
    angle = tl.load(angles + lane)
    here = numbers + offsets(lane, rows, outer_stride, row_stride)
    path, shift = _spline(angle, here, stride, BINS, INVERSE)
    new = (2 * path[2] - 1) * PI
    if not INVERSE:
        new += shift
    tl.store(steps + lane, _wrap(new - angle), mask=valid)
    tl.store(logdets + lane, path[4], mask=valid)


@jit
def backward_kernel(
    angles, numbers, grad_steps, grad_logdets, grad_angles, grad_params, count, rows,
    outer_stride, row_stride, stride, grad_outer_stride, grad_row_stride, grad_stride,
    BINS: tl.constexpr, INVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of angles and of their parameters; the forward pass is computed anew."""
    lane, valid = block_of_lanes(count, BLOCK)
    angle, c_step = tl.load(angles + lane), tl.load(grad_steps + lane)
    here = numbers + offsets(lane, rows, outer_stride, row_stride)
    grads = grad_params + offsets(lane, rows, grad_outer_stride, grad_row_stride)
    path, _ = _spline(angle, here, stride, BINS, INVERSE)
    c_x, cotangents = follow_back(path, c_step * TWO_PI, tl.load(grad_logdets + lane), None, None, BINS, INVERSE)
    c_moved = c_x / TWO_PI
    tl.store(grad_angles + lane, c_moved - c_step, mask=valid)
    c_shift = -c_moved if INVERSE else c_step
    tl.store(grads + tl.cast(grad_stride, tl.int64) * (3 * BINS), c_shift, mask=valid)
    zero = tl.zeros_like(c_x)
    store_gradients(here, stride, grads, grad_stride, path, cotangents, zero, valid, BINS, CIRCULAR)
