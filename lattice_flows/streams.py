"""Random streams by keys: the seed and k determine the draws of chain k, or of shard k of a batch."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput


def keyed(seed: int, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new torch generator, different for each key of a seed.

    Example:
        >>> draws = [torch.rand((), generator=keyed(7, *key)).item() for key in ((0,), (1,), (0, 1), (0,))]
        >>> len(set(draws)), draws[0] == draws[3]
        (3, True)
    """
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0] >> np.uint64(1)))


class Streams:
    """One torch generator a chain: the seed and k alone determine the draws of chain k.

    Forks of streams are new generators with longer keys. A sampler inside another takes a `branch`: the same generators
    with forks of its own. Without it, samplers at several couplings would draw the same proposals.

    Args:
        seed: one for all streams, >= 0.
        chains: the indices of the chains, or their number for chains 0 ... chains - 1.
        device: that of the draws.

    Raises:
        InvalidInput: a seed or an index below 0, or no chains.

    Source: J. K. Salmon et al., SC11 (2011), for streams by keys; M. E. O'Neill's seed_seq, in numpy's SeedSequence,
    for keys from seed and index.

    Example:
        >>> some, more = Streams(seed=7, chains=2), Streams(seed=7, chains=5)
        >>> bool((some.rand(3) == more.rand(3)[:2]).all())
        True
        >>> low, high = some.branch(0), some.branch(1)
        >>> low.generators[1] is high.generators[1], low.fork(1, 5).initial_seed() == high.fork(1, 5).initial_seed()
        (True, False)
    """

    def __init__(self, seed: int, chains: int | Sequence[int], device: torch.device | str = "cpu"):
        self.seed = seed
        self.chains = tuple(range(chains) if isinstance(chains, int) else chains)
        self.device = torch.device(device)
        if seed < 0 or not self.chains or min(self.chains) < 0:
            raise InvalidInput(f"streams need a seed >= 0 and chains >= 0, got seed {seed} and chains {chains}")
        self._paths: list[tuple[int, ...]] = [(chain,) for chain in self.chains]
        self.generators = [self.fork(k) for k in range(len(self))]

    def __len__(self) -> int:
        return len(self.chains)

    def draw(self, one: Callable[[torch.Generator], Tensor]) -> Tensor:
        """The draws `(chains, ...)` of a function from the generator of each chain."""
        if len(self) == 1:  # no copy
            return one(self.generators[0]).unsqueeze(0)
        return torch.stack([one(generator) for generator in self.generators])

    def rand(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Numbers `(chains, *shape)` uniform in [0, 1)."""
        return self.draw(lambda g: torch.rand(shape, generator=g, dtype=dtype, device=self.device))

    def key(self, k: int) -> tuple[int, ...]:
        """The key (seed, chain, ...) of the k-th stream; the keys of its forks begin with it."""
        return (self.seed, *self._paths[k])

    def fork(self, k: int, *key: int) -> torch.Generator:
        """A new generator for the k-th chain, different for each key and from the stream of the chain."""
        return keyed(self.seed, *self._paths[k], *key, device=self.device)

    def branch(self, *key: int) -> Self:
        """The same generators, with a further key for the forks of all chains."""
        return self.branches([key] * len(self))

    def branches(self, keys: Sequence[tuple[int, ...]]) -> Self:
        """The same generators, with a further key for the forks of each chain."""
        paths = [(*path, *key) for path, key in zip(self._paths, keys, strict=True)]
        return self._with(self.chains, paths, self.generators)

    def child(self, k: int, *key: int) -> Self:
        """One new stream, the generator `fork(k, *key)`; the keys of its own forks go on from there."""
        return self._with(self.chains[k : k + 1], [(*self._paths[k], *key)], [self.fork(k, *key)])

    def spread(self, n: int) -> Self:
        """n new streams under the first one: stream i is the generator `fork(0, i)`."""
        paths = [(*self._paths[0], i) for i in range(n)]
        return self._with(tuple(range(n)), paths, [self.fork(0, i) for i in range(n)])

    def get_state(self) -> Tensor:
        """The state of the streams for `set_state`: bytes `(chains, k)`."""
        return torch.stack([generator.get_state() for generator in self.generators])

    def set_state(self, state: Tensor) -> None:
        """Go back to the state of `get_state`.

        Raises:
            InvalidInput: the state is that of another number of chains.
        """
        if len(state) != len(self):
            raise InvalidInput(f"the state of {len(state)} streams does not fit {len(self)} chains")
        for generator, own in zip(self.generators, state, strict=True):
            generator.set_state(own.clone())  # torch reads a row of a larger tensor from the wrong place

    def _with(self, chains: tuple[int, ...], paths: list[tuple[int, ...]], generators: list[torch.Generator]) -> Self:
        other = object.__new__(type(self))
        other.seed, other.device = self.seed, self.device
        other.chains, other._paths, other.generators = chains, paths, generators
        return other
