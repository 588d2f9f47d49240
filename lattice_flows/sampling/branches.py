"""Streams for a sampler that runs inside another: the same numbers, other forks."""

from collections.abc import Sequence

from lattice_flows.streams import Streams


class Branch(Streams):
    """The streams of some chains, whose forks carry a further key for each chain.

    A sampler that makes forks of its own, as one with a flow does for its proposals, would otherwise make the same at
    every coupling of a schedule, and what should be independent would repeat.

    Example:
        >>> streams = Streams(seed=7, chains=2)
        >>> low, high = (Branch(streams, [(i, i)] * 2) for i in (0, 1))
        >>> low.fork(1, 5).initial_seed() == high.fork(1, 5).initial_seed()
        False
        >>> low.generators[1] is streams.generators[1]
        True
    """

    def __init__(self, streams: Streams, keys: Sequence[tuple[int, ...]]):
        self.streams, self.keys = streams, keys
        self.seed, self.chains, self.device = streams.seed, streams.chains, streams.device
        self.generators = streams.generators

    def key(self, k: int) -> tuple[int, ...]:
        return (*self.streams.key(k), *self.keys[k])
