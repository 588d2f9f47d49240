"""The training of a gradient flow: linear fits, and steps that lower the reverse divergence."""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import Count, Rule, Settings
from lattice_flows.distributed import World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.gradient_flows import GradientSettings, gradient
from lattice_flows.flows.recipe import Recipe, keywords
from lattice_flows.lattice import Space
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.gradient_flow import GradientFlow
from lattice_flows.sampling import Streams
from lattice_flows.streams import digest
from lattice_flows.training.fits import gauss_newton, regression, zeros_along_path
from lattice_flows.training.losses import Divergence
from lattice_flows.training.stages import Gradient, Stage, whole_flow

STAGES = ("least_squares", "gauss_newton", "reverse_kl")


@dataclass(frozen=True, kw_only=True)
class GradientTraining(Settings):
    """The keys of ``[training]`` of a gradient flow.

    ``least_squares`` fits the coefficients at each knot to ``fit_chains`` configurations of the density there, after
    ``fit_sweeps`` sweeps. ``gauss_newton`` lowers the variance of log w in ``newton_steps`` linear fits to
    ``fit_chains`` samples. ``reverse_kl`` makes ``steps`` steps of the optimizer.
    """

    stages: Annotated[
        tuple[str, ...],
        Rule(f"a list of {', '.join(STAGES)}", lambda v: v and all(name in STAGES for name in v)),
    ] = ("least_squares", "gauss_newton")
    fit_chains: Count = 512
    fit_sweeps: Count = 30
    newton_steps: Count = 2


def gradient_stages(flow: Flow, action: Action, settings: Any) -> list[Stage]:
    """The stages of a gradient flow from Haar's measure to an action.

    Args:
        settings: a `TrainingConfig` with the keys of `GradientTraining`, as `Config` combines them.

    Raises:
        InvalidInput: the action has no coupling beta, or fewer chains than coefficients.
    """
    if action.beta is None:
        raise InvalidInput(f"a gradient flow is fitted at couplings from 0 to beta, and {action} has no beta")
    layer = next(layer for layer in flow.layers if isinstance(layer, GradientFlow))
    if settings.fit_chains < 4 * layer.coefficients.numel():
        raise InvalidInput(
            f"fit_chains must be at least {4 * layer.coefficients.numel()}, four times the number of coefficients, got "
            f"{settings.fit_chains}"
        )
    counts = {"least_squares": len(layer.knots), "gauss_newton": settings.newton_steps}
    fits = {"least_squares": _at_knot, "gauss_newton": _newton}

    def stage(name: str) -> Stage:
        if name == "reverse_kl":
            return whole_flow(flow, action, settings)
        start = partial(_fitted, partial(fits[name], layer, action, settings), flow, action)
        return Stage(name, counts[name], settings.fit_chains, flow.parameters, start, optimized=False)

    return [stage(name) for name in settings.stages]


def _fitted(fit, flow: Flow, action: Action, world: World) -> Gradient:
    """A gradient that is zero, as the fit sets the coefficients, with the log-weights after it."""

    def estimate(step: int, draw, common: torch.Generator):
        x = draw(flow.sample_prior)
        with torch.no_grad():
            fit(step, x, world)
            y, log_q = flow.transform(x)
            log_w = -action(y) - log_q.to(x.real.dtype)
        nothing = torch.stack([(0 * parameter).sum() for parameter in flow.parameters()]).sum()
        return Divergence(nothing, log_w), 0.0, action.beta

    return estimate


def _at_knot(layer: GradientFlow, action: Action, settings: Any, knot: int, x: Tensor, world: World) -> None:
    """Fit the coefficients at one knot; each rank has a share of the chains."""
    seed = int.from_bytes(digest(settings.seed, "fit", knot)[:7], "little")
    streams = Streams(seed, world.share(settings.fit_chains))
    zeros, change = zeros_along_path(
        layer.operators, partial(_scaled, action), layer.knots[knot], streams, settings.fit_sweeps
    )
    fit = regression(world.all_gather(zeros), world.all_gather(change))
    layer.coefficients[knot] = fit.coefficients.to(layer.coefficients)


def _scaled(action: Action, t: float) -> Action:
    """The action at t beta."""
    assert action.beta is not None
    return action.at(t * action.beta)


def _newton(layer: GradientFlow, action: Action, settings: Any, step: int, x: Tensor, world: World) -> None:
    """Make a step of Gauss and Newton on all coefficients, with this rank's samples."""
    double = copy.deepcopy(layer).double()
    gauss_newton(double, action.at(0.0), action, x.to(action.space.dtype(torch.float64)), world.all_gather)
    layer.coefficients.copy_(double.coefficients)


def _build(space: Space, settings: GradientSettings, action: Action | None = None, *, seed=None, dtype=None) -> Flow:
    space = gauge_field(space)
    return gradient(space.group, space.lattice, **keywords(settings, GradientSettings), dtype=dtype)


GRADIENT = Recipe(
    GradientSettings, _build, suits=lambda field, dim: False, stages=gradient_stages, training=GradientTraining
)
