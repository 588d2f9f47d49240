"""Gradients of all ranks, summed in place: one message a step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from lattice_flows.distributed import World


class Reduction:
    """Buffers that the gradients of parameters are views into, with room for the log-weights of the batch.

    Autograd adds to the gradients where they are, and the ranks sum the buffers where they are: there is one buffer for
    each precision, mostly one.

    Args:
        parameters: of one device; their `.grad` is replaced.
        batch: the number of samples of all ranks together.

    Attributes:
        log_w: `(batch,)`, of which each rank fills in its own part.

    Example:
        >>> weight = nn.Parameter(torch.ones(2))
        >>> buffers = Reduction([weight], batch=3)
        >>> (weight**2).sum().backward()
        >>> buffers.sum_(World())
        >>> weight.grad, buffers.log_w
        (tensor([2., 2.]), tensor([0., 0., 0.]))
    """

    def __init__(self, parameters: Iterable[nn.Parameter], batch: int):
        self.parameters = list(parameters)
        room = {parameter.dtype: 0 for parameter in self.parameters}
        main = next(iter(room))
        for parameter in self.parameters:
            room[parameter.dtype] += parameter.numel()
        device = self.parameters[0].device
        self._buffers = {
            dtype: torch.zeros(size + batch * (dtype == main), dtype=dtype, device=device)
            for dtype, size in room.items()
        }
        self.log_w = self._buffers[main][room[main] :]
        begin = dict.fromkeys(room, 0)
        for parameter in self.parameters:
            end = begin[parameter.dtype] + parameter.numel()
            parameter.grad = self._buffers[parameter.dtype][begin[parameter.dtype] : end].view_as(parameter)
            begin[parameter.dtype] = end

    def zero_(self) -> None:
        """Forgets what is in the buffers."""
        for buffer in self._buffers.values():
            buffer.zero_()

    def fail_(self) -> None:
        """Spoils the buffers, so that every rank sees that this one could not compute its part."""
        for buffer in self._buffers.values():
            buffer.fill_(math.nan)

    def sum_(self, world: World) -> None:
        """Sums over all ranks."""
        for buffer in self._buffers.values():
            world.sum_(buffer)
