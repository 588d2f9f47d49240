"""The local Metropolis algorithm, for every field."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, Sampler, SamplerEntry, SweepInfo, choose, count, own_mean, positive
from lattice_flows.sampling.batching import evaluated
from lattice_flows.streams import Streams

RUNS = 12  # sweeps that `Metropolis.tune` makes
FIRST_SPREAD = 0.5  # before Metropolis is tuned


class Metropolis(Sampler):
    """A sweep that offers every element moves by Gaussian X: exp(spread X) U to a link, phi + spread X to a scalar.

    Args:
        action: one with local updates, such as the Wilson action.
        spread: the standard deviation of each component of the step; see `tune`.
        hits: the number of moves that an element is offered in a sweep.

    Raises:
        InvalidInput: the action has no local updates, or spread or hits are out of range.

    Source: N. Metropolis et al., J. Chem. Phys. 21 (1953) 1087.

    Example:
        >>> from lattice_flows import U1, GaugeField, actions, sampling
        >>> action, streams = actions.Wilson(GaugeField(U1(), (4, 4)), beta=2.0), sampling.Streams(seed=1, chains=4)
        >>> sampler = Metropolis(action, spread=1.0)
        >>> state, info = sampler.step(sampler.init(sampling.start(action.space, streams)), streams)
        >>> info.acceptance.shape
        torch.Size([4])
    """

    def __init__(self, action: Action, spread: float = FIRST_SPREAD, hits: int = 4):
        self.spread, self.hits = positive("spread", spread), count("hits", hits)
        action.cells()
        self.action = action

    @property
    def tuned(self) -> dict[str, float | int]:
        """The spread."""
        return {"spread": self.spread}

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, SweepInfo]:
        """Make one sweep."""
        space, flat = self.action.space, self.action.space.flatten(state.x).clone()
        size = (self.hits, flat.shape[1])
        tangents = streams.draw(
            lambda g: space.random_tangents(*size, generator=g, dtype=flat.dtype, device=flat.device)
        )
        steps = space.exp(self.spread * tangents)
        thresholds = streams.rand(*size, dtype=flat.real.dtype).log()
        accepted, done = flat.real.new_zeros(len(flat)), 0
        for cell in self.action.cells(flat.device):
            n = len(cell.active)
            given, element = self.action.conditional(flat, cell), flat.index_select(1, cell.active)
            energy = given.energy(element)
            for hit in range(self.hits):
                proposed = space.apply(steps[:, hit, done : done + n], element)
                offered = given.energy(proposed)
                moves = thresholds[:, hit, done : done + n] < energy - offered
                element, energy = choose(moves, proposed, element), choose(moves, offered, energy)
                accepted += moves.sum(1)
            flat.index_copy_(1, cell.active, element)
            done += n
        x = space.restore(flat.reshape(state.x.shape))
        info = SweepInfo(accepted / (self.hits * done))
        return ChainState(x, evaluated(self.action, self.action, x, streams), None, state.offered), info

    def tune(
        self, state: ChainState, streams: Streams, target: float = 0.5, mean: Callable[[Tensor], float] = own_mean
    ) -> "Metropolis":
        """The same sweeps with the spread that brings the acceptance to `target`, by short runs; see `HMC.tune`.

        The spread is at most pi, a standard deviation that reaches all of a group.
        """
        if not 0 < target < 1:
            raise InvalidInput(f"target must be an acceptance between 0 and 1, got {target}")
        sampler = self
        for run in range(RUNS):
            state, info = sampler.step(state, streams)
            change = 4 * (mean(info.acceptance) - target) / (1 + run / 4)
            sampler = Metropolis(self.action, min(sampler.spread * math.exp(change), math.pi), self.hits)
        return sampler


METROPOLIS = SamplerEntry(
    "Metropolis",
    Settings,
    lambda action, settings, context: Metropolis(action, context.tuned.get("spread", FIRST_SPREAD)),
)
