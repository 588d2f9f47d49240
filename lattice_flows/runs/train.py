"""Training in the folder of a run."""

import contextlib
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lattice_flows import models, training
from lattice_flows.actions import Action
from lattice_flows.config import Config, to_toml
from lattice_flows.config.registry import ARCHITECTURES
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.io import MetricsFile, files, save_checkpoint
from lattice_flows.models import build_run, carried, digest
from lattice_flows.runs.folder import CHECKPOINT, METRICS, MODEL, beginning, check_same_run, load_model, write_config
from lattice_flows.signals import Stop
from lattice_flows.training import Stage, TrainingState

log = logging.getLogger(__name__)


def train_run(
    config: Config,
    folder: str | Path,
    source: str = "config",
    begin: str | Path | None = None,
    world: World = SERIAL,
    stop: Stop | None = None,
) -> int:
    """Train the flow of a config in a folder, from the start or from its checkpoint; return the last step.

    A killed run that goes on has the weights and metrics of a run without a kill: bit for bit with the same machine and
    number of threads and ranks, up to rounding with another number of ranks.

    Args:
        source: names the config in errors.
        begin: a trained model, as in `load_model`, that gives the first weights. It is carried to the lattice of the
            config, and the folder keeps it. Training begins from the model in the folder where there is one.
        world: the ranks that train together; each of them calls this.
        stop: asked after every step, on every rank.

    Raises:
        InvalidInput: settings that do not fit each other or the run in the folder, or a broken checkpoint.
        NumericalFailure: the training diverged.
        Interrupted: it was asked to stop, and has written a checkpoint.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder, stop = Path(folder), stop or Stop()
    # before anything is written, so that wrong settings leave no trace
    config, flow, action = build_run(config, source)
    stages = training_stages(config, flow, action)
    device = world.device(training.select_device(config.training.device))
    with contextlib.ExitStack() as held:
        prepared = _prepare(held, folder, config, flow, source, begin) if world.first else None
        weights, saved = world.broadcast(prepared)
        flow.load_state_dict(weights)
        state = TrainingState.start(flow, config.training, device)
        if saved is not None:
            state.load_state_dict(saved)
        _train(config, folder, state, action.to(device), stages, world, stop)
    return state.step


def training_stages(config: Config, flow: Flow, action: Action) -> list[Stage]:
    """Return the stages of a training; raise InvalidInput if the architecture has none for this flow and action."""
    own = ARCHITECTURES[config.flow.architecture].stages
    return own(flow, action, config.training) if own else [training.whole_flow(flow, action, config.training)]


def _prepare(
    held: contextlib.ExitStack, folder: Path, config: Config, flow: Flow, source: str, begin: str | Path | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Make the folder ready and hold it; return the first weights, and the training state to go on from."""
    model = None if begin is None else load_model(begin)
    if model is not None:
        flow = carried(model, config, source)
    files.make_folder(folder)
    held.enter_context(files.locked(folder))
    remedy = "leave --from out to go on with it, or take another folder"
    checkpoint = check_same_run(folder, config)
    if (folder / MODEL).exists():
        begun = beginning(folder, config).flow
        if model is not None and digest(begun) != digest(flow):
            raise InvalidInput(f"{folder} holds a run that began from other weights ({folder / MODEL}): {remedy}")
        flow = begun
    elif model is not None:
        if checkpoint is not None:
            raise InvalidInput(f"{folder} holds a run that began from random weights: {remedy}")
        models.save(model, folder / MODEL)
    write_config(folder, config)
    return flow.state_dict(), None if checkpoint is None else checkpoint["training"]


def _train(
    config: Config, folder: Path, state: TrainingState, action: Action, stages: list[Stage], world: World, stop: Stop
) -> None:
    settings, total, path = config.training, training.total_steps(stages), folder / CHECKPOINT
    if world.first and state.step:
        log.info("%s goes on from step %d of %d", folder, state.step, total)
    with contextlib.ExitStack() as held:
        metrics = held.enter_context(MetricsFile(folder / METRICS, keep=state.step)) if world.first else None
        hidden = None if world.first else True
        bar = held.enter_context(tqdm(total=total, initial=state.step, desc="training", unit="step", disable=hidden))
        since = time.process_time()
        for record in training.train(state, action, settings, world, stages):
            now = time.process_time()
            spent, since = world.total(now - since), now
            stopping = world.any(stop.asked) and state.step < total
            bar.update()
            bar.set_postfix(loss=f"{record.loss:.4g}", ess=f"{record.ess:.2f}", refresh=False)
            if metrics is not None:
                metrics.append({**dataclasses.asdict(record), "cpu_seconds": spent})
                if stopping or state.step % settings.checkpoint_every == 0 or state.step == total:
                    metrics.sync()
                    save_checkpoint(path, {"config": to_toml(config), "training": state.state_dict()})
            if stopping:
                world.barrier()  # no rank leaves before all is written
                raise Interrupted(
                    f"asked to stop: checkpoint written at step {state.step} of {total}; the same command goes on"
                )
