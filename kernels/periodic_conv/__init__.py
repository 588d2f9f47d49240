"""periodic_conv: convolutions on periodic lattices of two to four dimensions."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, differentiable, like, plain
from lattice_flows.kernels.periodic_conv import reference

__all__ = ["periodic_conv"]


def periodic_conv(x: Tensor, weight: Tensor) -> Tensor:
    """y_o(s) = sum over channels c and places d of weight_oc(d) x_c(s + d), d from -(k - 1) / 2 to (k - 1) / 2.

    Sites are periodic, and d has a component a direction. Once differentiable in x and the weights.

    Shapes: x `(batch, in, *sites)`, real, two to four dimensions; weight `(out, in, k, ...)` of the same dtype, k odd
    and the same in all directions -> `(batch, out, *sites)`.

    Raises:
        InvalidInput: shapes or dtypes do not fit each other.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[None, None]
        >>> weight = torch.zeros(1, 1, 3, 3)
        >>> weight[0, 0, 1, 2] = 1  # the neighbour ahead in the second direction
        >>> periodic_conv(x, weight)[0, 0]
        tensor([[2., 3., 1.],
                [5., 6., 4.]])
    """
    dim, size = x.ndim - 2, weight.shape[-1]
    if not 2 <= dim <= 4 or x.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(
            f"periodic_conv needs float32 or float64 (batch, in, *sites) of two to four dimensions, "
            f"got {x.dtype} {tuple(x.shape)}"
        )
    if weight.dtype != x.dtype or size % 2 == 0 or weight.shape[1:] != (x.shape[1], *[size] * dim):
        raise InvalidInput(
            f"the weights must be {x.dtype} (out, {x.shape[1]}, {', '.join(['k'] * dim)}), k odd, "
            f"got {weight.dtype} {tuple(weight.shape)}"
        )
    return _derivable(x, weight)


def _sizes(x: Tensor, weight: Tensor) -> tuple[Tensor | int, ...]:
    sites, size = x.shape[2:], weight.shape[-1]
    return (
        torch.tensor(sites), len(sites), size, *x.shape[:2], len(weight), size ** len(sites), math.prod(sites),
    )  # fmt: skip


_forward = define_op(
    reference.periodic_conv,
    lambda x, weight: x.new_empty(len(x), len(weight), *x.shape[2:]),
    lambda x, weight, y: (plain(x), plain(weight), *_sizes(x, weight), y),
)
_backward = define_op(
    reference.periodic_conv_backward,
    lambda x, weight, grad: (like(x), like(weight)),
    lambda x, weight, grad, *out: (plain(x), plain(weight), plain(grad), *_sizes(x, weight), *out),
)
_derivable = differentiable(_forward, _backward, tensors=2)
