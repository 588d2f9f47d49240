"""Training in the folder of a run."""

import contextlib
import dataclasses
import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lattice_flows import models, training
from lattice_flows.actions import Action
from lattice_flows.config import Config, to_toml
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.io import MetricsFile, files, save_checkpoint
from lattice_flows.models import build_run, carried, digest
from lattice_flows.models.store import check_weights
from lattice_flows.reports.words import ess_in_words, stage_in_words
from lattice_flows.runs.folder import (
    CHECKPOINT,
    METRICS,
    MODEL,
    beginning,
    check_same_run,
    load_model,
    training_stages,
    write_config,
)
from lattice_flows.runs.trained import TRAINED, Trained, read_trained, write_trained
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
    steps: int | None = None,
) -> int:
    """Train the flow of a config in a folder, from the start or from its checkpoint; return the last step.

    At the end the folder gets the quality of the whole flow from fresh samples.

    A killed run that goes on has the weights and metrics of a run without a kill: bit for bit with the same machine and
    number of threads and ranks, up to rounding with another number of ranks.

    Args:
        source: names the config in errors.
        begin: a trained model, as in `load_model`, that gives the first weights. It is carried to the lattice of the
            config, and the folder keeps it. Training begins from the model in the folder where there is one.
        world: the ranks that train together; each of them calls this.
        stop: asked after every step, on every rank.
        steps: end early, after so many steps of all stages, as if no more were planned.

    Raises:
        InvalidInput: settings that do not fit each other or the run in the folder, more `steps` than planned or fewer
            than made, or a broken checkpoint.
        NumericalFailure: the training diverged.
        Interrupted: it was asked to stop, and has written a checkpoint.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder, stop = Path(folder), stop or Stop()
    # before anything is written, so that wrong settings leave no trace
    config, flow, action = build_run(config, source)
    stages = training_stages(config, flow, action)
    total = training.total_steps(stages)
    last = total if steps is None else steps
    if not 0 < last <= total:
        raise InvalidInput(
            f"steps must be from 1 to the {total} that are planned, got {steps}: more of them are planned by "
            "training.steps=N (command line: --steps)"
        )
    device = world.device(training.select_device(config.training.device))
    with contextlib.ExitStack() as held:
        prepared = _prepare(held, folder, config, flow, source, begin, last) if world.first else None
        weights, saved = world.broadcast(prepared)
        flow.load_state_dict(weights)
        state = TrainingState.start(flow, config.training, device)
        if saved is not None:
            state.load_state_dict(saved)
        _train(config, folder, state, action.to(device), stages, last, world, stop)
        _finish(folder, state, action, len(stages), config, world, stop)
    return state.step


def _prepare(
    held: contextlib.ExitStack,
    folder: Path,
    config: Config,
    flow: Flow,
    source: str,
    begin: str | Path | None,
    last: int,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Make the folder ready and hold it; return the first weights, and the training state to go on from."""
    model = None if begin is None else load_model(begin)
    if model is not None:
        flow = carried(model, config, source)
        check_weights(flow, config, source)
    files.make_folder(folder)
    held.enter_context(files.locked(folder))
    remedy = "leave --from out to go on with it, or take another folder"
    checkpoint = check_same_run(folder, config)
    done = 0 if checkpoint is None else checkpoint["training"]["step"]
    if done > last:
        raise InvalidInput(
            f"{folder} is trained for {done} steps already: --steps {done} makes that the end (command line: --steps)"
        )
    if (folder / MODEL).exists():
        begun = beginning(folder, config).flow
        if model is not None and digest(begun) != digest(flow):
            raise InvalidInput(f"{folder} holds a run that began from other weights ({folder / MODEL}): {remedy}")
        flow = begun
        check_weights(flow, config, folder / MODEL)
    elif model is not None:
        if checkpoint is not None:
            raise InvalidInput(f"{folder} holds a run that began from random weights: {remedy}")
        models.save(model, folder / MODEL)
    write_config(folder, config)
    if done < last:
        (folder / TRAINED).unlink(missing_ok=True)
    return flow.state_dict(), None if checkpoint is None else checkpoint["training"]


def _train(
    config: Config,
    folder: Path,
    state: TrainingState,
    action: Action,
    stages: list[Stage],
    last: int,
    world: World,
    stop: Stop,
) -> None:
    settings, total, path = config.training, training.total_steps(stages), folder / CHECKPOINT
    if world.first and 0 < state.step < last:
        log.info("%s goes on from step %d of %d", folder, state.step, total)
    with contextlib.ExitStack() as held:
        metrics = held.enter_context(MetricsFile(folder / METRICS, keep=state.step)) if world.first else None
        hidden = None if world.first else True
        bar = held.enter_context(tqdm(total=last, initial=state.step, desc="training", unit="step", disable=hidden))
        since = time.process_time()
        recent: deque[dict[str, Any]] = deque(maxlen=training.quality.POOLED)
        records = training.train(state, action, settings, world, stages) if state.step < last else ()
        for record in records:
            now = time.process_time()
            spent, since = world.total(now - since), now
            stopping = world.any(stop.asked) and state.step < last
            recent.append(dataclasses.asdict(record))
            bar.update()
            bar.set_postfix_str(progress_in_words(list(recent)), refresh=False)
            if metrics is not None:
                metrics.append({**recent[-1], "cpu_seconds": spent})
                if stopping or state.step % settings.checkpoint_every == 0 or state.step == last:
                    metrics.sync()
                    save_checkpoint(path, {"config": to_toml(config), "training": state.state_dict()})
            if stopping:
                world.barrier()  # no rank leaves before all is written
                raise Interrupted(
                    f"asked to stop: checkpoint written at step {state.step} of {total}; the same command goes on"
                )
            if state.step == last < total:
                break


def progress_in_words(recent: Sequence[Mapping[str, Any]]) -> str:
    """Name the loss of the last steps of a training, a mean over those of one stage, and the ESS of this stage."""
    now = recent[-1]
    losses = [record["loss"] for record in recent[-training.quality.POOLED :] if record["stage"] == now["stage"]]
    losses = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    loss = f"{sum(losses) / len(losses):.5g}" if losses else "not finite"
    words = stage_in_words(now["stage"], now.get("stage_number", 1), now.get("stages", 1))
    return f"loss {loss}, ESS of {words} {ess_in_words(*training.pooled_ess(recent))}"


def _finish(
    folder: Path, state: TrainingState, action: Action, stages: int, config: Config, world: World, stop: Stop
) -> None:
    """Measure the flow of a training that has come to its end, if that is not done."""
    weights = digest(state.flow)
    if world.broadcast(world.first and _measured(folder, weights)):
        return
    parts, seconds = [], 0.0
    hidden = None if world.first else True
    with tqdm(total=training.quality.SAMPLES, desc="measuring the flow", unit="conf", disable=hidden) as bar:
        for log_w, spent in training.fresh_log_weights(state.flow, action, config.training, world):
            parts.append(log_w)
            seconds += spent
            bar.update(len(log_w) * world.size)
            if world.any(stop.asked):
                raise Interrupted(
                    f"asked to stop: trained for {state.step} steps, and not measured; the same command goes on"
                )
    log_w = world.all_gather(torch.cat(parts))
    quality = training.Quality.of(log_w, world.total(seconds) / len(log_w))
    if world.first:
        write_trained(folder, Trained(**vars(quality), step=state.step, stages=stages, weights=weights))


def _measured(folder: Path, weights: str) -> bool:
    """Return whether the folder knows the quality of the flow with these weights."""
    try:
        trained = read_trained(folder)
    except InvalidInput:
        return False  # a damaged file is made again
    return trained is not None and trained.weights == weights
