"""Heat bath and over-relaxation, for actions that give a link the sum of its staples."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_sweeps import HEAT_BATH as DRAW
from lattice_flows.kernels.link_sweeps import OVER_RELAXATION as REFLECT
from lattice_flows.kernels.link_sweeps import Swept, available, link_sweeps
from lattice_flows.lattice.space import gauge_field
from lattice_flows.sampling.base import ChainState, Sampler, SamplerEntry, SweepInfo, weights_for
from lattice_flows.sampling.batching import evaluated
from lattice_flows.streams import Streams


class Sweep(Sampler):
    """The common part of heat bath and over-relaxation: it changes every link once, given its staples.

    Where `link_sweeps` has a kernel, one call of it makes several sweeps; else links change cell by cell.

    Args:
        action: one of links with local updates, such as the Wilson action and, on extents >= 3, those with rectangles;
            its `conditional` has `sums` and `strength`.
    """

    numbers: tuple[int, ...] = (0,)
    """The shape of the random numbers of a link."""
    move: int
    """That of `link_sweeps`."""

    @torch.no_grad()
    def __init__(self, action: Action):
        self.group = gauge_field(action.space).group
        self.action = action
        # what the action or the group lacks shows here, before there are chains
        cell, cold = action.cells()[0], action.space.flatten(action.space.cold(1))
        given = action.conditional(cold, cell)
        if not hasattr(given, "sums"):
            raise InvalidInput(f"{type(action).__name__} has no sums of staples: use metropolis or hmc")
        self._change(cold.index_select(1, cell.active), given, torch.full((1, len(cell.active), *self.numbers), 0.5))

    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, SweepInfo]:
        """Make one sweep."""
        return sweep([self], state, streams)

    def arrive(self, x: Tensor, streams: Streams) -> tuple[Tensor, ChainState, SweepInfo]:
        """The action `(chains,)` at x, and what a sweep from there gives."""
        return arrive([self], x, streams)

    @torch.no_grad()
    def by_cells(self, state: ChainState, streams: Streams) -> tuple[ChainState, SweepInfo]:
        """Make one sweep, cell by cell."""
        flat = self.action.space.flatten(state.x).clone()
        uniforms = streams.rand(flat.shape[1], *self.numbers, dtype=flat.real.dtype)
        done = 0
        for cell in self.action.cells(flat.device):
            n = len(cell.active)
            given = self.action.conditional(flat, cell)
            links = self._change(flat.index_select(1, cell.active), given, uniforms[:, done : done + n])
            flat.index_copy_(1, cell.active, links)
            done += n
        x = flat.reshape(state.x.shape)
        action = evaluated(self.action, self.action, x, streams)
        return ChainState(x, action, None, state.offered), SweepInfo(torch.ones_like(action))

    @abstractmethod
    def _change(self, links: Tensor, given: Any, uniforms: Tensor) -> Tensor:
        """New links `(chains, n, *element)` by uniform numbers `(chains, n, *numbers)`."""


@torch.no_grad()
def sweep(samplers: Sequence[Sweep], state: ChainState, streams: Streams) -> tuple[ChainState, SweepInfo]:
    """Make a sweep of each of the samplers, all of one action; their infos are the same."""
    if (weights := weights_for(available, samplers[0].action, state.x)) is None:
        for sampler in samplers:
            state, info = sampler.by_cells(state, streams)
        return state, info
    new, values = _swept(samplers, state.x, weights, streams)
    values = values.to(state.action.dtype)
    return ChainState(new, values, None, state.offered), SweepInfo(torch.ones_like(values))


@torch.no_grad()
def arrive(samplers: Sequence[Sweep], x: Tensor, streams: Streams) -> tuple[Tensor, ChainState, SweepInfo]:
    """The action `(chains,)` at x, and what `sweep` from there gives: with a kernel, in one call."""
    if (weights := weights_for(available, samplers[0].action, x)) is None:
        state = samplers[0].init(x)
        return state.action, *sweep(samplers, state, streams)
    new, values = _swept(samplers, x, weights, streams, before=True)
    first, last = values.unbind(1)
    last = last.to(x.real.dtype)
    return first, ChainState(new, last), SweepInfo(torch.ones_like(last))


def _swept(samplers: Sequence[Sweep], x: Tensor, weights: Tensor, streams: Streams, before: bool = False) -> Swept:
    """The result of the kernel."""
    space, moves = samplers[0].action.space, [sampler.move for sampler in samplers]
    calls = [streams.advance() for move in moves if move == DRAW] or [streams.counters]
    return link_sweeps(space.check(x), space.lattice.extents, weights, moves, streams.names, calls[0], before)


class HeatBath(Sweep):
    """A sweep that draws every link from its density given all others, p(U) ~ exp((beta / N) Re tr(U S)).

    The method `heat_bath` of the group draws, with a fixed number of attempts. The link stays where all are rejected,
    with a probability that depends on S alone.

    Raises:
        InvalidInput: the action has no local updates, or is not one of links, or the group has no heat bath.

    Example:
        >>> from lattice_flows import SU, GaugeField, actions, sampling
        >>> action, streams = actions.Wilson(GaugeField(SU(3), (4, 4, 4)), beta=6.0), sampling.Streams(seed=1, chains=2)
        >>> sampler = HeatBath(action)
        >>> state, _ = sampler.step(sampler.init(sampling.start(action.space, streams)), streams)
        >>> state.action.shape
        torch.Size([2])
    """

    move = DRAW

    def __init__(self, action: Action):
        self.numbers = gauge_field(action.space).group.heat_bath_numbers()
        super().__init__(action)

    def _change(self, links, given, uniforms):
        return self.group.heat_bath(links, given.sums, given.strength, uniforms)


class OverRelaxation(Sweep):
    """A sweep that moves every link far and keeps the action.

    The method `over_relaxation` of the group reflects. It draws nothing and is not ergodic: mix it with a heat bath in
    a `Cycle`.

    Raises:
        InvalidInput: as for `HeatBath`.

    Example:
        >>> from lattice_flows import U1, GaugeField, actions, sampling
        >>> action, streams = actions.Wilson(GaugeField(U1(), (4, 4)), beta=2.0), sampling.Streams(seed=1, chains=2)
        >>> sampler = OverRelaxation(action)
        >>> state = sampler.init(sampling.start(action.space, streams))
        >>> after, _ = sampler.step(state, streams)
        >>> bool((after.action - state.action).abs().max() < 1e-4)
        True
    """

    move = REFLECT

    def _change(self, links, given, uniforms):
        return self.group.over_relaxation(links, given.sums)


HEAT_BATH = SamplerEntry("heat bath", Settings, lambda action, settings, context: HeatBath(action), rejects=False)
OVER_RELAXATION = SamplerEntry(
    "over-relaxation", Settings, lambda action, settings, context: OverRelaxation(action), rejects=False
)
