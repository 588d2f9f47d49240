"""Series of measurements along Markov chains, as arrays, tensors or lists.

Series are held in memory, with 8 bytes a measurement. A function of a series of n numbers needs memory for a few times
n numbers more.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lattice_flows.errors import InvalidInput

Array = NDArray[np.float64]
Series = Tensor | ArrayLike | Sequence[Tensor]

_MIN_LENGTH = 5


def to_numpy(values: Any) -> NDArray[Any]:
    """A tensor, an array or nested lists as an array, if possible without a copy."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def split_list(series: Any) -> list[NDArray[Any]]:
    """One array for each chain of a list of chains, or a single one for an array, a tensor or a list of numbers."""
    if isinstance(series, (list, tuple)) and any(np.ndim(to_numpy(chain)) > 0 for chain in series):
        return [to_numpy(chain) for chain in series]
    return [to_numpy(series)]


def split_chains(series: Series) -> list[NDArray[Any]]:
    """The chains `(n_i,)` of a series `(n,)` or `(chains, n)`, or of a list of series `(n_i,)`, of real numbers."""
    chains = split_list(series)
    if not isinstance(series, (list, tuple)) and chains[0].ndim == 2:
        chains = list(chains[0])
    if not chains:
        raise InvalidInput("an estimate needs at least one chain, got an empty list")
    for i, chain in enumerate(chains):
        if chain.ndim != 1:
            raise InvalidInput(f"a chain must have shape (n,), got {chain.shape}; several chains: give a list")
        if not np.isrealobj(chain) or chain.dtype.kind not in "buif":
            raise InvalidInput(f"chain {i} must hold real numbers, got {chain.dtype}; take a real or imaginary part")
    return chains


def chains_of(series: Series) -> list[Array]:
    """The chains of a series (see `split_chains`) in float64: finite, and long enough for an error."""
    chains = split_chains(series)
    for i, chain in enumerate(chains):
        if len(chain) < _MIN_LENGTH:
            raise InvalidInput(f"chain {i} has {len(chain)} measurements, an error needs at least {_MIN_LENGTH}")
        if not np.isfinite(chain).all():
            bad = int(np.flatnonzero(~np.isfinite(chain))[0])
            raise InvalidInput(f"chain {i} must be finite, got {chain[bad]} at measurement {bad}")
    return [np.asarray(chain, dtype=np.float64) for chain in chains]


def never_move(chains: Sequence[Array]) -> bool:
    """Whether every chain stays at its own first value."""
    # decided on the values: subtracting a rounded mean would leave noise without meaning
    return all((chain == chain[0]).all() for chain in chains)
