"""A run is one folder; here is decided what is written where, and how a run goes on after it was killed.

config.toml        the resolved settings, and the version they were run with
model.safetensors  the model that the run began from, if there was one
metrics.jsonl      one JSON object a training step
checkpoint.pt      weights, optimizer and random states of the last `checkpoint_every` steps
ensemble.h5        the Markov chain
report.json  report.txt  figures/*.png
"""

import dataclasses
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lattice_flows import models, training
from lattice_flows.actions import Action
from lattice_flows.config import Config, to_toml
from lattice_flows.errors import InvalidInput
from lattice_flows.folders import (
    CHECKPOINT,
    CONFIG,
    ENSEMBLE,
    METRICS,
    MODEL,
    beginning,
    check_same_run,
    load_model,
    load_run,
    trained_model,
)
from lattice_flows.io import Ensemble, MetricsFile, appending, files, save_checkpoint
from lattice_flows.models import Model, build_run, carried, digest
from lattice_flows.provenance import provenance
from lattice_flows.sampling import ChainState, IndependenceMetropolis
from lattice_flows.training import TrainingState

log = logging.getLogger(__name__)

COMMIT_SECONDS = 60.0  # what a kill during sampling costs at most


def train_run(config: Config, folder: str | Path, source: str = "config", begin: str | Path | None = None) -> int:
    """Trains the flow of a config in a folder, from the start or from the folder's checkpoint; returns the last step.

    A run that was killed and goes on has the same weights and metrics, bit for bit, as one that was not, on the same
    machine with the same number of threads.

    Args:
        source: where the config came from, for errors.
        begin: a trained model, as in `load_model`, whose weights training begins from; the folder keeps it, and where
            it has one already, training begins from that. A hierarchical flow is carried to the extents of the config.

    Raises:
        InvalidInput: settings that do not fit each other or the run in the folder, or a broken checkpoint.
        NumericalFailure: the training diverged.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    config, flow, action = build_run(config, source)  # first, so that what does not fit leaves no trace
    model = None if begin is None else load_model(begin)
    if model is not None:
        flow = carried(model, config, source)
    device = training.select_device(config.training.device)
    files.make_folder(folder)
    with files.locked(folder):
        checkpoint = check_same_run(folder, config)
        if (folder / MODEL).exists():
            begun = beginning(folder, config).flow
            if model is not None and digest(begun) != digest(flow):
                raise InvalidInput(
                    f"{folder} holds a run that began from other weights ({folder / MODEL}): "
                    "leave --from out to go on with it, or take another folder"
                )
            flow = begun
        elif model is not None:
            if checkpoint is not None:
                raise InvalidInput(
                    f"{folder} holds a run that began from random weights: "
                    "leave --from out to go on with it, or take another folder"
                )
            models.save(model, folder / MODEL)
        state = TrainingState.start(flow.to(device), config.training, device)
        if checkpoint is not None:
            state.load_state_dict(checkpoint["training"])
            total = training.total_steps(flow, action, config.training)
            log.info("%s goes on from step %d of %d", folder, state.step, total)
        files.write(folder / CONFIG, to_toml(config, provenance()).encode())
        _train(config, folder, state, action.to(device))
        return state.step


def _train(config: Config, folder: Path, state: TrainingState, action: Action) -> None:
    settings = config.training
    text = to_toml(config)
    total = training.total_steps(state.flow, action, settings)
    with (
        MetricsFile(folder / METRICS, keep=state.step) as metrics,
        tqdm(total=total, initial=state.step, desc="training", unit="step", disable=None) as bar,
    ):
        spent = time.process_time()
        for record in training.train(state, action, settings):
            before, spent = spent, time.process_time()
            metrics.append({**dataclasses.asdict(record), "cpu_seconds": spent - before})
            bar.update()
            bar.set_postfix(loss=f"{record.loss:.4g}", ess=f"{record.ess:.2f}", refresh=False)
            if state.step % settings.checkpoint_every == 0 or state.step == total:
                metrics.sync()
                save_checkpoint(folder / CHECKPOINT, {"config": text, "training": state.state_dict()})


def sample_run(folder: str | Path, overrides: Iterable[str] = ()) -> int:
    """Makes the Markov chain of a trained run, or goes on with it, to ``sampling.n`` configurations; returns how many.

    The first configuration is one proposal, after which come whole batches: n is rounded up, and a chain that goes on
    is the same, bit for bit, as one made at once.

    Args:
        overrides: of ``[sampling]`` and of ``training.device``, such as ``sampling.n=50000``.

    Raises:
        InvalidInput: nothing trained there, settings that contradict the run, or a broken file.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    config = load_run(folder, overrides)
    device = training.select_device(config.training.device)
    with files.locked(folder):
        path = folder / ENSEMBLE
        model = trained_model(folder, config, device)
        attributes = _attributes(model, device)
        sampler = IndependenceMetropolis(model.flow, model.action, config.sampling.batch)
        generator = torch.Generator(device).manual_seed(config.sampling.seed)
        state, n = None, 0
        if path.exists():
            stored = Ensemble(path)
            state, n = _chain_end(stored, attributes, generator, models.dtype(config)), len(stored)
        if n >= config.sampling.n:
            log.info("%s holds %d configurations already", path, n)
        with tqdm(total=config.sampling.n, initial=n, desc="sampling", unit="conf", disable=None) as bar:
            while n < config.sampling.n:
                with appending(path, attributes) as ensemble:
                    deadline = time.monotonic() + COMMIT_SECONDS
                    if state is None:
                        state = sampler.init(generator)
                        start = torch.ones(1, dtype=torch.bool, device=device)
                        ensemble.append(state.links[None], state.log_q[None], state.action[None], start)
                        n += 1
                    while n < config.sampling.n:
                        state, info = sampler.step(state, generator)
                        ensemble.append(info.links, info.log_q, info.action, info.accepted)
                        n += len(info.accepted)
                        bar.update(len(info.accepted))
                        if time.monotonic() > deadline:
                            break
                    ensemble.finish(generator)
    return n


def _attributes(model: Model, device: torch.device) -> dict[str, Any]:
    """What an ensemble remembers of its run."""
    config = model.config
    return {
        "group": config.lattice.group,
        "sites": config.lattice.sites,
        "action": config.action.name,
        "beta": config.action.beta,
        "config": to_toml(config),
        "seed": config.sampling.seed,
        "device": device.type,
        "weights": digest(model.flow),
        "step": model.facts.step,
        **provenance(),
    }


def _chain_end(
    ensemble: Ensemble, attributes: dict[str, Any], generator: torch.Generator, dtype: torch.dtype
) -> ChainState:
    """The state that a stored chain goes on from; the generator is set to go on from there, too."""
    for key in ("seed", "device", "step", "weights"):
        if ensemble.attributes.get(key) != attributes[key]:
            raise InvalidInput(
                f"the chain was made with {key} {ensemble.attributes.get(key)}, not {attributes[key]}: "
                f"go on with that, or move the file away to start a new chain ({ensemble.path})"
            )
    generator.set_state(ensemble.generator_state)
    links, log_q, action = ensemble.end()
    scalars = torch.tensor([log_q, action], dtype=dtype, device=generator.device)
    return ChainState(links.to(generator.device), *scalars)
