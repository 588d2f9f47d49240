"""Annealed sampling: configurations carried from one coupling to another out of equilibrium, with exact weights."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.errors import InvalidInput
from lattice_flows.measurement import ess
from lattice_flows.sampling.base import Sampler, stand_at
from lattice_flows.sampling.branches import Branch
from lattice_flows.sampling.maps import Map, mapped
from lattice_flows.streams import Streams

# tells the forks of an annealing from those of other samplers
KEY = 3


class Annealed(NamedTuple):
    """Configurations at the end of a schedule, and the weights with which they represent its last action."""

    links: Tensor
    """`(chains, dim, *sites, *element)`."""
    action: Tensor
    """`(chains,)`, the last action of the schedule."""
    log_w: Tensor
    """`(chains,)` float64; the mean of w estimates Z / Z_0, and that of w O divided by it estimates <O>."""
    history: Tensor
    """`(stages, chains)`: log w when the action of each stage was reached, whose mean of w estimates Z_n / Z_0."""
    acceptance: Tensor
    """`(stages, chains)`: the share of accepted changes in the updates of each stage."""
    ancestors: Tensor
    """`(chains,)` int64: at which of the given links the path of each configuration begins."""


class Annealing:
    """Transport of links through a schedule of actions, with updates, and if wanted flow layers, between them.

    Stage n takes links x to y = f_n(x) by a layer (without one y = x), multiplies their weight by the change of density

        log w += S_{n-1}(x) - S_n(y) + log|dy/dx|

    and updates y with a Markov chain that leaves exp(-S_n) invariant, which costs no weight. -log w is the work done on
    the configuration beyond the heat it has given away, and <w> = Z / Z_0 exactly, however far from equilibrium
    (Jarzynski's equality). With layers this is a stochastic normalizing flow.

    With `population` > 1, chains are resampled in populations of so many successive ones (sequential Monte Carlo):
    where the effective sample size of a population falls below a threshold, copies of its configurations are drawn by
    systematic resampling in proportion to their weights, which become the mean weight. Chains of one population then
    depend on each other and on nothing else, so that populations remain independent, as single chains are without it.

    Args:
        schedule: a sampler for each stage, the last one that of the target; its state knows the action.
        start: the action of the links that are given; none is for Haar links.
        layers: a transform or None for each stage.
        updates: how many steps of its sampler each stage makes.
        population: how many chains are resampled together.
        resample_below: the ESS below which they are.

    Raises:
        InvalidInput: an empty schedule, a number of layers that is not that of its stages, or numbers out of range.

    Source: C. Jarzynski, cond-mat/9610209; R. M. Neal, physics/9803008; H. Wu, J. Köhler, F. Noé, 2002.06707;
    M. Caselle et al., 2201.08862; P. Del Moral, A. Doucet, A. Jasra, J. R. Stat. Soc. B 68 (2006) 411.

    Example:
        >>> from lattice_flows import U1
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.sampling import Metropolis, Streams, start
        >>> from lattice_flows.sampling.work import log_z_ratio
        >>> streams = Streams(seed=0, chains=200)
        >>> annealing = Annealing([Metropolis(Wilson(U1(), beta)) for beta in (0.5, 1.0)])
        >>> value, error = log_z_ratio(annealing.run(start(U1(), (4, 4), streams), streams).log_w)
        >>> print(f"{value:.1f} +- {error:.1f}")  # exactly 3.77
        3.6 +- 0.3
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
    ):
        if not schedule:
            raise InvalidInput("a schedule needs at least one stage, got none; its last sampler is that of the target")
        if layers is not None and len(layers) != len(schedule):
            raise InvalidInput(f"layers must be one (or None) for each of {len(schedule)} stages, got {len(layers)}")
        for name, number in (("updates", updates), ("population", population)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InvalidInput(f"{name} must be an integer >= 1, got {number!r}")
        if not 0 <= resample_below <= 1:
            raise InvalidInput(f"resample_below is an ESS and must lie between 0 and 1, got {resample_below!r}")
        self.schedule = schedule
        self.start = start
        self.layers = [None] * len(schedule) if layers is None else layers
        self.updates = updates
        self.population = population
        self.resample_below = resample_below

    @torch.no_grad()
    def run(self, links: Tensor, streams: Streams) -> Annealed:
        """Carry links `(chains, dim, *sites, *element)`, independent draws from the first density, to the last one.

        Raises:
            InvalidInput: the chains are not those of the streams, or do not fill populations; or in a population all
                weights are zero, or one is NaN.
        """
        n = len(streams)
        if len(links) != n or n % self.population:
            raise InvalidInput(
                f"chains must be {n} as the streams and fill populations of {self.population}, got {len(links)}"
            )
        # forks of this run alone: a second one must not meet the same proposals
        runs = streams.draw(lambda g: torch.randint(2**62, (), generator=g, device=streams.device)).tolist()
        log_w = torch.zeros(n, dtype=torch.float64, device=links.device)
        action = log_w if self.start is None else stand_at(links, self.start).action
        ancestors = torch.arange(n, device=links.device)
        history, acceptance = [], []
        for stage, (sampler, layer) in enumerate(zip(self.schedule, self.layers, strict=True)):
            branch = Branch(streams, [(KEY, run, stage) for run in runs])
            logdet = torch.zeros_like(log_w)
            if layer is not None:
                links, logdet = mapped(layer, links, streams)
            state = sampler.init(links)
            log_w = log_w + (action.double() - state.action.double() + logdet.double())
            history.append(log_w)
            if self.population > 1:
                chosen, log_w = self._resampled(log_w, branch)
                ancestors = ancestors[chosen]
                state = sampler.init(links[chosen])
            shares = []
            for _ in range(self.updates):
                state, info = sampler.step(state, branch)
                shares.append(info.acceptance)
            acceptance.append(torch.stack(shares).mean(0))
            links, action = state.links, state.action
        return Annealed(links, action, log_w, torch.stack(history), torch.stack(acceptance), ancestors)

    def _resampled(self, log_w: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        """Which configurations go on, and with which weights."""
        size = self.population
        rows = log_w.unflatten(0, (-1, size))
        tired = ess(rows) < self.resample_below
        chosen = torch.arange(len(log_w), device=log_w.device).unflatten(0, (-1, size))
        for i in tired.nonzero().flatten().tolist():
            generator = streams.fork(i * size)  # of the first chain of the population
            uniform = torch.rand((), generator=generator, dtype=torch.float64, device=log_w.device)
            chosen[i] = i * size + systematic(rows[i], uniform)
        mean = rows.logsumexp(-1, keepdim=True) - math.log(size)
        return chosen.flatten(), torch.where(tired.unsqueeze(-1), mean, rows).flatten()


def systematic(log_w: Tensor, uniform: Tensor) -> Tensor:
    """Indices `(n,)` of n draws in proportion to the weights, each weight met its expected number of times up to one.

    Draw i is where the running sum of w / sum w reaches (i + u) / n, with one number u for all.

    Args:
        log_w: `(n,)`.
        uniform: one number in [0, 1).

    Source: J. Carpenter, P. Clifford, P. Fearnhead, IEE Proc. Radar Sonar Navig. 146 (1999) 2.

    Example:
        >>> systematic(torch.tensor([0.5, 0.25, 0.0, 0.25]).log(), torch.tensor(0.5)).tolist()
        [0, 0, 1, 3]
    """
    n = len(log_w)
    reached = log_w.double().softmax(0).cumsum(0)
    places = (torch.arange(n, device=log_w.device) + uniform) / n
    # rounding may leave the last sum below the last place: no weight of zero may then be met
    return torch.searchsorted(reached / reached[-1], places, right=True).clamp(max=int(log_w.isfinite().nonzero()[-1]))
