"""How Markov chains move: acceptance, rejection runs, and the chains that are stuck or frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.series import Array, to_numpy

LEAST_DISTINCT = 50
"""Chains that repeat themselves and have fewer distinct states are stuck."""
LONGEST_SHARE, SHARE_OF_ALL = 1 / 20, 1 / 50
"""A chain that spends a larger part at one state is stuck, if it is a larger part of all measurements too."""
LEAST_EFFECTIVE = 200
"""States of very different duration are too few below this effective number."""

_CHANCE = 1e-3  # a chain that would stay for so long with a smaller probability is frozen
_NAMED = 8


@dataclass(frozen=True, eq=False)
class Moves:
    """The number of measurements that each state of some chains lasts.

    Args:
        stays: for each chain the durations of its states, in order.

    Example:
        >>> moves = Moves.of([[True, False, False, True], [True, True, True, True]])
        >>> moves.stays[0].tolist(), moves.distinct, f"{moves.effective:.1f}", moves.stuck
        ([3, 1], 6, '4.6', '')
        >>> Moves.of(np.arange(1000) % 200 == 0).stuck
        'stuck: 5 distinct configurations'
    """

    stays: Sequence[NDArray[np.int64]]

    @classmethod
    def of(cls, accepted: Tensor | ArrayLike) -> Self:
        """The moves of chains whose updates were accepted or not.

        Shapes and errors: `(*chains, updates)`, as `acceptance`.
        """
        flags = _checked_flags(accepted)
        return cls([_stays(chain) for chain in flags.reshape(-1, flags.shape[-1])])

    @classmethod
    def of_values(cls, *series: Sequence[NDArray[Any]]) -> Self:
        """The moves that one or more series show: a state lasts until a value changes. Shapes: one `(n_i,)` a chain."""
        changes = [[own[1:] != own[:-1] for own in chain] for chain in zip(*series, strict=True)]
        return cls([_stays(np.append(True, np.any(own, axis=0))) for own in changes])

    @property
    def lengths(self) -> list[int]:
        """The number of measurements of each chain."""
        return [int(own.sum()) for own in self.stays]

    @property
    def distinct(self) -> int:
        """The number of states of all chains."""
        return sum(map(len, self.stays))

    @property
    def effective(self) -> float:
        """(sum d)^2 / sum d^2 of the durations d: no observable has more independent values.

        Independent states of equal variance give a mean of variance sum d^2 / (sum d)^2.
        """
        return sum(self.lengths) ** 2 / sum(float(own @ own) for own in self.stays)

    @property
    def stuck(self) -> str:
        """Why no error can be given, or an empty string.

        The chains have fewer than 50 distinct states in more than twice as many measurements; or one of them spends a
        twentieth of its length, a fiftieth of all measurements, and more than 50 of them, at one state.
        """
        if self.distinct < LEAST_DISTINCT and 2 * self.distinct < sum(self.lengths):
            return f"stuck: {self.distinct} distinct configurations"
        least = max(LEAST_DISTINCT, SHARE_OF_ALL * sum(self.lengths))
        for chain, own in enumerate(self.stays):
            share = own.max() / own.sum()
            if own.max() > least and share > LONGEST_SHARE:
                where = f"chain {chain}" if len(self.stays) > 1 else "the chain"
                return f"stuck: one configuration for {100 * share:.0f} % of {where}"
        return ""

    @property
    def uneven(self) -> str:
        """Why an error cannot be relied on, or an empty string.

        The durations differ so much that the effective number is below 200 and below a third of the distinct states:
        in a flow's chain, states of large weight are then too few.
        """
        if self.effective < LEAST_EFFECTIVE and 3 * self.effective < self.distinct:
            return f"short: {self.distinct} distinct configurations count as {self.effective:.0f}"
        return ""


def acceptance(accepted: Tensor | ArrayLike) -> float:
    """The fraction of accepted updates, over all chains.

    Shapes: accepted `(*chains, updates)`, boolean.

    Raises:
        InvalidInput: no updates, or values that are neither true nor false.

    Example:
        >>> acceptance([True, False, False, True])
        0.5
    """
    return float(_checked_flags(accepted).mean())


def longest_rejection_run(accepted: Tensor | ArrayLike) -> int:
    """The largest number of consecutive rejections in any chain.

    Shapes and errors: as `acceptance`.

    Example:
        >>> longest_rejection_run([True, False, False, True, False])
        2
    """
    flags = _checked_flags(accepted)
    # with an accepted update on either side of every chain, runs are gaps between accepted updates
    padded = np.pad(flags, [(0, 0)] * (flags.ndim - 1) + [(1, 1)], constant_values=True)
    return int(np.diff(np.flatnonzero(padded)).max()) - 1


def frozen_chains(chains: Sequence[Array]) -> tuple[int, ...]:
    """The numbers of the chains that never move, where the others make that no chance.

    A constant chain of n measurements moves too if others left its value with a rate r per measurement and
    (1 - r)^(n - 1) is above 1e-3: a charge is often the same in a short chain. Shapes: one `(n_i,)` a chain.

    Example:
        >>> frozen_chains([np.array([0.0, 1.0, 2.0]), np.array([5.0, 5.0, 5.0])])
        (1,)
    """
    still = [k for k, chain in enumerate(chains) if (chain == chain[0]).all()]
    moving = [chain for k, chain in enumerate(chains) if k not in still]
    chance = {k: (1 - _rate(moving, chains[k][0])) ** (len(chains[k]) - 1) for k in still}
    return tuple(k for k in still if chance[k] < _CHANCE)


def frozen_in_words(frozen: Sequence[int], chains: int) -> str:
    """Name the frozen ones among some chains."""
    if len(frozen) == chains:
        return "frozen: no chain moves"
    named = ", ".join(map(str, frozen[:_NAMED])) + (", ..." if len(frozen) > _NAMED else "")
    return f"frozen: chain{'s' if len(frozen) > 1 else ''} {named}"


def _rate(chains: Sequence[Array], value: float) -> float:
    """The rate at which chains leave a value; 1 where none was ever there and left."""
    at = sum(int((chain[:-1] == value).sum()) for chain in chains)
    left = sum(int(((chain[:-1] == value) & (chain[1:] != value)).sum()) for chain in chains)
    return left / at if left else 1.0


def _stays(moved: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The gaps between the moves of a chain, which begins with one."""
    starts = np.flatnonzero(moved[1:]) + 1
    return np.diff(starts, prepend=0, append=len(moved))


def _checked_flags(accepted: Any) -> NDArray[np.bool_]:
    flags = to_numpy(accepted)
    if flags.ndim == 0 or flags.size == 0:
        raise InvalidInput(f"accepted must hold at least one update, got shape {flags.shape}")
    if not np.isin(flags, (0, 1)).all():
        raise InvalidInput(f"accepted must be true or false for every update, got {flags.dtype} with other values")
    return flags.astype(np.bool_)
