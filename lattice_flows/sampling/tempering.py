"""Replica exchange: chains at several couplings that trade configurations, if wanted through flow maps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, Sampler, choose
from lattice_flows.sampling.branches import Branch
from lattice_flows.sampling.maps import Map, mapped
from lattice_flows.streams import Streams

# tells the forks of the samplers inside from those of one outside
KEY = 2


class Replicas(NamedTuple):
    """Where chains of replicas stand: one state for each coupling, and which walker has reached which of them."""

    states: tuple[ChainState, ...]
    """At each coupling, in order."""
    walkers: Tensor
    """`(chains, replicas)` int64: which walker, named by where it began, stands at each coupling."""
    progress: Tensor
    """`(chains, replicas)` int64, of the walker at each coupling: 0 before it meets the first coupling, then 1, and
    2 from when it meets the last one until it is back."""


class ExchangeInfo(NamedTuple):
    """What happened in a step, for each chain."""

    acceptance: Tensor
    """`(chains,)`: the share of swaps that were accepted."""
    swapped: Tensor
    """`(chains, replicas - 1)` bool: of each pair of neighbours."""
    probability: Tensor
    """`(chains, replicas - 1)`: with which probability each was to be accepted, min(1, exp(-delta))."""
    round_trips: Tensor
    """`(chains,)` bool: whether a walker came back to the first coupling from the last one."""
    updates: tuple[Any, ...]
    """What the sampler of each coupling has to say."""


class ReplicaExchange:
    """One step of the sampler of every replica; then neighbours trade configurations, even pairs first, odd ones next.

    A map T_i takes links of coupling i to links of coupling i + 1 (without one they are traded as they are): the pair
    (x, y) is to become (T^-1(y), T(x)), with probability min(1, exp(-delta)),

        delta = S_i(T^-1 y) + S_{i+1}(T x) - S_i(x) - S_{i+1}(y) - log|dT(x)/dx| - log|dT^-1(y)/dy|,

    which leaves the product of all densities invariant, and each of them its margin, whatever T is.

    Args:
        samplers: one for each coupling, in the order in which they are neighbours; their states know the actions.
        maps: a transform or None for each pair of neighbours.

    Raises:
        InvalidInput: fewer than two samplers, or a number of maps that is not that of the pairs.

    Source: R. H. Swendsen, J.-S. Wang, Phys. Rev. Lett. 57 (1986) 2607; K. Hukushima, K. Nemoto, cond-mat/9512035;
    with maps M. Invernizzi, A. Krämer, C. Clementi, F. Noé, 2210.14104.

    Example:
        >>> from lattice_flows import U1
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.sampling import Metropolis, Streams, start
        >>> streams = Streams(seed=0, chains=2)
        >>> exchange = ReplicaExchange([Metropolis(Wilson(U1(), beta)) for beta in (1.0, 1.5, 2.0)])
        >>> state = exchange.init(start(U1(), (4, 4), streams))
        >>> state, info = exchange.step(state, streams)
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

    def init(self, links: Tensor) -> Replicas:
        """Chains of which every replica stands at the same links `(chains, dim, *sites, *element)`."""
        chains, replicas = len(links), len(self.samplers)
        walkers = torch.arange(replicas, device=links.device).repeat(chains, 1)
        progress = (walkers == 0).long()
        return Replicas(tuple(sampler.init(links) for sampler in self.samplers), walkers, progress)

    @torch.no_grad()
    def step(self, state: Replicas, streams: Streams) -> tuple[Replicas, ExchangeInfo]:
        """An update of every replica, and an attempt to swap every pair of neighbours."""
        states, updates = [], []
        for i, (sampler, own) in enumerate(zip(self.samplers, state.states, strict=True)):
            moved, info = sampler.step(own, Branch(streams, [(KEY, i)] * len(streams)))
            states.append(moved)
            updates.append(info)
        walkers, progress = state.walkers.clone(), state.progress.clone()
        pairs = len(self.maps)
        thresholds = streams.rand(pairs, dtype=torch.float64)
        probability = torch.empty_like(thresholds)
        for i in (*range(0, pairs, 2), *range(1, pairs, 2)):
            low, high, delta = self._traded(i, states[i], states[i + 1], streams)
            # a swap to where an action or a map is not finite is never accepted
            probability[:, i] = torch.where(delta.isfinite(), (-delta).clamp(max=0).exp(), 0.0)
            swapped = thresholds[:, i] < probability[:, i]
            states[i], states[i + 1] = (
                _chosen(swapped, new, old) for new, old in ((low, states[i]), (high, states[i + 1]))
            )
            for what in (walkers, progress):
                pair = what[:, i : i + 2]
                pair.copy_(choose(swapped, pair.flip(1), pair))
        round_trips = progress[:, 0] == 2
        progress[:, 0] = 1
        progress[:, -1] = torch.where(progress[:, -1] == 1, 2, progress[:, -1])
        swaps = thresholds < probability
        new = Replicas(tuple(states), walkers, progress)
        return new, ExchangeInfo(swaps.double().mean(1), swaps, probability, round_trips, tuple(updates))

    def _traded(self, i: int, low: ChainState, high: ChainState, streams: Streams):
        """The states of pair i after a swap, and delta."""
        up, down, transform = low.links, high.links, self.maps[i]
        logdet = torch.zeros_like(low.action, dtype=torch.float64)
        if transform is not None:
            up, there = mapped(transform, low.links, streams)
            down, back = mapped(transform.inverse, high.links, streams)
            logdet = there.double() + back.double()
        new_low, new_high = self.samplers[i].init(down), self.samplers[i + 1].init(up)
        delta = (new_low.action.double() - low.action) + (new_high.action.double() - high.action) - logdet
        return new_low, new_high, delta


def _chosen(swapped: Tensor, new: ChainState, old: ChainState) -> ChainState:
    """The new state where swapped; proposals are counted on by the coupling, whichever walker meets them."""
    return ChainState(choose(swapped, new.links, old.links), choose(swapped, new.action, old.action), None, old.offered)
