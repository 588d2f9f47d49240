"""The batch of a step, cut into shards that draw their own random numbers on any number of ranks.

The draw of shard s in step t is a function of the seed, t and s. So batches, losses and weights are the same on any
number of ranks, up to rounding. No random stream has to be stored.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.distributed import World, share
from lattice_flows.errors import InvalidInput
from lattice_flows.streams import keyed

Draw = Callable[[int, torch.Generator], Tensor]
"""A function of a number n and a stream that draws n configurations `(n, *shape)`."""


@dataclass(frozen=True)
class Shards:
    """The shards of one training and of this rank.

    Args:
        seed: of the training.
        count: the number of shards in a batch; their sizes are as equal as can be.
        world: its ranks share them.
        device: of the random numbers.

    Raises:
        InvalidInput: fewer shards than ranks.

    Example:
        >>> shards = Shards(seed=1, count=3, world=World())
        >>> shards.draw(10, step=5, one=lambda n, generator: torch.rand(n, generator=generator)).shape
        torch.Size([10])
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
        """The indices of this rank's samples in a batch.

        Raises:
            InvalidInput: this rank has none.
        """
        shards = [share(batch, shard, self.count) for shard in self.world.share(self.count)]
        own = range(shards[0].start, shards[-1].stop)
        if not own:
            raise InvalidInput(f"a batch of {batch} is too small for {self.world.size} ranks: take fewer of them")
        return own

    def draw(self, batch: int, step: int, one: Draw) -> Tensor:
        """This rank's part of a batch, shard by shard."""
        parts = []
        for shard in self.world.share(self.count):
            if n := len(share(batch, shard, self.count)):
                parts.append(one(n, keyed(self.seed, step, shard, device=self.device)))
        return torch.cat(parts)

    def common(self, step: int) -> torch.Generator:
        """The stream of a step that all ranks share."""
        return keyed(self.seed, step, self.count, device=self.device)
