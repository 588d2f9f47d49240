"""The quality of a flow: while it is trained from the last batches, and afterwards from fresh samples."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import FINITE, Count, Settings, at_least
from lattice_flows.config.sections import TrainingConfig
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import NumericalFailure
from lattice_flows.flows.flow import Flow
from lattice_flows.statistics import estimate_ess
from lattice_flows.statistics.weights import expected_acceptance
from lattice_flows.training.shards import Shards

SAMPLES = 1024
"""The number of fresh samples; more for more shards than these."""
FRESH = 2**32 - 1  # in the key of their streams, in the place of the number of a step
POOLED = 50
"""The number of steps whose batches are pooled."""


@dataclass(frozen=True, kw_only=True)
class Quality(Settings):
    """The quality of a flow as a proposal, from independent samples."""

    samples: Count
    ess: Annotated[float, FINITE]
    """The effective sample size per sample, in (0, 1], of `estimate_ess`."""
    ess_error: Annotated[float, FINITE] | None = None
    acceptance: Annotated[float, FINITE]
    """The acceptance to expect of independence Metropolis in equilibrium."""
    seconds: Annotated[float, FINITE, at_least(0)]
    """The seconds that one sample takes on one rank."""
    warning: str = ""
    """The reason why the ESS has no error, where it has none."""

    @classmethod
    def of(cls, log_w: Tensor, seconds: float) -> Self:
        """Return the quality from log-weights `(n,)`; a weight that is not finite counts as zero, as in a chain.

        Raises:
            NumericalFailure: hardly any weight is finite.
        """
        log_w = torch.where(log_w.isfinite(), log_w.double(), -math.inf)
        if (found := int(log_w.isfinite().sum())) < 2:
            raise NumericalFailure(
                f"{found} of {len(log_w)} fresh samples of the flow have a finite weight: train with a smaller "
                "training.learning_rate, or training.dtype = 'float64'"
            )
        share = estimate_ess(log_w)
        return cls(
            samples=len(log_w),
            ess=share.value,
            ess_error=None if math.isnan(share.error) else share.error,
            acceptance=expected_acceptance(log_w).item(),
            seconds=seconds,
            warning=share.reason,
        )


def fresh_log_weights(
    flow: Flow, action: Action, settings: TrainingConfig, world: World = SERIAL
) -> Iterator[tuple[Tensor, float]]:
    """Yield log-weights `(k,)` of fresh samples of a flow in parts, and the seconds of each.

    Every rank gets as many parts; together they hold `SAMPLES`, the same on any number of ranks. No step of a training
    has their streams. A flow for a range of couplings is taken at the coupling of the action.

    Example:
        >>> from lattice_flows import U1, actions, flows
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, hidden=(4,), seed=0)
        >>> parts = [part for part, _ in fresh_log_weights(flow, actions.Wilson(flow.space, 1.0), TrainingConfig())]
        >>> len(parts), sum(len(part) for part in parts)
        (16, 1024)
    """
    if (beta_input := getattr(flow, "beta_input", None)) is not None:
        beta_input.set(action.beta)
    shards = Shards(settings.seed, settings.shards, world, next(flow.parameters()).device)
    own, samples = world.share(settings.shards), max(SAMPLES, settings.shards)
    for k in range(-(-settings.shards // world.size)):
        since, parts = time.perf_counter(), [torch.empty(0, dtype=torch.float64)]
        if k < len(own):
            with torch.no_grad():
                for z in shards.one(samples, FRESH, own[k], flow.sample_prior).split(settings.batch):
                    y, log_q = flow.transform(z)
                    parts.append((-action(y).double() - log_q.double()).cpu())
        yield torch.cat(parts), time.perf_counter() - since


def pooled_ess(metrics: Sequence[Mapping[str, Any]]) -> tuple[float, int]:
    """Return the ESS from the batches of the last steps of one stage at one coupling, and the number of their samples.

    With the mean weight Z_t and the ESS of batch t, ESS = (mean Z_t)^2 / mean(Z_t^2 / ESS_t). It is nan of 0 samples
    where the last step has no ESS.

    Args:
        metrics: records of steps, as dicts, with None or nan where a step has no ESS.

    Example:
        >>> step = {"stage": "flow", "beta": 1.0, "batch": 8, "ess": 0.5, "log_z": 0.0}
        >>> pooled_ess([step | {"ess": 0.1, "stage": "1+1"}, step, step | {"ess": None}, step | {"log_z": 1.0}])
        (0.4120..., 16)
    """
    used: list[Mapping[str, Any]] = []
    for record in reversed(metrics[-POOLED:]):
        if any(record.get(key) != metrics[-1].get(key) for key in ("stage", "beta", "batch")):
            break
        if math.isfinite(record.get("ess") or math.nan) and record.get("log_z") is not None:
            used.append(record)
    if not used:
        return math.nan, 0
    top = max(record["log_z"] for record in used)
    means = [math.exp(record["log_z"] - top) for record in used]
    squares = [mean**2 / record["ess"] for mean, record in zip(means, used, strict=True)]
    return sum(means) ** 2 / len(used) / sum(squares), len(used) * used[0]["batch"]
