"""A run is one folder; here is decided what is written where, and how a run goes on after it was killed.

config.toml     the resolved settings, and the version they were run with
metrics.jsonl   one JSON object a training step
checkpoint.pt   weights, optimizer and random states of the last `checkpoint_every` steps
ensemble.h5     the Markov chain
report.json  report.txt  figures/*.png
"""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lattice_flows import actions, flows, training
from lattice_flows.actions import Action
from lattice_flows.config import Config, load, loads, resume_conflicts, to_toml
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.groups import from_name
from lattice_flows.io import Ensemble, MetricsFile, appending, files, load_checkpoint, save_checkpoint
from lattice_flows.provenance import provenance
from lattice_flows.sampling import ChainState, IndependenceMetropolis
from lattice_flows.training import TrainingState

log = logging.getLogger(__name__)

COMMIT_SECONDS = 60.0  # what a kill during sampling costs at most


def train_run(config: Config, folder: str | Path, source: str = "config") -> int:
    """Trains the flow of a config in a folder, from the start or from the folder's checkpoint; returns the last step.

    A run that was killed and goes on has the same weights and metrics, bit for bit, as one that was not, on the same
    machine with the same number of threads.

    Args:
        source: where the config came from, for errors.

    Raises:
        InvalidInput: settings that do not fit each other or the run in the folder, or a broken checkpoint.
        NumericalFailure: the training diverged.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    config, flow, action = build_run(config, source)  # first, so that what does not fit leaves no trace
    device = training.select_device(config.training.device)
    files.make_folder(folder)
    with files.locked(folder):
        checkpoint = _check_same_run(folder, config)
        state = TrainingState.start(flow.to(device), config.training, device)
        if checkpoint is not None:
            state.load_state_dict(checkpoint["training"])
            total = training.total_steps(flow, action, config.training)
            log.info("%s goes on from step %d of %d", folder, state.step, total)
        files.write(folder / "config.toml", to_toml(config, provenance()).encode())
        _train(config, folder, state, action.to(device))
        return state.step


def _train(config: Config, folder: Path, state: TrainingState, action: Action) -> None:
    settings = config.training
    text = to_toml(config)
    total = training.total_steps(state.flow, action, settings)
    with (
        MetricsFile(folder / "metrics.jsonl", keep=state.step) as metrics,
        tqdm(total=total, initial=state.step, desc="training", unit="step", disable=None) as bar,
    ):
        for record in training.train(state, action, settings):
            metrics.append(dataclasses.asdict(record))
            bar.update()
            bar.set_postfix(loss=f"{record.loss:.4g}", ess=f"{record.ess:.2f}", refresh=False)
            if state.step % settings.checkpoint_every == 0 or state.step == total:
                metrics.sync()
                save_checkpoint(folder / "checkpoint.pt", {"config": text, "training": state.state_dict()})


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
        path = folder / "ensemble.h5"
        flow, action, attributes = _trained(folder, config, device)
        sampler = IndependenceMetropolis(flow, action, config.sampling.batch)
        generator = torch.Generator(device).manual_seed(config.sampling.seed)
        state, n = None, 0
        if path.exists():
            stored = Ensemble(path)
            state, n = _chain_end(stored, attributes, generator, _dtype(config)), len(stored)
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


def load_run(folder: Path, overrides: Iterable[str] = ()) -> Config:
    """The config of a run, with overrides of what may still change after training."""
    path = folder / "config.toml"
    if not path.exists():
        raise InvalidInput(f"a folder made by lattice-flows train is expected, this holds no config.toml ({folder})")
    config = load(path, overrides)
    stored = load(path)
    if conflicts := resume_conflicts(stored, config):
        raise InvalidInput(f"only [sampling] and training.device can change after training: {'; '.join(conflicts)}")
    return config


def build_run(config: Config, source: str) -> tuple[Config, Flow, Action]:
    """The config with the group's own name, the untrained flow, the action; `source` names the config in errors."""
    try:
        group = from_name(config.lattice.group)
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({source}: lattice.group)") from None
    config = dataclasses.replace(config, lattice=dataclasses.replace(config.lattice, group=group.name))
    try:
        flow = flows.build(
            config.flow.architecture,
            group,
            config.lattice.sites,
            bins=config.flow.bins,
            hidden=config.flow.hidden,
            seed=config.training.seed,
            dtype=_dtype(config),
            **_own_settings(config),
        )
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({source}: lattice.sites, flow)") from None
    return config, flow, actions.build(config.action.name, group, config.action.beta, dim=len(config.lattice.sites))


def _own_settings(config: Config) -> dict[str, Any]:
    """The settings that only some architectures have."""
    names = ("levels",) if config.flow.architecture == "hierarchical" else ("layers", "kernel_size")
    return {name: getattr(config.flow, name) for name in names}


def _dtype(config: Config) -> torch.dtype:
    return torch.float64 if config.training.dtype == "float64" else torch.float32


def _check_same_run(folder: Path, config: Config) -> dict[str, Any] | None:
    """The checkpoint to go on from, if there is one, when nothing in the folder contradicts the config."""
    stored = [load(folder / "config.toml")] if (folder / "config.toml").exists() else []
    checkpoint = None
    if (folder / "checkpoint.pt").exists():
        checkpoint = _load_checkpoint(folder)
        stored.append(loads(checkpoint["config"], str(folder / "checkpoint.pt")))
    for old in stored:
        if conflicts := resume_conflicts(old, config):
            raise InvalidInput(
                f"{folder} holds a run with other settings: {'; '.join(conflicts)}; "
                "take another folder, or the settings that it was started with"
            )
    return checkpoint


def _load_checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise InvalidInput(f"nothing is trained yet: lattice-flows train CONFIG --out {folder} does that ({path})")
    checkpoint = load_checkpoint(path)
    if not {"config", "training"} <= checkpoint.keys():
        raise InvalidInput(f"a checkpoint of a run is expected, got one with {', '.join(checkpoint)} ({path})")
    return checkpoint


def _trained(folder: Path, config: Config, device: torch.device) -> tuple[Flow, Action, dict[str, Any]]:
    """The trained flow, the action, and what an ensemble of it remembers."""
    checkpoint = _load_checkpoint(folder)
    trained = loads(checkpoint["config"], str(folder / "checkpoint.pt"))
    if conflicts := resume_conflicts(trained, config):
        raise InvalidInput(f"{folder}: checkpoint.pt and config.toml contradict each other: {'; '.join(conflicts)}")
    config, flow, action = build_run(config, str(folder / "config.toml"))
    state = TrainingState.start(flow.to(device), config.training, device)
    state.load_state_dict(checkpoint["training"])
    digest = hashlib.sha256()
    for tensor in flow.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    attributes = {
        "group": config.lattice.group,
        "sites": config.lattice.sites,
        "action": config.action.name,
        "beta": config.action.beta,
        "config": to_toml(config),
        "seed": config.sampling.seed,
        "device": device.type,
        "weights": digest.hexdigest(),
        "step": state.step,
        **provenance(),
    }
    return flow.eval(), action.to(device), attributes


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
