"""The chains of all ranks, gathered where they are written, and handed out where they go on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.chains import outcome
from lattice_flows.distributed import World
from lattice_flows.sampling import ChainState, Streams

GATHERED_BYTES, GATHERED_ROWS = 2**24, 1024
"""How much of the links of all chains, and how many updates, wait on the ranks before rank 0 gets them."""


class Row(NamedTuple):
    """One update of some chains, as `ChainWriter.append` takes it."""

    state: ChainState
    acceptance: Tensor
    proposals: dict[str, Tensor] | None

    @classmethod
    def of(cls, state: ChainState, info) -> "Row":
        """The state after an update, and what the sampler said of it."""
        return cls(state, *outcome(info))


def named(state: ChainState) -> dict[str, Tensor]:
    """What a state has, by the names of its fields."""
    return {name: value for name, value in state._asdict().items() if value is not None}


def most_rows(state: ChainState, chains: int) -> int:
    """How many updates of all chains are gathered at a time."""
    one = state.links[0]
    return max(1, min(GATHERED_ROWS, GATHERED_BYTES // (one.numel() * one.element_size() * chains)))


def gather_rows(world: World, rows: Sequence[Row]) -> Sequence[Row]:
    """The same updates of the chains of all ranks, on rank 0; none elsewhere."""
    if world.size == 1:
        return rows
    found = [_tensors(row) for row in rows]
    whole = {name: world.gather(torch.stack([row[name] for row in found]), axis=1) for name in found[0]}
    if not world.first:
        return []
    return [_row(dict(zip(whole, values, strict=True))) for values in zip(*whole.values(), strict=True)]


def gather_state(world: World, state: ChainState, streams: Streams) -> tuple[ChainState, Tensor] | None:
    """Where the chains of all ranks stand, and their streams, on rank 0."""
    fields: dict[str, Any] = {name: world.gather(value) for name, value in named(state).items()}
    where = world.gather(streams.get_state())
    return (ChainState(**fields), where) if where is not None else None


def scatter_state(world: World, whole: tuple[ChainState, Tensor] | None, streams: Streams) -> ChainState:
    """Where the chains of this rank stand; its streams are put where theirs are.

    Args:
        whole: what `gather_state` gave, on rank 0.
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
