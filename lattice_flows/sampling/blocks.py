"""Chains in blocks of fixed size, each at a fixed place, so that no digit of one depends on the others."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def in_blocks(function: Callable[[Tensor], Any], links: Tensor, chains: Sequence[int], size: int) -> Any:
    """What a function of links, with a tensor or a tuple of them `(chains, ...)` as result, gives in blocks of chains.

    Chain c sits at place c % size of block c // size, and copies of a neighbour fill free places. The last digits of
    what a network makes of a configuration depend on how many it is given at a time, and on its place among them, but
    not on what the others are: in blocks, on the index of the chain alone.

    Example:
        >>> in_blocks(lambda x: x / 2, torch.tensor([0.0, 2.0, 9.0]), chains=(0, 2, 9), size=4)
        tensor([0.0000, 1.0000, 4.5000])
    """
    blocks: dict[int, dict[int, int]] = {}
    for row, chain in enumerate(chains):
        blocks.setdefault(chain // size, {})[chain % size] = row
    found, seats = [], {}
    for i, taken in enumerate(blocks.values()):
        spare = min(taken.values())
        found.append(function(links[[taken.get(seat, spare) for seat in range(size)]]))
        seats.update({row: i * size + seat for seat, row in taken.items()})
    order = [seats[row] for row in range(len(seats))]
    if isinstance(found[0], tuple):
        return tuple(torch.cat(parts)[order] for parts in zip(*found, strict=True))
    return torch.cat(found)[order]
