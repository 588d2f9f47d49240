"""Random streams by keys: the seed and k determine the draws of chain k, or of shard k of a batch."""

import functools
import hashlib
import json
import operator
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, LatticeFlowsError

Key = int | str
"""A part of a key: an index, or a word that says what the stream is for."""


def keyed(seed: int, *key: Key, device: torch.device | str = "cpu") -> torch.Generator:
    """A new torch generator, different for each key of a seed.

    The CPU's generator (MT19937) starts from 624 words of Philox, whose key are all 128 bits of the `digest`. Those of
    other devices take 64 bits; so does `initial_seed()`.

    Source: J. K. Salmon et al., SC11 (2011), for Philox-4x64-10.

    Example:
        >>> draws = [torch.rand((), generator=keyed(7, *key)).item() for key in ((0,), ("a",), (0, 1), (0,))]
        >>> len(set(draws)), draws[0] == draws[3]
        (3, True)
    """
    bits = np.frombuffer(digest(seed, *key), "<u8").astype(np.uint64)
    if torch.device(device).type != "cpu":
        return torch.Generator(device).manual_seed(int(bits[0]))
    state = _fresh_state().copy()
    state[0] = bits[0]
    state[_MT19937] = np.random.Philox(key=bits).random_raw(312).view(np.uint32)
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(state.view(np.uint8)))
    return generator


def digest(seed: int, *key: Key) -> bytes:
    """The 16 bytes that a key of a seed stands for: BLAKE2b of both as a list in JSON.

    Source: M.-J. Saarinen, J.-P. Aumasson, RFC 7693 (2015).

    Example:
        >>> digest(7, "proposals", 0).hex()
        '5ea4ecc4a1e033db8f25cc36e8ae2425'
    """
    parts = [part if isinstance(part, str) else operator.index(part) for part in (seed, *key)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


_MT19937 = slice(3, 627)
"""The 32-bit words of MT19937 in the state of a CPU generator, 632 words of 64 bits; its seed is the first of these."""


@functools.cache
def _fresh_state() -> np.ndarray:
    """The state of a CPU generator of seed 0, after a check that torch keeps it as `keyed` writes it."""
    state = torch.Generator().manual_seed(0).get_state().numpy()
    expected = np.zeros(632, np.uint64)
    expected[1] = 2**32 + 1  # seeded, and to be advanced before the next number
    expected[_MT19937] = np.random.RandomState(0).get_state(legacy=False)["state"]["key"]
    if state.tobytes() != expected.tobytes():
        raise LatticeFlowsError(
            f"torch {torch.__version__} does not keep the state of its CPU generators as torch 2.13 does, so that no "
            "stream can be made from a key: install torch 2.13"
        )
    return expected


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

    Example:
        >>> some, more = Streams(seed=7, chains=2), Streams(seed=7, chains=5)
        >>> bool((some.rand(3) == more.rand(3)[:2]).all())
        True
        >>> low, high = some.branch(0), some.branch(1)
        >>> low.generators[1] is high.generators[1], torch.equal(low.fork(1).get_state(), high.fork(1).get_state())
        (True, False)
    """

    def __init__(self, seed: int, chains: int | Sequence[int], device: torch.device | str = "cpu"):
        self.seed = seed
        self.chains = tuple(range(chains) if isinstance(chains, int) else chains)
        self.device = torch.device(device)
        if seed < 0 or not self.chains or min(self.chains) < 0:
            raise InvalidInput(f"streams need a seed >= 0 and chains >= 0, got seed {seed} and chains {chains}")
        self._paths: list[tuple[Key, ...]] = [(chain,) for chain in self.chains]
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

    def key(self, k: int) -> tuple[Key, ...]:
        """The key (seed, chain, ...) of the k-th stream; the keys of its forks begin with it."""
        return (self.seed, *self._paths[k])

    def fork(self, k: int, *key: Key) -> torch.Generator:
        """A new generator for the k-th chain, different for each key and from the stream of the chain."""
        return keyed(self.seed, *self._paths[k], *key, device=self.device)

    def branch(self, *key: Key) -> Self:
        """The same generators, with a further key for the forks of all chains."""
        return self.branches([key] * len(self))

    def branches(self, keys: Sequence[tuple[Key, ...]]) -> Self:
        """The same generators, with a further key for the forks of each chain."""
        paths = [(*path, *key) for path, key in zip(self._paths, keys, strict=True)]
        return self._with(self.chains, paths, self.generators)

    def child(self, k: int, *key: Key) -> Self:
        """One new stream, the generator `fork(k, *key)`; the keys of its own forks go on from there."""
        return self._with(self.chains[k : k + 1], [(*self._paths[k], *key)], [self.fork(k, *key)])

    def spread(self, n: int) -> Self:
        """n new streams under the first one: stream i is the generator `fork(0, i)`."""
        paths: list[tuple[Key, ...]] = [(*self._paths[0], i) for i in range(n)]
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

    def _with(self, chains: tuple[int, ...], paths: list[tuple[Key, ...]], generators: list[torch.Generator]) -> Self:
        other = object.__new__(type(self))
        other.seed, other.device = self.seed, self.device
        other.chains, other._paths, other.generators = chains, paths, generators
        return other
