"""Chains of all ranks, gathered on rank 0 that writes them, and handed out when they go on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.distributed import World
from lattice_flows.sampling import ChainState, Streams

GATHERED_BYTES, GATHERED_ROWS = 2**24, 1024
"""The bytes of fields of all chains, and the updates, that wait on the ranks before rank 0 gets them."""


class Row(NamedTuple):
    """One update of some chains, as `ChainWriter.append` takes it."""

    state: ChainState
    acceptance: Tensor
    proposals: dict[str, Tensor] | None


def named(state: ChainState) -> dict[str, Tensor]:
    """Return the fields of a state that are not None, by their names."""
    return {name: value for name, value in state._asdict().items() if value is not None}


def most_rows(state: ChainState, chains: int) -> int:
    """Return the number of updates that are gathered at a time."""
    one = state.x[0]
    return max(1, min(GATHERED_ROWS, GATHERED_BYTES // (one.numel() * one.element_size() * chains)))


def gather_rows(world: World, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the same updates of the chains of all ranks on rank 0, none elsewhere."""
    if world.size == 1:
        return rows
    found = [_tensors(row) for row in rows]
    whole = {name: world.gather(torch.stack([row[name] for row in found]), axis=1) for name in found[0]}
    if not world.first:
        return []
    return [_row(dict(zip(whole, values, strict=True))) for values in zip(*whole.values(), strict=True)]


def gather_state(world: World, state: ChainState, streams: Streams) -> tuple[ChainState, Tensor] | None:
    """Return the states of the chains of all ranks and of their streams on rank 0, None elsewhere."""
    fields: dict[str, Any] = {name: world.gather(value) for name, value in named(state).items()}
    where = world.gather(streams.get_state())
    return (ChainState(**fields), where) if where is not None else None


def scatter_state(world: World, whole: tuple[ChainState, Tensor] | None, streams: Streams) -> ChainState:
    """Return the state of the chains of this rank, and set its streams.

    Args:
        whole: the result of `gather_state` on rank 0.
    """
    state, where = whole or (None, None)
    names = world.broadcast(None if state is None else list(named(state)))
    parts = {name: world.scatter(None if state is None else getattr(state, name)) for name in names}
    streams.set_state(world.scatter(where))
    # the numbers of proposals are counted on the CPU
    return ChainState(**{name: part if name == "offered" else part.to(streams.device) for name, part in parts.items()})


def _tensors(row: Row) -> dict[str, Tensor]:
    proposals = {f"proposals/{name}": value for name, value in (row.proposals or {}).items()}
    return {**named(row.state), "acceptance": row.acceptance, **proposals}


def _row(values: dict[str, Tensor]) -> Row:
    state = ChainState(**{name: values[name] for name in ChainState._fields if name in values})
    proposals = {name.removeprefix("proposals/"): value for name, value in values.items() if "/" in name}
    return Row(state, values["acceptance"], proposals or None)
