"""The interfaces of samplers and proposals: state in, (state, info) out, for many chains at once."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from lattice_flows.actions import Action, ActionLike
from lattice_flows.config.rules import Settings
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_sweeps import reach_of
from lattice_flows.lattice import Space
from lattice_flows.lattice.space import gauge_field
from lattice_flows.streams import Streams

if TYPE_CHECKING:
    from lattice_flows.flows.flow import Flow
    from lattice_flows.sampling.annealing import Annealing


class ChainState(NamedTuple):
    """The state of Markov chains: configurations x `(chains, *shape)`, and their action `(chains,)`."""

    x: Tensor
    action: Tensor
    log_w: Tensor | None = None
    """`(chains,)`: log w of a proposal x relative to the measure of the space, -log q for a flow; None for other x."""
    offered: Tensor | None = None
    """`(chains,)` int64: the number of proposals that each chain has met."""

    @property
    def links(self) -> Tensor:
        """The configurations of a gauge field."""
        return self.x


class SweepInfo(NamedTuple):
    """The share of accepted changes in a sweep, `(chains,)`."""

    acceptance: Tensor


class Sampler(Protocol):
    """A Markov chain transition that leaves p = exp(-S) / Z invariant, of all chains independently.

    Chain k draws from stream k alone, and no digit of it depends on the chains beside it. It goes on the same from a
    state and its streams. A sampler that tunes itself is a `Tunable` (sampling/tuning.py).

    To add one: a file with a class that derives from this one, sets `action` and implements `step`; a `SamplerEntry`;
    and one line in `lattice_flows/config/registry.py`. A new state keeps the `offered` of the old one, as in
    `ChainState(x, action, offered=state.offered)`. A flow in the same cycle would else offer one proposal again.
    """

    action: Any
    """S, any function x -> S `(chains,)`; an `Action` knows its space."""

    def init(self, x: Tensor) -> ChainState:
        """The state of chains at x `(chains, *shape)`."""
        return stand_at(x, self.action)

    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, Any]:
        """The next state, and a NamedTuple with at least `acceptance` `(chains,)`, the share of accepted changes."""

    def arrive(self, x: Tensor, streams: Streams) -> tuple[Tensor, ChainState, Any]:
        """The action `(chains,)` at x, and what the first step from there gives."""
        state = self.init(x)
        return state.action, *self.step(state, streams)


class Proposal(Protocol):
    """A source of independent configurations with weights: a flow, or a path through a schedule.

    The mean of w f(x) is the integral of f over the space, so that w exp(-S) is the weight of the target. To add one,
    implement `draw`, and `log_w` where x determines its weight.
    """

    @property
    def space(self) -> Space:
        """The space of the configurations."""

    def draw(self, n: int, streams: Streams) -> tuple[Tensor, Tensor]:
        """n independent x `(n, *shape)` and log w `(n,)`, from the one stream of `streams`."""

    def log_w(self, x: Tensor) -> Tensor:
        """log w `(*batch,)` of any x; where w depends on more than x, there is no such method."""


class Context(NamedTuple):
    """The parts of a sampler of a run beside its action and its settings."""

    flow: "Flow | None" = None
    """The trained flow, if the run has one."""
    tuned: Mapping[str, float | int] = MappingProxyType({})
    """The numbers `tuned` of this sampler; empty before it is tuned."""
    world: World = SERIAL
    """The processes of the run."""
    shared: bool = False
    """Whether all ranks make the proposals of chains on rank 0."""
    annealing: "Annealing | None" = None
    """The annealing of the run, if it has one."""

    def flow_for(self, name: str) -> Any:
        """The flow, which the update of this name needs."""
        if self.flow is None:
            raise InvalidInput(f"the update {name} needs a trained flow")
        return self.flow


class SamplerEntry(NamedTuple):
    """A named update of `[sampling]` in configs; to add one, see `Sampler`."""

    label: str
    """The name for people, in tables."""
    settings: type[Settings]
    """The keys of `[sampling]` that this update adds; `Settings` itself has none."""
    build: Callable[[Any, Any, Context], Sampler]
    """`(action, settings, context) -> Sampler`."""
    uses_flow: bool = False
    """Whether it needs a trained flow."""
    independent: bool = False
    """Whether each step makes a proposal that does not depend on the state."""
    rejects: bool = True
    """Whether its acceptance can be below 1."""


def start(
    space: Space, streams: Streams, how: Literal["hot", "cold"] = "hot", dtype: torch.dtype | None = None
) -> Tensor:
    """The first configurations `(chains, *shape)` of chains: draws of the prior (hot), or ordered ones (cold).

    Raises:
        InvalidInput: `how` is neither.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> start(GaugeField(SU(2), (4, 4, 4)), Streams(seed=0, chains=3)).shape
        torch.Size([3, 3, 4, 4, 4, 2, 2])
    """
    if how not in ("hot", "cold"):
        raise InvalidInput(f"chains start hot or cold, got {how!r}")
    if how == "cold":
        return space.cold(len(streams), dtype=dtype, device=streams.device)
    return streams.draw(lambda g: space.prior(1, g, dtype=dtype, device=streams.device)[0])


def stand_at(x: Tensor, action: ActionLike) -> ChainState:
    """The state of chains at x in the space of the action, which gives one number a chain."""
    if isinstance(action, Action):
        action.space.check(x)
    parts = [x] if getattr(action, "batch_invariant", False) else x.split(1)
    with torch.no_grad():
        values = torch.cat([action(part) for part in parts])
    if values.shape != x.shape[:1]:
        raise InvalidInput(
            f"chains at {tuple(x.shape)} need an action of shape {tuple(x.shape[:1])}, got {tuple(values.shape)}: "
            "configurations of chains are (chains, *shape)"
        )
    return ChainState(x, values)


def weights_for(available: Callable[..., bool], action: Action, x: Tensor) -> Tensor | None:
    """The `loop_weights` of an action for a kernel of whole lattices, or None where either is missing."""
    if (weights := action.loop_weights()) is None:
        return None
    space = gauge_field(action.space)
    fits = space.group.swept and available(space.lattice.extents, space.group.n, x, rectangles=reach_of(weights) == 2)
    return weights if fits and (x.is_cpu or weights.ndim == 2) else None


def choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where `accepted`, a mask over the first axes, and `old` elsewhere."""
    return torch.where(accepted.reshape(accepted.shape + (1,) * (new.ndim - accepted.ndim)), new, old)


def positive(name: str, value: float) -> float:
    """The value, if it is a finite number > 0; an error if not."""
    if not (math.isfinite(value) and value > 0):
        raise InvalidInput(f"{name} must be a finite number > 0, got {value}")
    return float(value)


def count(name: str, value: int) -> int:
    """The value, if it is an integer >= 1; an error if not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput(f"{name} must be an integer >= 1, got {value!r}")
    return value
