"""The stages of a training: the levels of a hierarchy one at a time, where that is asked for, then the whole flow."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lattice_flows.actions import Action, ActionLike, Wilson
from lattice_flows.config import TrainingConfig
from lattice_flows.distributed import World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.layers.level import Level
from lattice_flows.measurement.loop_density import plaquettes
from lattice_flows.training.losses import ESTIMATORS, ForwardKL, ReverseKL, forward_path, likelihood, log_ratio, path
from lattice_flows.training.shards import Draw
from lattice_flows.training.splits import POOL, matters, split

Estimate = tuple[ReverseKL | ForwardKL, float, float]
Gradient = Callable[[int, Callable[[Draw], Tensor], torch.Generator], Estimate]
"""From the step of a stage, what draws this rank's part of a batch, and a stream that all ranks have: an estimate from
this part, and the learning rate and the coupling that go with it."""

LIKELIHOOD_SHARE = 0.15
"""The first part of a level's steps is plain maximum likelihood, which reaches every part of the target."""


class Stage(NamedTuple):
    """A number of steps, of which parameters they are, and what makes their gradients, which is prepared by `start`."""

    name: str
    steps: int
    batch: int
    parameters: Callable[[], Iterable[nn.Parameter]]
    start: Callable[[World], Gradient]


def stages(flow: Flow, action: Action, settings: TrainingConfig) -> list[Stage]:
    """All stages of a training, in order.

    Raises:
        InvalidInput: levels are to be trained of a flow that has none, or for another action than Wilson's.
    """
    levels = _level_stages(flow, action, settings) if settings.level_steps else []

    def start(world: World) -> Gradient:
        return _whole(flow, action, settings, world)

    return [*levels, Stage("flow", settings.steps, settings.batch, flow.parameters, start)]


def total_steps(flow: Flow, action: Action, settings: TrainingConfig) -> int:
    """The number of steps of all stages.

    Raises:
        InvalidInput: stages that the flow or the action does not have.
    """
    return sum(stage.steps for stage in stages(flow, action, settings))


def learning_rate(step: int, settings: TrainingConfig, steps: int | None = None, peak: float | None = None) -> float:
    """Linear warm-up over `warmup` steps, then a cosine from the peak to 0 at `steps`.

    Args:
        steps, peak: of the stage. Default: those of the whole flow.

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


def annealed_beta(step: int, beta: float, settings: TrainingConfig) -> float:
    """The coupling of a step: linear from `beta_start` to `beta` over `anneal_steps`."""
    if settings.beta_start is None or step >= settings.anneal_steps:
        return beta
    return settings.beta_start + (beta - settings.beta_start) * step / settings.anneal_steps


def _whole(flow: Flow, action: Action, settings: TrainingConfig, world: World) -> Gradient:
    estimate = ESTIMATORS[settings.estimator]

    def gradient(step: int, draw: Callable[[Draw], Tensor], common: torch.Generator) -> Estimate:
        beta = annealed_beta(step, action.beta, settings)
        if flow.coupling is not None:
            low, high = flow.coupling.low, flow.coupling.high
            beta = low + (high - low) * torch.rand((), generator=common, device=common.device).item()
            flow.coupling.set(beta)
        value = estimate(flow, _scaled(action, beta / action.beta), draw(flow.draw), world)
        return value, learning_rate(step, settings), beta

    return gradient


def _scaled(action: Action, factor: float) -> ActionLike:
    return lambda links: factor * action(links)


def _level_stages(flow: Flow, action: Action, settings: TrainingConfig) -> list[Stage]:
    levels = [layer for layer in flow.layers if isinstance(layer, Level)]
    if not levels or type(action) is not Wilson or flow.coupling is not None:
        raise InvalidInput(
            "level_steps > 0 needs a hierarchical flow for one coupling of the Wilson action; set level_steps = 0"
        )

    @functools.cache
    def pool() -> Tensor:
        return plaquettes(action.group, action.beta, POOL, torch.Generator().manual_seed(settings.seed))

    return [
        Stage(
            "+".join(map(str, level.areas)),
            settings.level_steps,
            settings.level_batch,
            level.parameters,
            functools.partial(_level, level, action, pool, settings),
        )
        for level in levels
        if matters(level, action)
    ]


def _level(
    level: Level, action: Wilson, pool: Callable[[], Tensor], settings: TrainingConfig, world: World
) -> Gradient:
    flow, prior, target = split(level, action, pool(), settings.seed)
    dtype = next(level.parameters()).dtype

    def sample(n: int, generator: torch.Generator) -> Tensor:
        return prior.target(n, generator, dtype)

    def halves(n: int, generator: torch.Generator) -> Tensor:
        return torch.cat((prior.sample(n // 2, generator, dtype), sample(n - n // 2, generator)))

    def gradient(step: int, draw: Callable[[Draw], Tensor], common: torch.Generator) -> Estimate:
        value: ReverseKL | ForwardKL
        if settings.level_estimator == "log_ratio":
            value = log_ratio(flow, target, draw(halves))
        elif step < LIKELIHOOD_SHARE * settings.level_steps:
            value = likelihood(flow, target, draw(sample))
        elif step % 2:
            # the reverse divergence forgives what is left out, the forward one what is added
            value = forward_path(flow, target, draw(sample))
        else:
            value = path(flow, target, draw(flow.draw), world)
        return value, learning_rate(step, settings, settings.level_steps, settings.level_learning_rate), action.beta

    return gradient
