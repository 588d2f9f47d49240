"""The stages of a training: the whole flow, and those that a recipe puts before it."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lattice_flows.actions import Action
from lattice_flows.config.sections import TrainingConfig
from lattice_flows.distributed import World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.training.losses import ESTIMATORS, Divergence
from lattice_flows.training.shards import Draw

Gradient = Callable[[int, Callable[[Draw], Tensor], torch.Generator], tuple[Divergence, float, float | None]]
"""A function that gives an estimate from this rank's part of a batch, the learning rate, and the coupling beta.

Its arguments are the step of the stage, a function that draws the part, and a stream that all ranks share.
"""
ChooseBeta = Callable[[int, torch.Generator], float]
"""A function that chooses the coupling of a step and sets it in the flow."""


class Stage(NamedTuple):
    """Steps that share a batch size, parameters and gradients."""

    name: str
    steps: int
    batch: int
    parameters: Callable[[], Iterable[nn.Parameter]]
    """The parameters that the stage trains."""
    start: Callable[[World], Gradient]
    """A function that begins the stage and gives its gradients."""
    optimized: bool = True
    """Whether the optimizer moves the parameters; else the gradients are 0, and what gives them moves them itself."""


def whole_flow(flow: Flow, action: Action, settings: TrainingConfig, choose_beta: ChooseBeta | None = None) -> Stage:
    """The stage that trains the whole flow on the reverse divergence.

    Args:
        choose_beta: of a flow for a range of couplings. Default: beta is that of the action, annealed if the settings
            say so.

    Raises:
        InvalidInput: the settings anneal beta, but the action has none or `choose_beta` is given; or the flow sees
            beta, and nothing chooses it.
    """
    if choose_beta is None and getattr(flow, "beta_input", None) is not None:
        raise InvalidInput(
            "the flow sees beta, and must be trained at all its couplings: give train(...) the stages of its recipe, "
            "stages=level_stages(flow, action, settings) of lattice_flows.planar.level_training"
        )
    estimate = ESTIMATORS[settings.estimator]
    if settings.beta_start is not None and (action.beta is None or choose_beta is not None):
        reason = f"{action} has none" if action.beta is None else "the flow is trained at all its couplings"
        raise InvalidInput(f"beta_start = {settings.beta_start} anneals beta, but {reason}; leave beta_start out")

    def gradient(world: World, step: int, draw: Callable[[Draw], Tensor], common: torch.Generator):
        beta = choose_beta(step, common) if choose_beta else annealed_beta(step, action.beta, settings)
        there = action if beta is None or beta == action.beta else action.at(beta)
        return estimate(flow, there, draw(flow.sample_prior), world), learning_rate(step, settings), beta

    return Stage("flow", settings.steps, settings.batch, flow.parameters, lambda world: partial(gradient, world))


def total_steps(stages: Iterable[Stage]) -> int:
    """The number of steps of all stages."""
    return sum(stage.steps for stage in stages)


def learning_rate(step: int, settings: TrainingConfig, steps: int | None = None, peak: float | None = None) -> float:
    """Linear warm-up over `warmup` steps, then a cosine from the peak to 0 at `steps`.

    Args:
        steps, peak: those of a stage. Default: those of the whole flow.

    Example:
        >>> settings = TrainingConfig(steps=100, learning_rate=1.0, warmup=10)
        >>> [round(learning_rate(step, settings), 3) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    steps = settings.steps if steps is None else steps
    peak = settings.learning_rate if peak is None else peak
    if step < settings.warmup:
        return peak * (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, steps - settings.warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def annealed_beta(step: int, beta: float | None, settings: TrainingConfig) -> float | None:
    """The coupling of a step, linear from `beta_start` to `beta` over `anneal_steps`; None stays None."""
    if beta is None or settings.beta_start is None or step >= settings.anneal_steps:
        return beta
    return settings.beta_start + (beta - settings.beta_start) * step / settings.anneal_steps
