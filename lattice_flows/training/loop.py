"""The training loop: a generator of records over a state that a checkpoint can hold. It writes no files."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from lattice_flows.actions import Action
from lattice_flows.config.sections import TrainingConfig
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.flows.flow import Flow
from lattice_flows.training.losses import Divergence
from lattice_flows.training.optimizers import Adam
from lattice_flows.training.shards import Reduction, Shards, check_replicas
from lattice_flows.training.soap import SOAP
from lattice_flows.training.stages import Stage, whole_flow

CHECK_EVERY = 100
"""The number of steps between two comparisons of the weights of all ranks."""
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": functools.partial(Adam, fused=True),
    "soap": SOAP,
}


@dataclass(frozen=True)
class StepRecord:
    """The results of one training step."""

    step: int
    """The number of steps up to and with this one."""
    stage: str
    """The name of the stage: `flow`, or the areas of the two parts of a level, such as `1+1`."""
    stage_number: int
    """The number of the stage, from 1."""
    stages: int
    """The number of all stages."""
    batch: int
    """The number of samples in the batch of this stage."""
    loss: float
    """An estimate of KL(q | p) - log Z, or from samples of the target of KL(p | q) + log Z; a level has log Z = 0."""
    ess: float
    """Effective sample size of the batch for what the stage trains, per sample, from 1 / batch to 1.

    It is nan where the batch has neither the density of the model nor that of the target.
    """
    log_z: float
    """The estimate of log Z from the batch, which pools the ESS of several batches; nan as `ess`."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    beta: float | None
    """The coupling of this step, which annealing changes; None if the action has no beta."""
    seconds: float
    """All seconds of the step on this rank."""
    sampling_seconds: float
    """The seconds that draw and evaluate configurations, with the inner derivative of a path gradient."""
    backward_seconds: float
    """The seconds of the derivative with respect to the parameters."""
    waiting_seconds: float
    """The seconds of waiting for slower ranks."""
    communication_seconds: float
    """The seconds of the sum over ranks; the rest is the optimizer."""
    skipped: bool
    """Whether the loss or the gradient was not finite, so that the weights stay as they were."""


def select_device(name: str) -> torch.device:
    """The device `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:k`; InvalidInput if this machine has none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InvalidInput(
            f"device {name!r} is not there: torch sees {count} CUDA devices; use device = 'auto' or 'cpu'"
        )
    return device


@dataclass
class TrainingState:
    """The state of a training run: the rest of the run depends on nothing else."""

    flow: Flow
    optimizer: torch.optim.Optimizer
    step: int = 0
    bad_steps: int = 0
    """The number of steps in a row, up to now, that were skipped."""

    @classmethod
    def start(cls, flow: Flow, settings: TrainingConfig, device: torch.device | str = "cpu") -> "TrainingState":
        """The state before the first step, with the flow moved to `device`."""
        flow.to(device)
        return cls(flow, OPTIMIZERS[settings.optimizer](flow.parameters(), lr=settings.learning_rate))

    def state_dict(self) -> dict:
        """The state in tensors and plain numbers, which `torch.load(..., weights_only=True)` loads."""
        return {
            "flow": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "step": self.step,
            "bad_steps": self.bad_steps,
        }

    def load_state_dict(self, saved: dict) -> None:
        """Take over a saved state, with the global random streams of torch; InvalidInput if it is of another flow."""
        try:
            self.flow.load_state_dict(saved["flow"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InvalidInput(f"the checkpoint belongs to another flow: {str(error).splitlines()[0]}") from error
        torch.set_rng_state(saved["torch_rng"].cpu())
        if saved["cuda_rng"] and torch.cuda.device_count() == len(saved["cuda_rng"]):
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda_rng"]])
        self.step, self.bad_steps = saved["step"], saved["bad_steps"]


def train(
    state: TrainingState,
    action: Action,
    settings: TrainingConfig,
    world: World = SERIAL,
    stages: Sequence[Stage] | None = None,
) -> Iterator[StepRecord]:
    """Train through all stages from `state.step` on, and yield a record after every step, on every rank.

    Between two records the state can be saved. Training from it gives the same numbers to the last bit on the same
    machine, with as many threads and ranks; another number of ranks changes rounding. A step whose loss or gradient is
    not finite leaves the weights as they are. While annealing, the target is `action.at(beta)`.

    Args:
        state: the same on every rank; the flow is on the device of this one.
        world: its ranks share the batches.
        stages: those of a recipe. Default: the whole flow alone.

    Raises:
        InvalidInput: more ranks than shards, or than samples in a batch; or annealing of an action without beta.
        NumericalFailure: `max_bad_steps` steps in a row were not finite, or the weights of ranks differ.

    Example:
        >>> from lattice_flows import U1, actions, flows
        >>> settings = TrainingConfig(steps=30, batch=256, learning_rate=0.02)
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, hidden=(4,), seed=0)
        >>> state = TrainingState.start(flow, settings)
        >>> records = list(train(state, actions.Wilson(flow.space, beta=1.0), settings))
        >>> records[-1].step, records[-1].loss < records[0].loss
        (30, True)
    """
    stages = [whole_flow(state.flow, action, settings)] if stages is None else stages
    end = 0
    shards = Shards(settings.seed, settings.shards, world, next(state.flow.parameters()).device)
    for number, stage in enumerate(stages, 1):
        begin, end = end, end + stage.steps
        if state.step >= end:
            continue
        state.optimizer.zero_grad()  # parameters that take no part have no gradient
        step = _Step(state, stage, (number, len(stages)), shards, settings)
        while state.step < end:
            yield step(state.step - begin)
            if state.bad_steps >= settings.max_bad_steps:
                raise NumericalFailure(
                    f"training stopped at step {state.step}: loss or gradient not finite {state.bad_steps} times in a "
                    "row; try a smaller training.learning_rate or training.clip, or training.dtype = 'float64'"
                )
            if state.step % CHECK_EVERY == 0 or state.step == end:
                check_replicas(state.flow.parameters(), world, state.step)


class _Step:
    """The steps of a stage, on this rank."""

    def __init__(
        self, state: TrainingState, stage: Stage, number: tuple[int, int], shards: Shards, settings: TrainingConfig
    ):
        self.state, self.stage, self.number, self.shards, self.settings = state, stage, number, shards, settings
        self.gradient = stage.start(shards.world)
        self.reduction = Reduction(stage.parameters(), stage.batch)

    def __call__(self, number: int) -> StepRecord:
        """Make the step of this number in the stage."""
        state, world, times = self.state, self.shards.world, [time.perf_counter()]
        value, rate, beta = self._differentiate(number, times)
        world.barrier()
        times.append(time.perf_counter())
        self.reduction.sum_(world)
        times.append(time.perf_counter())
        sampling, backward, waiting, communication = (late - early for early, late in itertools.pairwise(times))
        # the numbers of all ranks, so that all come to the same conclusions
        value = None if value is None else value._replace(log_w=self.reduction.log_w)
        loss = math.nan if value is None else value.loss
        grad_norm = torch.nn.utils.clip_grad_norm_(self.reduction.parameters, self.settings.clip).item()
        skipped = not (math.isfinite(loss) and math.isfinite(grad_norm))
        if self.stage.optimized and not skipped:
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            state.optimizer.step()
        state.step += 1
        state.bad_steps = state.bad_steps + 1 if skipped else 0
        return StepRecord(
            step=state.step,
            stage=self.stage.name,
            stage_number=self.number[0],
            stages=self.number[1],
            batch=self.stage.batch,
            loss=loss,
            ess=value.ess if value is not None and math.isfinite(loss) else math.nan,
            log_z=value.log_z if value is not None and math.isfinite(loss) else math.nan,
            grad_norm=grad_norm,
            learning_rate=rate,
            beta=beta,
            seconds=time.perf_counter() - times[0],
            sampling_seconds=sampling,
            backward_seconds=backward,
            waiting_seconds=waiting,
            communication_seconds=communication,
            skipped=skipped,
        )

    def _differentiate(self, number: int, times: list[float]) -> tuple[Divergence | None, float, float | None]:
        """Put this rank's part of the gradient and of the log-weights into the buffers; a failure gives None."""
        step, own = self.state.step, self.shards.own(self.stage.batch)
        self.reduction.fill_(0)
        estimate: tuple[Divergence | None, float, float | None] = (None, math.nan, math.nan)
        try:
            draw = functools.partial(self.shards.draw, self.stage.batch, step)
            value, _, _ = estimate = self.gradient(number, draw, self.shards.common(step))
            times.append(time.perf_counter())
            (len(own) / self.stage.batch * value.surrogate).backward()
            self.reduction.log_w[own.start : own.stop] = value.log_w
        except NumericalFailure:
            self.reduction.fill_(math.nan)  # so that every rank sees the failure of this one
            times += [time.perf_counter()] * (2 - len(times))
        times.append(time.perf_counter())
        return estimate
