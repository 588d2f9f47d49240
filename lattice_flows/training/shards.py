"""The batch of a step on any number of ranks: shards with their own random numbers, and sums of gradients.

The draw of shard s in step t is a function of the seed, t and s. So batches, losses and weights are the same on any
number of ranks, up to rounding. No random stream has to be stored.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lattice_flows.distributed import World, share
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.streams import keyed

Draw = Callable[[int, torch.Generator], Tensor]
"""A function of a number n and a stream that draws n configurations `(n, *shape)`."""


@dataclass(frozen=True)
class Shards:
    """The shards of one training and of this rank.

    Args:
        count: the number of shards in a batch, of sizes as equal as can be; the ranks share them, each at least one.
        device: of the random numbers.
    """

    seed: int
    count: int
    world: World
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.count < self.world.size:
            raise InvalidInput(
                f"a batch of {self.count} shards cannot be spread over {self.world.size} ranks: start a run with "
                f"training.shards={self.world.size} or a multiple, or on fewer ranks"
            )

    def own(self, batch: int) -> range:
        """The indices of this rank's samples in a batch; it is an error if there are none."""
        shards = [share(batch, shard, self.count) for shard in self.world.share(self.count)]
        own = range(shards[0].start, shards[-1].stop)
        if not own:
            raise InvalidInput(f"a batch of {batch} is too small for {self.world.size} ranks: take fewer of them")
        return own

    def draw(self, batch: int, step: int, one: Draw) -> Tensor:
        """This rank's part of a batch, shard by shard."""
        sizes = {shard: len(share(batch, shard, self.count)) for shard in self.world.share(self.count)}
        return torch.cat([one(n, keyed(self.seed, step, k, device=self.device)) for k, n in sizes.items() if n])

    def common(self, step: int) -> torch.Generator:
        """The stream of a step that all ranks share."""
        return keyed(self.seed, step, self.count, device=self.device)


class Reduction:
    """Buffers of the gradients of parameters, which are views of them, and of the log-weights `log_w` `(batch,)`.

    Autograd adds to the gradients in place, and all ranks sum the buffers in place, in one message for each precision.
    Each rank fills in its own part of `log_w`.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], batch: int):
        self.parameters = list(parameters)
        main = self.parameters[0]
        self._buffers = []
        for dtype in dict.fromkeys(parameter.dtype for parameter in self.parameters):
            own = [parameter for parameter in self.parameters if parameter.dtype == dtype]
            end = sum(parameter.numel() for parameter in own)
            buffer = main.new_zeros(end + batch * (dtype == main.dtype), dtype=dtype)
            for parameter, gradient in zip(own, buffer[:end].split([one.numel() for one in own]), strict=True):
                parameter.grad = gradient.view_as(parameter)
            self._buffers.append(buffer)
        self.log_w = self._buffers[0][-batch:]

    def fill_(self, value: float) -> None:
        """Set the buffers to one number."""
        for buffer in self._buffers:
            buffer.fill_(value)

    def sum_(self, world: World) -> None:
        """Sum over all ranks."""
        for buffer in self._buffers:
            world.sum_(buffer)


def check_replicas(tensors: Iterable[Tensor], world: World, step: int) -> None:
    """Compare tensors bit for bit over the ranks, by a checksum; a difference is a `NumericalFailure`."""
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
