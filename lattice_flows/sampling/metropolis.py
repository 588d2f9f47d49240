"""The local Metropolis algorithm."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, choose, own_mean, restore, stand_at
from lattice_flows.sampling.checkerboard import alignment, check_wilson, flatten, staples
from lattice_flows.streams import Streams

RUNS = 12  # sweeps that `Metropolis.tune` makes


class MetropolisInfo(NamedTuple):
    """What happened in a sweep."""

    acceptance: Tensor
    """The share of accepted proposals `(chains,)`."""


class Metropolis:
    """One sweep: every link in its turn is offered exp(spread X) U a number of times, X Gaussian in the algebra.

    Args:
        action: the Wilson action.
        spread: the standard deviation of each component of the step; see `tune`.
        hits: how many proposals a link meets while its neighbours rest.

    Raises:
        InvalidInput: another action, a spread that is not > 0, or hits < 1.

    Source: N. Metropolis et al., J. Chem. Phys. 21 (1953) 1087.

    Example:
        >>> from lattice_flows import U1
        >>> from lattice_flows.sampling import Streams, start
        >>> streams, sampler = Streams(seed=1, chains=4), Metropolis(Wilson(U1(), beta=2.0), spread=1.0)
        >>> state = sampler.init(start(U1(), (4, 4), streams))
        >>> state, info = sampler.step(state, streams)
        >>> info.acceptance.shape
        torch.Size([4])
    """

    def __init__(self, action: Wilson, spread: float = 0.5, hits: int = 4):
        if not (math.isfinite(spread) and spread > 0):
            raise InvalidInput(f"spread must be a finite number > 0, got {spread}")
        if isinstance(hits, bool) or not isinstance(hits, int) or hits < 1:
            raise InvalidInput(f"hits must be an integer >= 1, got {hits!r}")
        check_wilson(action, type(self).__name__)
        self.action, self.spread, self.hits = action, float(spread), hits

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`."""
        return stand_at(links, self.action)

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, MetropolisInfo]:
        """One sweep."""
        group, strength = self.action.group, self.action.beta / self.action.group.n
        flat, cells = flatten(state.links, group)
        size = (self.hits, flat.shape[1])
        steps = group.exp(
            self.spread
            * streams.draw(lambda g: group.random_algebra(*size, generator=g, dtype=flat.dtype, device=flat.device))
        )
        thresholds = streams.rand(*size, dtype=flat.real.dtype).log()
        accepted, done = flat.real.new_zeros(len(flat)), 0
        for cell in cells:
            n = len(cell.active)
            sums, link = staples(flat, cell, group), flat.index_select(1, cell.active)
            now = alignment(link, sums, group)
            for hit in range(self.hits):
                proposed = group.compose(steps[:, hit, done : done + n], link)
                then = alignment(proposed, sums, group)
                moves = thresholds[:, hit, done : done + n] < strength * (then - now)
                link, now = choose(moves, proposed, link), choose(moves, then, now)
                accepted += moves.sum(1)
            flat.index_copy_(1, cell.active, link)
            done += n
        links = restore(flat.reshape(state.links.shape), group)
        info = MetropolisInfo(accepted / (self.hits * done))
        return ChainState(links, self.action(links), None, state.offered), info

    def tune(
        self, state: ChainState, streams: Streams, target: float = 0.5, mean: Callable[[Tensor], float] = own_mean
    ) -> "Metropolis":
        """The same sweeps with the spread that brings the acceptance to `target`, by short runs.

        Where even steps across the whole group are accepted more often, the spread ends at pi.

        Args:
            state: of chains in equilibrium; they are left where they are.
            mean: over all chains of numbers `(chains,)`, where these are only some of them.

        Raises:
            InvalidInput: the target is not between 0 and 1.
        """
        if not 0 < target < 1:
            raise InvalidInput(f"target must be an acceptance between 0 and 1, got {target}")
        sampler = self
        for run in range(RUNS):
            state, info = sampler.step(state, streams)
            change = 4 * (mean(info.acceptance) - target) / (1 + run / 4)
            sampler = Metropolis(self.action, min(sampler.spread * math.exp(change), math.pi), self.hits)
        return sampler
