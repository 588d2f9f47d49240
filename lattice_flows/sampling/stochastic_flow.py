"""Stochastic flows: gradient flow layers and Monte Carlo updates in turn, from one coupling to another."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import Count, Settings
from lattice_flows.config.sections import Updates
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.gradient_flows import SETS
from lattice_flows.groups import Group
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers import GradientFlow, MidpointStep
from lattice_flows.operators import WeightedSum
from lattice_flows.sampling.annealing import Annealing
from lattice_flows.sampling.base import Context, Sampler, SamplerEntry
from lattice_flows.sampling.batching import BLOCK
from lattice_flows.sampling.cycle import Cycle
from lattice_flows.sampling.heatbath import HeatBath, OverRelaxation
from lattice_flows.sampling.independence import IndependenceMetropolis, proposing
from lattice_flows.streams import Streams

LAYERS: Mapping[str, Callable[[Group, int], Sequence[WeightedSum]]] = {
    "none": lambda group, dim: (),
    "plaquette": SETS["plaquette"],
    "production": SETS["production"],
    "nlo": SETS["next_to_leading"],
}
"""The operators of layers by name."""


class Ensemble(Protocol):
    """Configurations that are taken by their numbers; a tensor `(n, *shape)` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: Tensor) -> Tensor: ...


def heat_bath_cycle(action: Action) -> Sampler:
    """A sweep of heat bath and two of over-relaxation, which spread what a flow leaves."""
    return Cycle([HeatBath(action), (OverRelaxation(action), 2)])


class StochasticFlow(Annealing):
    """Paths through rising couplings: a step of a gradient flow to each coupling, then Monte Carlo updates there.

    Each path has a weight, whose mean is Z / Z_0 exactly, and so it is a `Proposal`. Paths begin at the prior, or at
    configurations of a thermalised chain at the first coupling, which are taken at random.

    Args:
        action: the target.
        betas: the couplings after the first one; the last is that of the target.
        sampler: makes the updates at a coupling, from the action there.
        operators: W_i of the layers, such as `production(group, dim)`. Without them the updates are all.
        coefficients: `(stages, n)`: stage s makes a `MidpointStep` with c_si.
        first: the first coupling; 0 is the prior.
        ensemble: configurations at the first coupling, if it is not 0.
        dtype: the precision of paths from the prior.

    Raises:
        InvalidInput: couplings that do not rise, or do not end at the target; coefficients of other stages or
            operators; or an ensemble without a first coupling, or the reverse.

    Source: H. Wu, J. Kohler, F. Noe, 2002.06707; M. Caselle et al., 2201.08862, and for links 2412.00200.

    Example:
        >>> from lattice_flows import SU, GaugeField, actions
        >>> from lattice_flows.operators import production
        >>> action = actions.Wilson(GaugeField(SU(2), (8, 8)), beta=1.0)
        >>> plaquette, c = production(SU(2), 2)[:1], 0.5 / 6  # c = d beta / (2 (N^2 - 1)), to leading order
        >>> flow = StochasticFlow(action, [0.5, 1.0], operators=plaquette, coefficients=torch.full((2, 1), c))
        >>> x, log_w = flow.draw(100, Streams(seed=0, chains=1))
        >>> print(f"{(log_w - action(x)).std():.1f}")  # of log w
        0.4
    """

    def __init__(
        self,
        action: Action,
        betas: Sequence[float],
        sampler: Callable[[Action], Sampler] = heat_bath_cycle,
        *,
        operators: Sequence[WeightedSum] = (),
        coefficients: Tensor | None = None,
        first: float = 0.0,
        ensemble: Ensemble | None = None,
        dtype: torch.dtype | None = None,
    ):
        if not betas or betas[-1] != check_rising(action, [first, *betas[:-1]]):
            raise InvalidInput(f"couplings must end at {action.beta}, that of the target, got {list(betas)}")
        if (ensemble is None) != (first == 0):
            raise InvalidInput(
                f"paths begin at the prior, the coupling 0, or at an ensemble of another first coupling; got {first:g} "
                f"and {'no' if ensemble is None else 'an'} ensemble"
            )
        self.betas, self.ensemble = (first, *betas), ensemble
        self.coefficients = torch.zeros(len(betas), 0) if coefficients is None else coefficients
        if self.coefficients.shape != (len(betas), len(operators)):
            raise InvalidInput(
                f"coefficients must be ({len(betas)}, {len(operators)}) for these stages and operators, got "
                f"{tuple(self.coefficients.shape)}"
            )
        steps = [MidpointStep(gauge_field(action.space), operators, own) for own in self.coefficients if operators]
        super().__init__(
            [sampler(action.at(beta)) for beta in betas],
            start=None if ensemble is None else action.at(first),
            layers=steps or None,
            dtype=dtype,
        )

    def begin(self, streams: Streams) -> Tensor:
        if self.ensemble is None:
            return super().begin(streams)
        numbers = (streams.rand(dtype=torch.float64) * len(self.ensemble)).long()
        return self.ensemble[numbers].to(streams.device)

    @torch.no_grad()
    def integration_errors(self, n: int, streams: Streams) -> Tensor:
        """The errors of log w `(n,)` of n paths that come from the steps of layers, and from their rounding.

        They hardly vary, so that means are safe. log Z is off by their mean. n is a multiple of the blocks of 8 paths.

        Raises:
            InvalidInput: more than one stream, or another n.
        """
        if n % BLOCK:
            raise InvalidInput(f"n must be a multiple of {BLOCK}, got {n}")
        other, layers = copy.copy(self), []
        for sampler, layer in zip(self.schedule, self.layers, strict=True):
            layers.append(_Compared(layer, sampler.action) if isinstance(layer, MidpointStep) else None)
        other.layers = layers
        other.draw(n, streams)
        return sum((torch.cat(layer.errors) for layer in layers if layer), start=torch.zeros(n, dtype=torch.float64))

    def __repr__(self) -> str:
        stages, n = self.coefficients.shape
        layers = f", layers of {n} operators" if n else ""
        return f"StochasticFlow: {self.space}, beta = {self.betas[0]:g} to {self.betas[-1]:g}, {stages} stages{layers}"


def check_rising(action: Action, betas: Sequence[float]) -> float:
    """Return the coupling of the action; raise InvalidInput unless these rise to it, from 0 or more."""
    if action.beta is None:
        raise InvalidInput(f"annealing changes the coupling beta, and {action} has none")
    for low, high in itertools.pairwise([*betas, action.beta]):
        if not 0 <= low < high:
            end = f"from 0 or more to {action.beta:g}, that of the target"
            raise InvalidInput(f"couplings must rise {end}: got {high:g} after {low:g}")
    return action.beta


class _Compared:
    """A layer, and the errors of log w `(n,)` that it makes beside one of fourth order, in double precision."""

    def __init__(self, layer: MidpointStep, action: Action):
        self.layer, self.action, self.errors = layer, action, list[Tensor]()
        self.exact = GradientFlow(layer.space, layer.operators, knots=1, steps=1, dtype=torch.float64)
        self.exact.coefficients.data[0] = layer.coefficients

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, logdet = self.layer(x)
        double = self.layer.space.dtype(torch.float64)
        exact, other = self.exact(x.to(double))
        self.errors.append(logdet - other - self.action(y.to(double)) + self.action(exact))
        return y, logdet

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.inverse(y)


@dataclass(frozen=True, kw_only=True)
class AnnealingSettings(Settings):
    """Paths to the target, whose ends are the proposals of independence Metropolis.

    Paths begin at Haar's measure (``haar``), or at the configurations of the run in a folder. They have ``stages``
    couplings, at each a layer of operators, and then the updates ``between`` with their default settings. ``paths``
    of them are made at a time.
    """

    begin: str = "haar"
    stages: Count = 32
    layers: Literal["none", "plaquette", "production", "nlo"] = "production"
    between: Updates = ("heatbath", "overrelaxation*2")
    paths: Count = 32


def _build(action: Any, settings: AnnealingSettings, context: Context) -> IndependenceMetropolis:
    if context.annealing is None:
        raise InvalidInput("the update annealing needs fitted layers: lattice-flows anneal makes them")
    return proposing(context.annealing, action, settings.paths, context)


ANNEALING = SamplerEntry("annealing", AnnealingSettings, _build, independent=True)
