"""The training loop: a generator of records over a state that a checkpoint can hold. It writes no files."""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from lattice_flows.actions import Action
from lattice_flows.config import TrainingConfig
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.flows import Flow
from lattice_flows.measurement import ess
from lattice_flows.training.losses import ForwardKL, ReverseKL
from lattice_flows.training.reduction import Reduction, check_replicas
from lattice_flows.training.schedule import Stage, stages
from lattice_flows.training.shards import Shards
from lattice_flows.training.soap import SOAP

CHECK_EVERY = 100
"""Steps after which the weights of all ranks are compared."""
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "soap": SOAP}


@dataclass(frozen=True)
class StepRecord:
    """What one training step gave."""

    step: int
    """Steps done, this one included."""
    stage: str
    """`flow`, or the areas of the two parts of the rectangles whose level is trained alone, such as `1+1`."""
    loss: float
    """An estimate of KL(q | p) - log Z, log Z being 0 for a level alone; at its start, of KL(p | q)."""
    ess: float
    """Effective sample size of the batch, per sample, in (0, 1]."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    beta: float
    """The coupling of this step; differs from the action's while annealing."""
    seconds: float
    """That the step took on this rank; of them"""
    sampling_seconds: float
    """went into drawing links and evaluating them, the inner derivative of a path gradient included,"""
    backward_seconds: float
    """into the derivative with respect to the parameters,"""
    waiting_seconds: float
    """into waiting for slower ranks,"""
    communication_seconds: float
    """into summing over ranks; the rest is the optimizer."""
    skipped: bool
    """Whether the loss or the gradient was not finite, and the weights were left as they were."""


def select_device(name: str) -> torch.device:
    """The device that a config names: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:k`.

    Raises:
        InvalidInput: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InvalidInput(
            f"device {name!r} is not there: torch sees {count} CUDA devices; use device = 'auto' or 'cpu'"
        )
    return device


@dataclass
class TrainingState:
    """Everything that the rest of a training run depends on: `state_dict` of it, stored and loaded, changes nothing."""

    flow: Flow
    optimizer: torch.optim.Optimizer
    step: int = 0
    bad_steps: int = 0
    """Steps in a row, up to now, that were skipped."""

    @classmethod
    def start(cls, flow: Flow, settings: TrainingConfig, device: torch.device | str = "cpu") -> "TrainingState":
        """The state before the first step, with the flow moved to `device`."""
        flow.to(device)
        return cls(flow, OPTIMIZERS[settings.optimizer](flow.parameters(), lr=settings.learning_rate))

    def state_dict(self) -> dict:
        """Tensors and plain numbers alone, so that it loads with `torch.load(..., weights_only=True)`."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "flow": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": cuda,
            "step": self.step,
            "bad_steps": self.bad_steps,
        }

    def load_state_dict(self, saved: dict) -> None:
        """Take over a saved state, the global random streams of torch included.

        Raises:
            InvalidInput: it belongs to another flow.
        """
        try:
            self.flow.load_state_dict(saved["flow"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InvalidInput(f"the checkpoint belongs to another flow: {str(error).splitlines()[0]}") from error
        torch.set_rng_state(saved["torch_rng"].cpu())
        if saved["cuda_rng"] and torch.cuda.device_count() == len(saved["cuda_rng"]):
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda_rng"]])
        self.step = saved["step"]
        self.bad_steps = saved["bad_steps"]


def train(
    state: TrainingState, action: Action, settings: TrainingConfig, world: World = SERIAL
) -> Iterator[StepRecord]:
    """Train through all `stages` from `state.step` on, yielding a record after every step, on every rank.

    Between two records the state is consistent: it can be saved, and training continued from it gives the same numbers
    to the last bit on the same machine and number of threads and ranks; on another number of ranks, up to rounding. A
    step whose loss or gradient is not finite leaves the weights as they are.

    While annealing, the action is multiplied by the ratio of couplings: S must be proportional to beta.

    Args:
        state: the same on every rank; the flow is on the device of this one.
        world: whose ranks share the batches.

    Raises:
        InvalidInput: more ranks than shards, or than samples in a batch.
        NumericalFailure: `max_bad_steps` steps in a row were not finite, or ranks have come to differ.

    Example:
        >>> from lattice_flows import U1, flows
        >>> from lattice_flows.actions import Wilson
        >>> settings = TrainingConfig(steps=20, batch=64, learning_rate=0.01)
        >>> state = TrainingState.start(flows.stripes(U1(), (4, 4), layers=4, hidden=(4,), seed=0), settings)
        >>> records = list(train(state, Wilson(U1(), beta=1.0), settings))
        >>> records[-1].step, records[-1].loss < records[0].loss
        (20, True)
    """
    end = 0
    shards = Shards(settings.seed, settings.shards, world, next(state.flow.parameters()).device)
    for stage in stages(state.flow, action, settings):
        begin, end = end, end + stage.steps
        if state.step >= end:
            continue
        state.optimizer.zero_grad()  # parameters that take no part have no gradient
        step = _Step(state, stage, shards, settings)
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

    def __init__(self, state: TrainingState, stage: Stage, shards: Shards, settings: TrainingConfig):
        self.state, self.stage, self.shards, self.settings = state, stage, shards, settings
        self.own = shards.own(stage.batch)
        self.gradient = stage.start(shards.world)
        self.reduction = Reduction(stage.parameters(), stage.batch)

    def __call__(self, number: int) -> StepRecord:
        """The step of this number, counted from the begin of the stage."""
        state, world, times = self.state, self.shards.world, [time.perf_counter()]
        value, rate, beta = self._differentiate(number, times)
        world.barrier()
        times.append(time.perf_counter())
        self.reduction.sum_(world)
        times.append(time.perf_counter())
        sampling, backward, waiting, communication = (late - early for early, late in itertools.pairwise(times))
        # the numbers of all ranks, from which all of them draw the same conclusions
        loss = math.nan if value is None else value._replace(log_w=self.reduction.log_w).loss
        grad_norm = torch.nn.utils.clip_grad_norm_(self.reduction.parameters, self.settings.clip).item()
        skipped = not (math.isfinite(loss) and math.isfinite(grad_norm))
        if not skipped:
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            state.optimizer.step()
        state.step += 1
        state.bad_steps = state.bad_steps + 1 if skipped else 0
        return StepRecord(
            step=state.step,
            stage=self.stage.name,
            loss=loss,
            ess=ess(self.reduction.log_w).item() if math.isfinite(loss) else math.nan,
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

    def _differentiate(self, number: int, times: list[float]) -> tuple[ReverseKL | ForwardKL | None, float, float]:
        """Puts this rank's part of the gradient and of the log-weights into the buffers; None where it has none."""
        step, own, share = self.state.step, self.own, len(self.own) / self.stage.batch
        self.reduction.zero_()
        value, rate, beta = None, math.nan, math.nan
        try:
            value, rate, beta = self.gradient(
                number, functools.partial(self.shards.draw, self.stage.batch, step), self.shards.common(step)
            )
            times.append(time.perf_counter())
            (share * value.surrogate).backward()
            self.reduction.log_w[own.start : own.stop] = value.log_w
        except NumericalFailure:
            self.reduction.fail_()
            times += [time.perf_counter()] * (2 - len(times))
        times.append(time.perf_counter())
        return value, rate, beta
