"""Sums of gradients over ranks, in place and in one message a step; comparison of their weights."""

import math
import zlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lattice_flows.distributed import World
from lattice_flows.errors import NumericalFailure


class Reduction:
    """Buffers of gradients, with room for the log-weights of the batch; the gradients of parameters are views of them.

    Autograd adds to the gradients in place, and the ranks sum the buffers in place. Each precision has a buffer.

    Args:
        parameters: on one device; they get new `.grad`.
        batch: the number of samples of all ranks together.

    Attributes:
        log_w: `(batch,)`; each rank fills in its own part.

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
        """Set the buffers to 0."""
        for buffer in self._buffers.values():
            buffer.zero_()

    def fail_(self) -> None:
        """Set the buffers to nan, so that every rank sees the failure of this one."""
        for buffer in self._buffers.values():
            buffer.fill_(math.nan)

    def sum_(self, world: World) -> None:
        """Sum over all ranks."""
        for buffer in self._buffers.values():
            world.sum_(buffer)


def check_replicas(tensors: Iterable[Tensor], world: World, step: int) -> None:
    """Compare tensors bit for bit over the ranks, by a checksum.

    Raises:
        NumericalFailure: they differ.
    """
    checksum = 0
    for tensor in tensors:
        checksum = zlib.crc32(tensor.detach().cpu().numpy().tobytes(), checksum)
    found = world.all_gather(torch.tensor([checksum])).tolist()
    if len(set(found)) > 1:
        ranks = ", ".join(str(rank) for rank, value in enumerate(found) if value != found[0])
        raise NumericalFailure(
            f"step {step}: the parameters of ranks {ranks} are no longer those of rank 0, by their checksums: a node "
            "computes otherwise than the rest (another processor, faulty memory); start again from the last "
            "checkpoint on nodes of one kind"
        )
