"""Independence chains on one rank whose independent proposals all ranks make."""

import time
from collections.abc import Iterator

from lattice_flows.actions import ActionLike
from lattice_flows.distributed import World
from lattice_flows.sampling.base import Proposal
from lattice_flows.sampling.independence import IndependenceMetropolis, ProposalBlock
from lattice_flows.streams import Streams


class SharedProposals(IndependenceMetropolis):
    """Independence Metropolis on rank 0, for which all ranks draw blocks of proposals in turn.

    The chains are those of `IndependenceMetropolis`, bit for bit. Rank 0 steps, and calls `dismiss` at the end; the
    other ranks `serve` meanwhile. Each of them has one block ready, so that no memory grows with their number.

    Args:
        proposal, action, batch: as for `IndependenceMetropolis`.
        world: the ranks.
    """

    def __init__(self, proposal: Proposal, action: ActionLike, batch: int, world: World):
        super().__init__(proposal, action, batch)
        self.world = world

    def serve(self, streams: Streams, begin: int, end: int) -> None:
        """Draw this rank's blocks from number `begin` to `end`, until rank 0 dismisses it."""
        spent = time.process_time()
        for chain, number in self._own(streams, begin, end):
            block = super()._draw(streams, chain, number)
            if not self.world.receive(0):
                break
            self.world.send(block, 0)
        else:
            self.world.receive(0)
        self.world.send(time.process_time() - spent, 0)

    def dismiss(self) -> float:
        """Let the other ranks go; return the CPU-seconds that they took."""
        seconds = 0.0
        for rank in range(1, self.world.size):
            self.world.send(False, rank)
            seconds += self.world.receive(rank)
        return seconds

    def _draw(self, streams: Streams, k: int, number: int) -> ProposalBlock:
        rank = self._rank(streams, k, number)
        if rank == 0:
            return super()._draw(streams, k, number)
        self.world.send(True, rank)
        return self.world.receive(rank)

    def _rank(self, streams: Streams, k: int, number: int) -> int:
        return (number * len(streams) + k) % self.world.size

    def _own(self, streams: Streams, begin: int, end: int) -> Iterator[tuple[int, int]]:
        for number in range(begin, end):
            for k in range(len(streams)):
                if self._rank(streams, k, number) == self.world.rank:
                    yield k, number
