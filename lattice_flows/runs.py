"""A run is one folder; here is decided what is written where, and how a run goes on after it was killed.

config.toml        the resolved settings, and the version they were run with
model.safetensors  the model that the run began from, if there was one
metrics.jsonl      one JSON object a training step
checkpoint.pt      weights, optimizer and random states of the last `checkpoint_every` steps
ensemble.h5        the Markov chains
sampling.jsonl     what they cost, one JSON object a commit
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
from lattice_flows.chains import Chains, outcome
from lattice_flows.config import Config, loads, to_toml
from lattice_flows.errors import InvalidInput
from lattice_flows.folders import (
    CHECKPOINT,
    CONFIG,
    COSTS,
    ENSEMBLE,
    METRICS,
    MODEL,
    beginning,
    check_same_run,
    load_model,
    load_run,
    trained_model,
)
from lattice_flows.io import ChainFile, ChainWriter, MetricsFile, create_chains, files, read_metrics, save_checkpoint
from lattice_flows.models import Model, build_action, build_run, carried, digest
from lattice_flows.provenance import provenance
from lattice_flows.sampling import ChainState, Streams
from lattice_flows.training import TrainingState

log = logging.getLogger(__name__)

COMMIT_SECONDS = 30.0  # what a kill during sampling costs at most
TUNED = "tuned_"  # the attributes of an ensemble that say how its samplers were tuned


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


def sample_run(
    folder: str | Path, overrides: Iterable[str] = (), config: Config | None = None, source: str = "config"
) -> int:
    """Makes the Markov chains of a run, or goes on with them; returns how many configurations each of them has.

    Chains that go on, after a kill too, are the same, bit for bit, as chains made at once, on the same machine with
    the same number of threads.

    Args:
        overrides: of ``[sampling]`` and of ``training.device``, such as ``sampling.n=50000``.
        config: makes a new run, if the folder is not one, which needs no training where no update needs a flow; or
            goes on with the run in the folder, if that has the same settings.
        source: where the config came from, for errors.

    Raises:
        InvalidInput: nothing trained there, settings that contradict the run, or a broken file.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    settings = load_run(folder, overrides) if config is None else config
    settings, action = build_action(settings, source if config else str(folder / CONFIG))
    device = training.select_device(settings.training.device)
    action.to(device)
    # first, so that what does not fit leaves no trace
    model = trained_model(folder, settings, device) if settings.sampling.uses_flow else None
    flow = None if model is None else model.flow
    Chains(settings, action, flow)
    files.make_folder(folder)
    with files.locked(folder):
        if config is not None:
            check_same_run(folder, settings)
        attributes = _attributes(settings, model, device)
        path, streams = folder / ENSEMBLE, Streams(settings.sampling.seed, settings.sampling.chains, device)
        stored = _stored(path, attributes, settings) if path.exists() else None
        if config is not None:
            files.write(folder / CONFIG, to_toml(settings, provenance()).encode())
        tuned = {} if stored is None else _tuned(stored)
        chains = Chains(settings, action, flow, tuned)
        with MetricsFile(folder / COSTS, keep=0 if stored is None else len(read_metrics(folder / COSTS))) as costs:
            if stored is None:
                spent = time.process_time()
                state = chains.begin(streams, folder)
                attributes |= {f"{TUNED}{name}": value for name, value in chains.tuned.items()}
                create_chains(
                    path, state, streams, attributes, every=settings.sampling.every, proposals=chains.proposals
                )
                costs.append({"updates": 0, "made": settings.sampling.dropped, **_cpu(spent)})
                stored = ChainFile(path)
            return _sample(settings, path, chains, stored, streams, costs)


def _sample(config: Config, path: Path, chains: Chains, stored: ChainFile, streams: Streams, costs: MetricsFile) -> int:
    """Goes on with stored chains; how many configurations each has then."""
    state, saved = stored.end()
    streams.set_state(saved)
    # the numbers of proposals are counted on the CPU
    links, action, log_q = (None if part is None else part.to(streams.device) for part in state[:3])
    state = ChainState(links, action, log_q, state.offered)  # type: ignore[arg-type]
    n, every = len(stored), config.sampling.every
    total = config.sampling.n * every
    if n >= total:
        log.info("%s holds %d configurations of each chain already", path, n // every)
        return n // every
    with ChainWriter(path) as out, tqdm(total=total, initial=n, desc="sampling", unit="up", disable=None) as bar:
        while n < total:
            deadline, spent, before = time.monotonic() + COMMIT_SECONDS, time.process_time(), n
            while n == before or (n < total and time.monotonic() < deadline):
                state, info = chains.sampler.step(state, streams)
                out.append(state, *outcome(info))
                n += 1
                bar.update()
            out.commit(streams)
            costs.append({"updates": n, "made": n - before, **_cpu(spent)})
    return n // every


def _cpu(since: float) -> dict[str, float]:
    return {"cpu_seconds": time.process_time() - since}


def _attributes(config: Config, model: Model | None, device: torch.device) -> dict[str, Any]:
    """What an ensemble remembers of its run."""
    trained = {} if model is None else {"weights": digest(model.flow), "step": model.facts.step}
    return {
        "group": config.lattice.group,
        "sites": config.lattice.sites,
        "action": config.action.name,
        "beta": config.action.beta,
        "config": to_toml(config),
        "seed": config.sampling.seed,
        "device": device.type,
        **trained,
        **provenance(),
    }


def _stored(path: Path, attributes: dict[str, Any], config: Config) -> ChainFile:
    """The ensemble of a run, if its chains can go on with these settings."""
    stored = ChainFile(path)
    made = dict(stored.attributes)
    remedy = f"go on with that, or move the file away to start a new chain ({path})"
    if "n_proposals" in made:
        raise InvalidInput(f"a chain of an earlier version can be measured, and not go on: move it away ({path})")
    before, now = (dataclasses.asdict(c.sampling) for c in (loads(made["config"], str(path)), config))
    before, now = before | made, now | attributes
    for key in [*dataclasses.asdict(config.sampling), "device", "step", "weights"]:
        if key != "n" and before.get(key) != now.get(key):
            raise InvalidInput(f"the chain was made with {key} {before.get(key)}, not {now.get(key)}: {remedy}")
    return stored


def _tuned(stored: ChainFile) -> dict[str, Any]:
    """How the samplers of stored chains were tuned."""
    return {
        name.removeprefix(TUNED): value.item() for name, value in stored.attributes.items() if name.startswith(TUNED)
    }
