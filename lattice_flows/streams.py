"""Random streams by keys: what is drawn for chain k, or for shard k of a batch, is a function of the seed and of k."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput


def keyed(seed: int, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new torch generator, which the key tells from all others of the same seed.

    Example:
        >>> draws = [torch.rand((), generator=keyed(7, *key)).item() for key in ((0,), (1,), (0, 1), (0,))]
        >>> len(set(draws)), draws[0] == draws[3]
        (3, True)
    """
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0] >> np.uint64(1)))


class Streams:
    """One torch generator a chain: what chain k draws is a function of the seed and of k alone.

    Args:
        seed: of all the streams together, >= 0.
        chains: the indices of the chains, or their number for chains 0 ... chains - 1.
        device: where numbers are drawn.

    Raises:
        InvalidInput: a seed or an index below 0, or no chains.

    Source: J. K. Salmon et al., SC11 (2011), for streams by keys; M. E. O'Neill's seed_seq, as numpy's SeedSequence has
    it, for making keys of seed and index.

    Example:
        >>> some, more = Streams(seed=7, chains=2), Streams(seed=7, chains=5)
        >>> bool((some.rand(3) == more.rand(3)[:2]).all())
        True
    """

    def __init__(self, seed: int, chains: int | Sequence[int], device: torch.device | str = "cpu"):
        self.seed = seed
        self.chains = tuple(range(chains) if isinstance(chains, int) else chains)
        self.device = torch.device(device)
        if seed < 0 or not self.chains or min(self.chains) < 0:
            raise InvalidInput(f"streams need a seed >= 0 and chains >= 0, got seed {seed} and chains {chains}")
        self.generators = [self.fork(k) for k in range(len(self))]

    def __len__(self) -> int:
        return len(self.chains)

    def draw(self, one: Callable[[torch.Generator], Tensor]) -> Tensor:
        """What a function draws from the generator of each chain: `(chains, ...)`."""
        if len(self) == 1:  # no copy
            return one(self.generators[0]).unsqueeze(0)
        return torch.stack([one(generator) for generator in self.generators])

    def rand(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Numbers `(chains, *shape)` uniform in [0, 1)."""
        return self.draw(lambda g: torch.rand(shape, generator=g, dtype=dtype, device=self.device))

    def key(self, k: int) -> tuple[int, ...]:
        """What the k-th of these chains and all its forks are told from others by: the seed, the chain, and so on."""
        return (self.seed, self.chains[k])

    def fork(self, k: int, *key: int) -> torch.Generator:
        """A new generator for the k-th of these chains, which the key tells from its stream and other forks."""
        seed, *path = self.key(k)
        return keyed(seed, *path, *key, device=self.device)

    def get_state(self) -> Tensor:
        """Where the streams stand: bytes `(chains, k)`, for `set_state`."""
        return torch.stack([generator.get_state() for generator in self.generators])

    def set_state(self, state: Tensor) -> None:
        """Back to where `get_state` was called.

        Raises:
            InvalidInput: the state is that of another number of chains.
        """
        if len(state) != len(self):
            raise InvalidInput(f"the state of {len(state)} streams does not fit {len(self)} chains")
        for generator, own in zip(self.generators, state, strict=True):
            generator.set_state(own.clone())  # torch reads a row of a larger tensor from the wrong place
