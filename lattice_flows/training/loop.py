"""The training loop: a generator of records over a state that a checkpoint can hold. It writes no files."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from lattice_flows.actions import Action
from lattice_flows.config import TrainingConfig
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.flows import Flow
from lattice_flows.measurement import ess
from lattice_flows.training.schedule import Gradient, stages
from lattice_flows.training.soap import SOAP

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
    generator: torch.Generator
    step: int = 0
    bad_steps: int = 0
    """Steps in a row, up to now, that were skipped."""

    @classmethod
    def start(cls, flow: Flow, settings: TrainingConfig, device: torch.device | str = "cpu") -> "TrainingState":
        """The state before the first step, with the flow moved to `device`."""
        flow.to(device)
        return cls(
            flow,
            OPTIMIZERS[settings.optimizer](flow.parameters(), lr=settings.learning_rate),
            torch.Generator(device).manual_seed(settings.seed),
        )

    def state_dict(self) -> dict:
        """Tensors and plain numbers alone, so that it loads with `torch.load(..., weights_only=True)`."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "flow": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
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
        self.generator.set_state(saved["generator"].cpu())
        torch.set_rng_state(saved["torch_rng"].cpu())
        if saved["cuda_rng"] and torch.cuda.device_count() == len(saved["cuda_rng"]):
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda_rng"]])
        self.step = saved["step"]
        self.bad_steps = saved["bad_steps"]


def train(state: TrainingState, action: Action, settings: TrainingConfig) -> Iterator[StepRecord]:
    """Train through all `stages` from `state.step` on, yielding a record after every step.

    Between two records the state is consistent: it can be saved, and training continued from it gives the same numbers
    to the last bit on the same machine and number of threads. A step whose loss or gradient is not finite leaves the
    weights as they are.

    While annealing, the action is multiplied by the ratio of couplings: S must be proportional to beta.

    Raises:
        NumericalFailure: `max_bad_steps` steps in a row were not finite.

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
    for stage in stages(state.flow, action, settings):
        begin, end = end, end + stage.steps
        if state.step >= end:
            continue
        gradient = stage.start()
        while state.step < end:
            yield _step(state, stage.name, gradient, state.step - begin, settings)
            if state.bad_steps >= settings.max_bad_steps:
                raise NumericalFailure(
                    f"training stopped at step {state.step}: loss or gradient not finite {state.bad_steps} times in a "
                    "row; try a smaller training.learning_rate or training.clip, or training.dtype = 'float64'"
                )


def _step(state: TrainingState, name: str, gradient: Gradient, step: int, settings: TrainingConfig) -> StepRecord:
    """One step of a stage."""
    begin = time.perf_counter()
    state.optimizer.zero_grad()
    rate, beta, sample_size = math.nan, math.nan, math.nan
    try:
        value, rate, beta = gradient(step, state.generator)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        value.surrogate.backward()
        loss = value.loss
        # levels that take no part have no gradient
        parameters = [parameter for parameter in state.flow.parameters() if parameter.grad is not None]
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip).item()
        sample_size = ess(value.log_w).item() if math.isfinite(loss) else math.nan
    except NumericalFailure:
        loss = grad_norm = math.nan
    skipped = not (math.isfinite(loss) and math.isfinite(grad_norm))
    if not skipped:
        state.optimizer.step()
    state.step += 1
    state.bad_steps = state.bad_steps + 1 if skipped else 0
    return StepRecord(state.step, name, loss, sample_size, grad_norm, rate, beta, time.perf_counter() - begin, skipped)
