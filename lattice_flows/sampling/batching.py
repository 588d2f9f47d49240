"""Functions of configurations applied to chains, so that no digit of a chain depends on the chains beside it."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from lattice_flows.streams import Streams

BLOCK = 8
"""The number of configurations that a function is given at a time."""


class Map(Protocol):
    """An invertible map of configurations with its log-determinant: a transform or a flow."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x to y; give y and log|dy/dx| `(*batch,)`."""

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y back to x; give x and log|dx/dy| `(*batch,)`."""


def mapped(function: Callable[[Tensor], Any], x: Tensor, streams: Streams) -> Any:
    """The result `(chains, ...)` of a function of x, a tensor or a tuple of them, in blocks of chains.

    Chain c sits at place c % BLOCK of block c // BLOCK, and copies of a neighbour fill free places. The last digits of
    a network's result depend on the size of a batch and on the place in it. In blocks these depend on the index of the
    chain alone.

    Example:
        >>> mapped(lambda x: x / 2, torch.tensor([0.0, 2.0, 9.0]), Streams(seed=0, chains=(0, 2, 9)))
        tensor([0.0000, 1.0000, 4.5000])
    """
    blocks: dict[int, dict[int, int]] = {}
    for row, chain in enumerate(streams.chains):
        blocks.setdefault(chain // BLOCK, {})[chain % BLOCK] = row
    found, seats = [], {}
    for i, taken in enumerate(blocks.values()):
        spare = min(taken.values())
        found.append(function(x[[taken.get(seat, spare) for seat in range(BLOCK)]]))
        seats.update({row: i * BLOCK + seat for seat, row in taken.items()})
    order = [seats[row] for row in range(len(seats))]
    if isinstance(found[0], tuple):
        return tuple(torch.cat(parts)[order] for parts in zip(*found, strict=True))
    return torch.cat(found)[order]


def evaluated(action: Any, function: Callable[[Tensor], Any], x: Tensor, streams: Streams) -> Any:
    """A function of an action, such as its force, or a layer: for all chains at once if that is `batch_invariant`."""
    return function(x) if getattr(action, "batch_invariant", False) else mapped(function, x, streams)
