"""The local Metropolis algorithm, for every field."""

import contextlib
import math

import torch

from lattice_flows.actions import Action
from lattice_flows.config.rules import Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, Sampler, SamplerEntry, SweepInfo, choose, count, positive
from lattice_flows.sampling.batching import evaluated
from lattice_flows.sampling.heatbath import HeatBath
from lattice_flows.sampling.tuning import Tunable, gained
from lattice_flows.streams import Streams

FIRST_SPREAD = 0.5  # before Metropolis is tuned


class Metropolis(Tunable):
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

    target = 0.5

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

    def adapted(self, rate: float, target: float, gain: float) -> "Metropolis":
        """The sweeps with the spread that should reach the target.

        A normal density has an acceptance of (2 / pi) arctan(2 / s) for steps of s standard deviations. The spread is
        at most pi, a standard deviation that reaches all of a group.

        Source: A. Gelman, G. O. Roberts, W. R. Gilks, Bayesian Statistics 5 (1996) 599.
        """
        now, wanted = (math.tan(math.pi / 2 * min(max(value, 1e-3), 0.999)) for value in (rate, target))
        spread = self.spread * gained(now / wanted, gain, 4)
        return Metropolis(self.action, min(spread, math.pi), self.hits)


METROPOLIS = SamplerEntry(
    "Metropolis",
    Settings,
    lambda action, settings, context: Metropolis(action, context.tuned.get("spread", FIRST_SPREAD)),
)


def local_updates(action: Action) -> Sampler | None:
    """The local updates that an action has, a heat bath before Metropolis; None where it has none."""
    for kind in (HeatBath, Metropolis):
        with contextlib.suppress(InvalidInput):
            return kind(action)
    return None
