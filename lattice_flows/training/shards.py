"""The batch of a step, cut into shards that draw their own random numbers, whatever the number of ranks.

What shard s draws in step t is a function of the seed, t and s. A rank draws its shards one by one and computes with
all of them at once, so that batches, losses and weights are the same on any number of ranks up to rounding; and nothing
of a random stream has to be stored for a run to go on, on another number of ranks too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.distributed import World, share
from lattice_flows.errors import InvalidInput
from lattice_flows.streams import keyed

Draw = Callable[[int, torch.Generator], Tensor]
"""How many, and from which stream: links `(n, dim, *sites, *element)`."""


@dataclass(frozen=True)
class Shards:
    """The shards of one training, and which of them fall to this rank.

    Args:
        seed: of the training.
        count: into how many shards a batch is cut; as equal as can be.
        world: whose ranks share them.
        device: where numbers are drawn.

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
        """Which samples of a batch are this rank's.

        Raises:
            InvalidInput: there are none.
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
        """A stream of the step that is the same on every rank."""
        return keyed(self.seed, step, self.count, device=self.device)
