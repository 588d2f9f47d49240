"""Annealed sampling: configurations carried from one coupling to another out of equilibrium, with exact weights."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Space
from lattice_flows.sampling.base import Sampler, count, stand_at, start
from lattice_flows.sampling.batching import Map, evaluated
from lattice_flows.statistics import ess
from lattice_flows.streams import Streams


class Annealed(NamedTuple):
    """Configurations at the end of a schedule, with their weights for its last action."""

    x: Tensor
    """`(chains, *shape)`."""
    action: Tensor
    """`(chains,)`, the last action of the schedule."""
    log_w: Tensor
    """`(chains,)` float64; mean(w) estimates Z / Z_0, and mean(w O) / mean(w) estimates <O>."""
    history: Tensor
    """`(stages, chains)`: log w before the updates of each stage; mean(w) estimates Z_n / Z_0."""
    acceptance: Tensor
    """`(stages, chains)`: the share of accepted changes in the updates of each stage."""
    ancestors: Tensor
    """`(chains,)` int64: the index of the given configuration where the path begins."""


class Annealing:
    """Transport of configurations through a schedule of actions, by updates and, optionally, flow layers.

    Stage n takes x to y = f_n(x) by a layer (without one y = x), changes the weight by

        log w += S_{n-1}(x) - S_n(y) + log|dy/dx|

    and updates y with a Markov chain that leaves exp(-S_n) invariant. <w> = Z / Z_0 exactly, at any distance from
    equilibrium (Jarzynski's equality). With layers this is a stochastic normalizing flow.

    With `population` > 1, successive chains form populations (sequential Monte Carlo). A population whose effective
    sample size falls below a threshold is resampled: copies of its configurations replace it, in proportion to their
    weights, and all get the mean weight. Populations stay independent of each other.

    A schedule that begins at the prior is a `Proposal`: see `draw`.

    Args:
        schedule: a sampler for each stage; the last has the target.
        start: the action of the given configurations. Default: that of the prior of the space, with Z_0 = 1.
        layers: a transform or None for each stage.
        updates: the number of steps of its sampler that each stage makes.
        population: the number of chains of a population.
        resample_below: the threshold of the effective sample size, per sample.
        dtype: the precision of `draw`.

    Raises:
        InvalidInput: an empty schedule, another number of layers than of stages, or numbers out of range.

    Source: C. Jarzynski, cond-mat/9610209; R. M. Neal, physics/9803008; H. Wu, J. Kohler, F. Noe, 2002.06707;
    M. Caselle et al., 2201.08862; P. Del Moral, A. Doucet, A. Jasra, J. R. Stat. Soc. B 68 (2006) 411.

    Example:
        >>> from lattice_flows import U1, GaugeField, actions, sampling
        >>> space, streams = GaugeField(U1(), (4, 4)), sampling.Streams(seed=0, chains=200)
        >>> annealing = Annealing([sampling.Metropolis(actions.Wilson(space, beta)) for beta in (0.25, 0.5, 0.75, 1.0)])
        >>> value, error = sampling.log_z_ratio(annealing.run(sampling.start(space, streams), streams).log_w)
        >>> print(f"{value:.1f} +- {error:.1f}")  # exactly 3.77
        3.5 +- 0.1
    """

    def __init__(
        self,
        schedule: Sequence[Sampler],
        *,
        start: ActionLike | None = None,
        layers: Sequence[Map | None] | None = None,
        updates: int = 1,
        population: int = 1,
        resample_below: float = 0.5,
        dtype: torch.dtype | None = None,
    ):
        if not schedule:
            raise InvalidInput("a schedule needs at least one stage, got none; its last sampler is that of the target")
        if layers is not None and len(layers) != len(schedule):
            raise InvalidInput(f"layers must be one (or None) for each of {len(schedule)} stages, got {len(layers)}")
        if not 0 <= resample_below <= 1:
            raise InvalidInput(f"resample_below is an ESS and must lie between 0 and 1, got {resample_below!r}")
        self.schedule, self.start = schedule, start
        self.layers = [None] * len(schedule) if layers is None else layers
        self.updates, self.population = count("updates", updates), count("population", population)
        self.resample_below, self.dtype = resample_below, dtype

    @property
    def space(self) -> Space:
        """The space of the target."""
        return self.schedule[-1].action.space

    def begin(self, streams: Streams) -> Tensor:
        """Independent configurations `(chains, *shape)` of the first density; InvalidInput if that is no prior."""
        if self.start is not None:
            raise InvalidInput(
                "independent proposals need paths from the prior, an annealing without start; a StochasticFlow also "
                f"begins at given configurations; got start {self.start}"
            )
        return start(self.space, streams, dtype=self.dtype)

    @torch.no_grad()
    def draw(self, n: int, streams: Streams) -> tuple[Tensor, Tensor]:
        """The ends x `(n, *shape)` of n paths, and log w + S(x) `(n,)`.

        The weights are those of paths: other x have none. A second call with the same streams draws other paths.

        Raises:
            InvalidInput: more than one stream, a population that ties paths together, or as `begin`.
        """
        if self.population > 1:
            raise InvalidInput(f"independent proposals need paths of population 1, got {self.population}")
        if len(streams) != 1:
            raise InvalidInput(f"a proposal is drawn from one stream, got {len(streams)}: take streams.child(k)")
        # forks of this call alone: a second one must not draw the same paths
        own = streams.branch("call", int(streams.advance())).spread(n)
        found = self.run(self.begin(own), own)
        return found.x, found.log_w + found.action.double()

    @torch.no_grad()
    def run(self, x: Tensor, streams: Streams) -> Annealed:
        """Carry x `(chains, *shape)`, independent draws from the first density, to the last one.

        Raises:
            InvalidInput: chains that do not fit the streams or fill populations; weights that are all 0, or one NaN.
        """
        n = len(streams)
        if len(x) != n or n % self.population:
            raise InvalidInput(
                f"chains must be {n} as the streams and fill populations of {self.population}, got {len(x)}"
            )
        # forks of this run alone: a second one must not meet the same proposals
        runs = streams.advance().tolist()
        log_w = torch.zeros(n, dtype=torch.float64, device=x.device)
        action = -self.space.log_prior(self.space.check(x)) if self.start is None else stand_at(x, self.start).action
        ancestors = torch.arange(n, device=x.device)
        history, acceptance = [], []
        for stage, (sampler, layer) in enumerate(zip(self.schedule, self.layers, strict=True)):
            branch = streams.branches([("run", run, stage) for run in runs])
            log_w = log_w + action.double()
            if layer is not None:
                x, logdet = evaluated(layer, layer, x, streams)
                log_w = log_w + logdet.double()
            if self.population == 1:
                there, state, info = sampler.arrive(x, branch)
            else:
                there = sampler.init(x).action
            log_w = log_w - there.double()
            history.append(log_w)
            if self.population > 1:
                chosen, log_w = self._resampled(log_w, branch)
                ancestors = ancestors[chosen]
                state, info = sampler.step(sampler.init(x[chosen]), branch)
            shares = [info.acceptance]
            for _ in range(1, self.updates):
                state, info = sampler.step(state, branch)
                shares.append(info.acceptance)
            acceptance.append(torch.stack(shares).mean(0))
            x, action = state.x, state.action
        return Annealed(x, action, log_w, torch.stack(history), torch.stack(acceptance), ancestors)

    def _resampled(self, log_w: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """The indices of the configurations that go on, and their log-weights."""
        size = self.population
        rows = log_w.unflatten(0, (-1, size))
        tired = ess(rows) < self.resample_below
        chosen = torch.arange(len(log_w), device=log_w.device).unflatten(0, (-1, size))
        for i in tired.nonzero().flatten().tolist():
            own = streams.child(i * size, "resampling")  # of the first chain of the population
            chosen[i] = i * size + systematic(rows[i], own.rand(dtype=torch.float64)[0])
        mean = rows.logsumexp(-1, keepdim=True) - math.log(size)
        return chosen.flatten(), torch.where(tired.unsqueeze(-1), mean, rows).flatten()


def systematic(log_w: Tensor, uniform: Tensor) -> Tensor:
    """Indices `(n,)` of n draws in proportion to the weights; each occurs as often as expected, up to one.

    Draw i is the index where the running sum of w / sum w reaches (i + u) / n, with one number u in [0, 1) for all.

    Source: J. Carpenter, P. Clifford, P. Fearnhead, IEE Proc. Radar Sonar Navig. 146 (1999) 2.
    """
    n = len(log_w)
    reached = log_w.double().softmax(0).cumsum(0)
    places = (torch.arange(n, device=log_w.device) + uniform) / n
    # rounding may leave the last sum below the last place, which must not meet a weight of 0
    return torch.searchsorted(reached / reached[-1], places, right=True).clamp(max=int(log_w.isfinite().nonzero()[-1]))
