"""periodic_conv in plain PyTorch: the definition of the op."""

import torch
from torch import Tensor
from torch.nn import functional

from lattice_flows.kernels.define import gradients


def periodic_conv(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution `(batch, out, *sites)`; see `lattice_flows.kernels.periodic_conv`.

    In four dimensions it is a sum of three-dimensional ones, a place of the kernel along the first axis each.
    """
    dim, reach = x.ndim - 2, weight.shape[-1] // 2
    if dim < 4:
        return (functional.conv2d if dim == 2 else functional.conv3d)(_wrap(x, dim, reach), weight)
    # fold the first axis into the batch and convolve over the other three
    rows = _wrap(x.movedim(2, 1).flatten(0, 1), 3, reach)
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for place, kernel in enumerate(weight.unbind(2)):
        seen = functional.conv3d(rows, kernel).unflatten(0, (len(x), x.shape[2]))
        total = total + seen.roll(reach - place, 1)
    return total.movedim(1, 2)


def periodic_conv_backward(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the weights."""
    grad_x, grad_weight = gradients(periodic_conv, (x, weight), (grad,))
    return grad_x, grad_weight


def _wrap(x: Tensor, dim: int, reach: int) -> Tensor:
    """Repeat `reach` sites of the other side at both ends of the last `dim` axes."""
    for axis in range(-dim, 0):
        index = torch.arange(-reach, x.shape[axis] + reach, device=x.device) % x.shape[axis]
        x = x.index_select(axis, index)
    return x
