"""Training of a hierarchical flow: each level on its exact density, then the whole flow."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lattice_flows.actions import Action, Wilson
from lattice_flows.config.rules import Count, Positive, Settings, Steps
from lattice_flows.config.sections import TrainingConfig
from lattice_flows.distributed import World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.planar.level import Level
from lattice_flows.planar.loop_density import plaquettes
from lattice_flows.planar.perceptron import BetaInput
from lattice_flows.planar.splits import POOL, matters, split
from lattice_flows.training.losses import forward_path, likelihood, log_ratio, path
from lattice_flows.training.shards import Draw
from lattice_flows.training.stages import Gradient, Stage, learning_rate, whole_flow

LIKELIHOOD_SHARE = 0.15
"""The share of a level's steps, at first, with plain maximum likelihood, which reaches every part of the target."""


@dataclass(frozen=True, kw_only=True)
class LevelTraining(Settings):
    """The keys of ``[training]`` of a hierarchical flow.

    Each level is trained first, ``level_steps`` steps of ``level_batch`` rectangles, on the exact density that the
    Wilson action gives it. The estimator ``path`` takes the likelihood, then path gradients of both divergences;
    ``log_ratio`` takes least squares of the log-ratio. ``steps`` steps of the whole flow follow.
    """

    step_keys: ClassVar[tuple[str, ...]] = ("level_steps",)

    level_steps: Steps = 0
    level_batch: Count = 1024
    level_learning_rate: Positive = 0.01
    level_estimator: Literal["path", "log_ratio"] = "path"


def level_stages(flow: Flow, action: Action, settings: TrainingConfig) -> list[Stage]:
    """The stages of a hierarchical flow: its levels from coarse to fine, if `level_steps` > 0, then the whole flow.

    A flow for a range of couplings is trained as a whole, at couplings drawn uniformly from its range. The settings are
    a `TrainingConfig` with the keys of `LevelTraining`, as `Config` combines them.

    Raises:
        InvalidInput: `level_steps` > 0, and the flow has no levels or the action is not Wilson's.
    """
    beta_input = BetaInput.of(flow)
    levels = _levels(flow, action, settings, beta_input) if getattr(settings, "level_steps", 0) else []
    choose_beta = None if beta_input is None else functools.partial(_any_beta, beta_input)
    return [*levels, whole_flow(flow, action, settings, choose_beta)]


def _any_beta(beta_input: BetaInput, step: int, generator: torch.Generator) -> float:
    low, high = beta_input.low, beta_input.high
    beta = low + (high - low) * torch.rand((), generator=generator, device=generator.device).item()
    beta_input.set(beta)
    return beta


def _levels(flow: Flow, action: Action, settings: TrainingConfig, beta_input: BetaInput | None) -> list[Stage]:
    levels = [layer for layer in flow.layers if isinstance(layer, Level)]
    if not levels or type(action) is not Wilson or beta_input is not None:
        raise InvalidInput(
            "level_steps > 0 needs a hierarchical flow for one coupling of the Wilson action; set level_steps = 0"
        )

    @functools.cache
    def pool() -> Tensor:
        generator = torch.Generator().manual_seed(settings.seed)
        return plaquettes(action.space.group, action.beta, POOL, generator)

    stages = []
    for level in levels:
        if matters(level, action):
            name, start = "+".join(map(str, level.areas)), functools.partial(_level, level, action, pool, settings)
            stages.append(Stage(name, settings.level_steps, settings.level_batch, level.parameters, start))
    return stages


def _level(
    level: Level, action: Wilson, pool: Callable[[], Tensor], settings: TrainingConfig, world: World
) -> Gradient:
    flow, prior, target = split(level, action, pool(), settings.seed)
    dtype = next(level.parameters()).dtype
    sample = functools.partial(prior.target, dtype=dtype)

    def halves(n: int, generator: torch.Generator) -> Tensor:
        return torch.cat((prior.sample(n // 2, generator, dtype, generator.device), sample(n - n // 2, generator)))

    def gradient(step: int, draw: Callable[[Draw], Tensor], common: torch.Generator):
        if settings.level_estimator == "log_ratio":
            value = log_ratio(flow, target, draw(halves))
        elif step < LIKELIHOOD_SHARE * settings.level_steps:
            value = likelihood(flow, target, draw(sample))
        elif step % 2:
            # the reverse divergence forgives omissions, the forward one additions
            value = forward_path(flow, target, draw(sample))
        else:
            value = path(flow, target, draw(flow.sample_prior), world)
        return value, learning_rate(step, settings, settings.level_steps, settings.level_learning_rate), action.beta

    return gradient
