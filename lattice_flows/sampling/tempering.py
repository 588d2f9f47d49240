"""Replica exchange: chains at several couplings trade configurations, optionally through flow maps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, Sampler, choose
from lattice_flows.sampling.batching import Map, mapped
from lattice_flows.streams import Streams


class Replicas(NamedTuple):
    """The state of chains of replicas: a state at each coupling, in order, and the walker that stands there."""

    states: tuple[ChainState, ...]
    walkers: Tensor
    """`(chains, replicas)` int64: the walker at each coupling, by the number of the coupling where it began."""
    progress: Tensor
    """`(chains, replicas)` int64, of the walker at each coupling: 0 before it meets the first coupling, then 1; 2 on
    its way back from the last one."""


class ExchangeInfo(NamedTuple):
    """The outcome of a step, for each chain, with the infos of the samplers of the couplings (`updates`)."""

    acceptance: Tensor
    """`(chains,)`: the share of accepted swaps."""
    swapped: Tensor
    """`(chains, replicas - 1)` bool: whether each pair of neighbours traded."""
    probability: Tensor
    """`(chains, replicas - 1)`: the probability of each swap, min(1, exp(-delta))."""
    round_trips: Tensor
    """`(chains,)` bool: whether a walker came back to the first coupling from the last one."""
    updates: tuple[Any, ...]


def begun(chains: int, couplings: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The walkers of chains, each where it begins, and their progress."""
    walkers = torch.arange(couplings, device=device).repeat(chains, 1)
    return walkers, (walkers == 0).long()


def walked(walkers: Tensor, progress: Tensor, swapped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The walkers and their progress, see `Replicas`, after swaps; and whether one made a round trip `(chains,)`."""
    walkers, progress = walkers.clone(), progress.clone()
    for i in _order(swapped.shape[1]):
        for what in (walkers, progress):
            pair = what[:, i : i + 2]
            pair.copy_(choose(swapped[:, i], pair.flip(1), pair))
    round_trips = progress[:, 0] == 2
    progress[:, 0] = 1
    progress[:, -1] = torch.where(progress[:, -1] == 1, 2, progress[:, -1])
    return walkers, progress, round_trips


def _order(pairs: int) -> tuple[int, ...]:
    """The pairs of neighbours in the order of their swaps."""
    return (*range(0, pairs, 2), *range(1, pairs, 2))


class ReplicaExchange:
    """A step of the sampler of every replica; then neighbours trade configurations, even pairs first, odd ones next.

    A map T takes x of coupling i to coupling i + 1; without one x stays as it is. The pair (x, y) becomes
    (T^-1(y), T(x)) with probability min(1, exp(-delta)),

        delta = S_i(T^-1 y) + S_{i+1}(T x) - S_i(x) - S_{i+1}(y) - log|dT(x)/dx| - log|dT^-1(y)/dy|,

    which leaves each density invariant for every T.

    Args:
        samplers: one for each coupling, in order.
        maps: a transform or None for each pair of neighbours.

    Raises:
        InvalidInput: fewer than two samplers, or another number of maps than of pairs.

    Source: R. H. Swendsen, J.-S. Wang, Phys. Rev. Lett. 57 (1986) 2607; K. Hukushima, K. Nemoto, cond-mat/9512035;
    with maps M. Invernizzi, A. Krämer, C. Clementi, F. Noé, 2210.14104.

    Example:
        >>> from lattice_flows import U1, GaugeField, actions, sampling
        >>> space, streams = GaugeField(U1(), (4, 4)), sampling.Streams(seed=0, chains=2)
        >>> exchange = ReplicaExchange([sampling.Metropolis(actions.Wilson(space, beta)) for beta in (1.0, 1.5, 2.0)])
        >>> state, info = exchange.step(exchange.init(sampling.start(space, streams)), streams)
        >>> len(state.states), info.swapped.shape
        (3, torch.Size([2, 2]))
    """

    def __init__(self, samplers: Sequence[Sampler], maps: Sequence[Map | None] | None = None):
        if len(samplers) < 2:
            raise InvalidInput(f"replica exchange needs at least two samplers, got {len(samplers)}")
        pairs = len(samplers) - 1
        if maps is not None and len(maps) != pairs:
            raise InvalidInput(f"maps must be one (or None) for each of {pairs} pairs of neighbours, got {len(maps)}")
        self.samplers = samplers
        self.maps = [None] * pairs if maps is None else maps

    def init(self, x: Tensor) -> Replicas:
        """The state of chains whose replicas all stand at x `(chains, *shape)`."""
        return self.begin([sampler.init(x) for sampler in self.samplers])

    def begin(self, states: Sequence[ChainState]) -> Replicas:
        """The state of chains of replicas, each at its coupling, whose walkers begin now."""
        return Replicas(tuple(states), *begun(len(states[0].x), len(states), states[0].x.device))

    @torch.no_grad()
    def step(self, state: Replicas, streams: Streams) -> tuple[Replicas, ExchangeInfo]:
        """Update every replica, and try to swap every pair of neighbours."""
        replicas = enumerate(zip(self.samplers, state.states, strict=True))
        moved = [sampler.step(own, streams.branch("replica", i)) for i, (sampler, own) in replicas]
        states, updates = [own for own, _ in moved], tuple(info for _, info in moved)
        pairs = len(self.maps)
        thresholds = streams.rand(pairs, dtype=torch.float64)
        probability = torch.empty_like(thresholds)
        for i in _order(pairs):
            low, high, delta = self._traded(i, states[i], states[i + 1], streams)
            # a swap to where an action or a map is not finite is never accepted
            probability[:, i] = torch.where(delta.isfinite(), (-delta).clamp(max=0).exp(), 0.0)
            swapped = thresholds[:, i] < probability[:, i]
            states[i], states[i + 1] = _chosen(swapped, low, states[i]), _chosen(swapped, high, states[i + 1])
        swaps = thresholds < probability
        walkers, progress, round_trips = walked(state.walkers, state.progress, swaps)
        new = Replicas(tuple(states), walkers, progress)
        return new, ExchangeInfo(swaps.double().mean(1), swaps, probability, round_trips, updates)

    def _traded(self, i: int, low: ChainState, high: ChainState, streams: Streams):
        """The states of pair i after a swap, and delta."""
        up, down, transform = low.x, high.x, self.maps[i]
        logdet = torch.zeros_like(low.action, dtype=torch.float64)
        if transform is not None:
            up, there = mapped(transform, low.x, streams)
            down, back = mapped(transform.inverse, high.x, streams)
            logdet = there.double() + back.double()
        new_low, new_high = self.samplers[i].init(down), self.samplers[i + 1].init(up)
        delta = (new_low.action.double() - low.action) + (new_high.action.double() - high.action) - logdet
        return new_low, new_high, delta


def _chosen(swapped: Tensor, new: ChainState, old: ChainState) -> ChainState:
    """The new state where swapped; a coupling counts its proposals for all walkers."""
    return ChainState(choose(swapped, new.x, old.x), choose(swapped, new.action, old.action), None, old.offered)


class Tempered(Sampler):
    """A replica exchange as chains at one of its couplings; their state carries the `others` along.

    Args:
        measured: the number of this coupling.

    Example:
        >>> from lattice_flows import U1, GaugeField, actions, sampling
        >>> space, streams = GaugeField(U1(), (4, 4)), sampling.Streams(seed=0, chains=2)
        >>> samplers = [sampling.HeatBath(actions.Wilson(space, beta)) for beta in (1.0, 1.5, 2.0)]
        >>> tempered = Tempered(ReplicaExchange(samplers), measured=2)
        >>> state, info = tempered.step(tempered.init(sampling.start(space, streams)), streams)
        >>> tempered.action.beta, state.x.shape, state.others.shape
        (2.0, torch.Size([2, 2, 4, 4]), torch.Size([2, 2, 2, 4, 4]))
    """

    def __init__(self, exchange: ReplicaExchange, measured: int):
        self.exchange, self.measured = exchange, measured
        self.action = exchange.samplers[measured].action

    def init(self, x: Tensor) -> ChainState:
        return self._packed(self.exchange.init(x).states)

    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, ExchangeInfo]:
        """Update every replica, and try to swap every pair of neighbours; the info is that of the exchange."""
        assert state.others is not None
        assert state.other_actions is not None
        states = list(map(ChainState, state.others.unbind(1), state.other_actions.unbind(1)))
        states.insert(self.measured, ChainState(state.x, state.action))
        replicas, info = self.exchange.step(self.exchange.begin(states), streams)
        return self._packed(replicas.states), info

    def _packed(self, states: Sequence[ChainState]) -> ChainState:
        own, rest = states[self.measured], (*states[: self.measured], *states[self.measured + 1 :])
        others, actions = (torch.stack([getattr(one, name) for one in rest], 1) for name in ("x", "action"))
        return ChainState(own.x, own.action, others=others, other_actions=actions)
