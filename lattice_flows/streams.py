"""Random streams by keys: the seed and k determine the draws of chain k, or of shard k of a batch."""

import functools
import hashlib
import json
import math
import operator
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.kernels import uniforms

Key = int | str
"""A part of a key: an index, or a word that says what the stream is for."""
CALLS = 2**32
"""The number of calls that a stream has."""


def digest(seed: int, *key: Key) -> bytes:
    """The 16 bytes that a key of a seed stands for: BLAKE2b of both as a list in JSON.

    Source: M.-J. Saarinen, J.-P. Aumasson, RFC 7693 (2015).

    Example:
        >>> digest(7, "proposals", 0).hex()
        '5ea4ecc4a1e033db8f25cc36e8ae2425'
    """
    return _digests([seed, *key][:-1], [seed, *key][-1:])


def keyed(seed: int, *key: Key, device: torch.device | str = "cpu") -> torch.Generator:
    """A new torch generator, different for each key of a seed.

    The CPU's generator (MT19937) starts from 624 random words of the stream of that key. Those of other devices take 64
    bits; so does `initial_seed()`.

    Example:
        >>> draws = [torch.rand((), generator=keyed(7, *key)).item() for key in ((0,), ("a",), (0, 1), (0,))]
        >>> len(set(draws)), draws[0] == draws[3]
        (3, True)
    """
    return _generators(_names(digest(seed, *key)), torch.zeros(1, dtype=torch.int64), torch.device(device))[0]


class Streams:
    """Random numbers of chains: the seed, k and the number of calls before determine the next draw of chain k.

    A stream has a name of 128 bits, the `digest` of its key, and a counter of its calls. Forks of streams are new ones
    with longer keys. A sampler inside another takes a `branch`: the same streams with forks of its own. Without it,
    samplers at several couplings would draw the same proposals.

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
        >>> low.counters is high.counters, torch.equal(low.child(1).rand(), high.child(1).rand())
        (True, False)
    """

    names: Tensor
    """`(chains, 2)` int64: the lower and the upper 64 bits of the name of each stream."""
    counters: Tensor
    """`(chains,)` int64: the number of calls of each stream."""

    def __init__(self, seed: int, chains: int | Sequence[int], device: torch.device | str = "cpu"):
        self.seed = seed
        self.chains = tuple(range(chains) if isinstance(chains, int) else chains)
        self.device = torch.device(device)
        if seed < 0 or not self.chains or min(self.chains) < 0:
            raise InvalidInput(f"streams need a seed >= 0 and chains >= 0, got seed {seed} and chains {chains}")
        self._begin((), self.chains)

    def __len__(self) -> int:
        return len(self.chains)

    def rand(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Numbers `(chains, *shape)` uniform in [0, 1), the same on every device."""
        kind = torch.get_default_dtype() if dtype is None else dtype
        return uniforms(self.names, self.advance(), math.prod(shape), kind).reshape(len(self), *shape)

    def draw(self, one: Callable[[torch.Generator], Tensor]) -> Tensor:
        """The draws `(chains, ...)` of a function from a generator for each chain."""
        if len(self) == 1:  # no copy
            return one(*self.generators()).unsqueeze(0)
        return torch.stack([one(generator) for generator in self.generators()])

    def generators(self) -> list[torch.Generator]:
        """New torch generators, one for each chain, for what is to be drawn with torch."""
        return _generators(self.names, self.advance(), self.device)

    def advance(self) -> Tensor:
        """Count a call of every stream; return its number `(chains,)`, for an op that takes it with `names`."""
        calls = self.counters.clone()
        self.counters += 1
        return calls

    def key(self, k: int) -> tuple[Key, ...]:
        """The key (seed, chain, ...) of the k-th stream; the keys of its forks begin with it."""
        return (self.seed, *self._paths[k])

    def branch(self, *key: Key) -> Self:
        """The same streams, with a further key for the forks of all chains."""
        return self.branches([key] * len(self))

    def branches(self, keys: Sequence[tuple[Key, ...]]) -> Self:
        """The same streams, with a further key for the forks of each chain."""
        other = self._like(self.chains)
        other.names, other.counters = self.names, self.counters
        other._paths = [(*path, *key) for path, key in zip(self._paths, keys, strict=True)]
        return other

    def child(self, k: int, *key: Key) -> Self:
        """One new stream under the k-th one, a fork, different for each key; the keys of its own forks go on there."""
        path = (*self._paths[k], *key)
        return self._like(self.chains[k : k + 1])._begin(path[:-1], path[-1:])

    def spread(self, n: int) -> Self:
        """n new streams under the first one: stream i is that of `child(0, i)`."""
        return self._like(tuple(range(n)))._begin(self._paths[0], range(n))

    def get_state(self) -> Tensor:
        """The state of the streams for `set_state`: the numbers `(chains,)` of their calls."""
        return self._checked(self.counters.clone().cpu())

    def set_state(self, state: Tensor) -> None:
        """Go back to the state of `get_state`.

        Raises:
            InvalidInput: the state is that of another number of chains, or none of streams.
        """
        self.counters.copy_(self._checked(state))

    @functools.cached_property
    def _paths(self) -> list[tuple[Key, ...]]:
        return [(*self._path, part) for part in self._last]

    def _checked(self, state: Tensor) -> Tensor:
        if state.dtype != torch.int64 or state.ndim != 1 or not ((state >= 0) & (state <= CALLS)).all():
            raise InvalidInput(
                f"the state of streams must be int64 (chains,), of 0 to 2^32 calls, got {state.dtype} "
                f"{tuple(state.shape)}: that of another version does not go on; begin again"
            )
        if len(state) != len(self):
            raise InvalidInput(f"the state of {len(state)} streams does not fit {len(self)} chains")
        return state

    def _like(self, chains: tuple[int, ...]) -> Self:
        other = object.__new__(type(self))
        other.seed, other.device, other.chains = self.seed, self.device, chains
        return other

    def _begin(self, path: tuple[Key, ...], last: Sequence[Key]) -> Self:
        """Take new streams, whose keys differ in the last part alone."""
        self._path, self._last = path, last
        self.names = _names(_digests((self.seed, *path), last)).to(self.device)
        self.counters = torch.zeros(len(self), dtype=torch.int64, device=self.device)
        return self


def _digests(first: Sequence[Key], last: Sequence[Key]) -> bytes:
    """The digests of keys with a common beginning, one after the other."""
    begin = hashlib.blake2b(json.dumps([_part(part) for part in (*first, 0)])[:-2].encode(), digest_size=16)
    found = []
    for part in last:
        one = begin.copy()
        one.update(b"%d]" % part if type(part) is int else f"{json.dumps(_part(part))}]".encode())
        found.append(one.digest())
    return b"".join(found)


def _part(part: Key) -> Key:
    return part if isinstance(part, str) else operator.index(part)


def _names(digests: bytes) -> Tensor:
    return torch.frombuffer(bytearray(digests), dtype=torch.int64).reshape(-1, 2)


_MT19937 = slice(3, 627)
"""The 32-bit words of MT19937 in the state of a CPU generator, 632 words of 64 bits; its seed is the first of these."""


def _generators(names: Tensor, calls: Tensor, device: torch.device) -> list[torch.Generator]:
    """New torch generators for a call of each stream."""
    words = (uniforms(names, calls, 624, torch.float64) * 2**32).long().cpu()
    seeds = words[:, 0] << 31 | words[:, 1] >> 1
    if device.type != "cpu":
        return [torch.Generator(device).manual_seed(seed) for seed in seeds.tolist()]
    states = _fresh_state().repeat(len(words), 1)
    states[:, 0], states[:, _MT19937] = seeds, words
    found = []
    for state in states:
        generator = torch.Generator()
        generator.set_state(state.view(torch.uint8).clone())  # torch reads a row of a larger one from the wrong place
        found.append(generator)
    return found


@functools.cache
def _fresh_state() -> Tensor:
    """The state of a CPU generator of seed 0, after a check that torch keeps it as `_generators` writes it."""
    state = torch.Generator().manual_seed(0).get_state().view(torch.int64)
    words = [0]
    for i in range(1, 624):  # as MT19937 is seeded
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + i) % 2**32)
    seeded = 2**32 + 1  # and to be advanced before the next number
    if state.tolist() != [0, seeded, 0, *words, 0, 0, 0, 0, 0]:
        raise LatticeFlowsError(
            f"torch {torch.__version__} does not keep the state of its CPU generators as torch 2.13 does, so that no "
            "stream can be made from a key: install torch 2.13"
        )
    return state
