"""The folder of a run: its config, its first weights, and its present ones."""

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lattice_flows import models, training
from lattice_flows.actions import Action
from lattice_flows.config import Config, load, loads, resume_conflicts, to_toml
from lattice_flows.config.provenance import provenance
from lattice_flows.config.registry import ARCHITECTURES
from lattice_flows.config.text import printable
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.io import files, load_checkpoint, read_metrics
from lattice_flows.models import Facts, Model, build_run, carried, digest
from lattice_flows.models.store import check_weights
from lattice_flows.runs.trained import read_trained

log = logging.getLogger(__name__)

CONFIG = "config.toml"
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
THERMALISATION = "thermalisation.pt"
ENSEMBLE = "ensemble.h5"
COSTS = "sampling.jsonl"
MEASUREMENTS = "measurements.h5"
REPORT = "report.json"
MODEL = "model.safetensors"


def load_run(folder: Path, overrides: Iterable[str] = ()) -> Config:
    """Return the config of a run, with overrides of settings that may still change after training.

    Raises:
        InvalidInput: there is no run, its config is broken, or the overrides change settings of the training.
    """
    path = folder / CONFIG
    if not path.exists():
        found = "this holds no config.toml" if folder.is_dir() else "there is none of this name"
        if folder.is_file():
            found = "this is a file; a config goes with --out FOLDER"
        raise InvalidInput(f"a folder made by lattice-flows train or sample is expected, {found} ({folder})")
    return overridden(load(path, beside=False), load(path, overrides, beside=False))


def write_config(folder: Path, config: Config) -> None:
    """Write the config of a run, with the version of the code."""
    files.write(folder / CONFIG, to_toml(config, provenance()).encode())


def name_of(folder: Path) -> str:
    """Return the name of a run in its files."""
    return printable(folder.resolve().name)


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the training of a run."""
    return read_metrics(folder / METRICS, ("step", "seconds"), ("loss", "ess", "grad_norm"))


def read_costs(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the costs of a run's chains."""
    return read_metrics(folder / COSTS, ("updates", "made", "cpu_seconds"))


def sampled(folder: Path) -> Path:
    """Return the path of the ensemble of a run; raise InvalidInput if there is none yet."""
    path = folder / ENSEMBLE
    if not path.exists():
        raise InvalidInput(f"nothing is sampled yet: lattice-flows sample {folder} does that ({path})")
    return path


def overridden(stored: Config, config: Config) -> Config:
    """Return the second config; raise InvalidInput if settings differ that may not change after training."""
    conflicts = resume_conflicts(stored, config, longer=False)
    for key in ("checkpoint_every", "max_bad_steps"):  # which a training takes when it goes on
        was, now = (getattr(one.training, key) for one in (stored, config))
        conflicts += [f"training.{key} was {was} and is now {now}"] if was != now else []
    if conflicts:
        raise InvalidInput(f"only [sampling] and training.device can change after training: {'; '.join(conflicts)}")
    return config


def check_same_run(folder: Path, config: Config) -> dict[str, Any] | None:
    """Return the checkpoint of a run, if there is one; raise InvalidInput if the run has other settings."""
    stored = [load(folder / CONFIG, beside=False)] if (folder / CONFIG).exists() else []
    checkpoint = read_checkpoint(folder) if (folder / CHECKPOINT).exists() else None
    if checkpoint is not None:
        stored.append(loads(checkpoint["config"], str(folder / CHECKPOINT)))
    for old in stored:
        if conflicts := resume_conflicts(old, config):
            shorter = config.training.steps < old.training.steps
            early = f"; of training.steps={old.training.steps} --steps N makes fewer" if shorter else ""
            raise InvalidInput(
                f"{folder} holds a run with other settings: {'; '.join(conflicts)}; "
                f"take another folder, or the settings that it was started with{early}"
            )
    return checkpoint


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the `config`, as text, and the state of the `training`; raise InvalidInput if they cannot be read."""
    path = folder / CHECKPOINT
    if not path.exists():
        raise InvalidInput(f"nothing is trained yet: lattice-flows train CONFIG --out {folder} does that ({path})")
    checkpoint = load_checkpoint(path)
    if not {"config", "training"} <= checkpoint.keys():
        raise InvalidInput(f"a checkpoint of a run is expected, got one with {', '.join(checkpoint)} ({path})")
    return checkpoint


def training_stages(config: Config, flow: Flow, action: Action) -> list[training.Stage]:
    """Return the stages of a training; raise InvalidInput if the architecture has none for this flow and action."""
    own = ARCHITECTURES[config.flow.architecture].stages
    return own(flow, action, config.training) if own else [training.whole_flow(flow, action, config.training)]


class Beginning(NamedTuple):
    """A run before its first step."""

    config: Config
    flow: Flow
    action: Action
    model: Model | None
    """The model in the folder that gave the flow its weights, if there is one."""


def beginning(folder: Path, config: Config) -> Beginning:
    """Return the run in a folder before its first step; raise InvalidInput if its model does not fit the config."""
    source = str(folder / CONFIG)
    config, flow, action = build_run(config, source)
    if not (folder / MODEL).exists():
        return Beginning(config, flow, action, None)
    model = models.load(folder / MODEL)
    return Beginning(config, carried(model, config, source), action, model)


def trained_model(folder: str | Path, config: Config | None = None, device: torch.device | str = "cpu") -> Model:
    """Return the model of a run as it is now.

    Args:
        config: of the run, with other settings of ``[sampling]``. Default: the one in the folder.

    Raises:
        InvalidInput: nothing is trained yet, or a broken file.
    """
    folder = Path(folder)
    config, flow, action, begun = beginning(folder, load_run(folder) if config is None else config)
    flow.to(device)
    if begun is not None and not (folder / CHECKPOINT).exists():
        facts = begun.facts
        if (begun.config.lattice, begun.config.action) != (config.lattice, config.action):
            # the ESS is that on its own extents, for its own action
            facts = dataclasses.replace(facts, begun_from=begun.name, proposals=0, ess=None, ess_error=None)
        return Model(flow.eval(), action.to(device), config, begun.name, facts)
    checkpoint = read_checkpoint(folder)
    trained = loads(checkpoint["config"], str(folder / CHECKPOINT))
    if conflicts := resume_conflicts(trained, load_run(folder)):
        raise InvalidInput(
            f"{folder}: checkpoint.pt and config.toml contradict each other: {'; '.join(conflicts)}; put that back in "
            "config.toml"
        )
    if conflicts := resume_conflicts(trained, config):
        raise InvalidInput(f"{folder} holds a run with other settings: {'; '.join(conflicts)}; leave the config out")
    state = checkpoint["training"]
    try:  # the weights alone: the random streams of the caller are not those of the training
        flow.load_state_dict(state["flow"])
        step = int(state["step"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"the checkpoint belongs to another flow, train in another folder: {reason}") from error
    # runs of earlier versions have no cpu_seconds
    records = read_steps(folder)[:step]
    if len(records) < step:
        message = "%s has %d of %d steps: the cost of training is that of these alone"
        log.warning(message, folder / METRICS, len(records), step)
    minutes = sum(record.get("cpu_seconds", record["seconds"]) for record in records) / 60
    facts = Facts(version=provenance()["version"], step=step, training_cpu_minutes=minutes)
    end = read_trained(folder)
    if end is not None and end.weights == digest(flow):
        facts = dataclasses.replace(facts, proposals=end.samples, ess=end.ess, ess_error=end.ess_error)
    elif facts.step < (total := training.total_steps(training_stages(config, flow, action))):
        facts = dataclasses.replace(facts, planned=total)
    if begun is not None:
        step, minutes = facts.step + begun.facts.step, minutes + begun.facts.training_cpu_minutes
        planned = None if facts.planned is None else facts.planned + begun.facts.step
        facts = dataclasses.replace(
            facts, step=step, planned=planned, training_cpu_minutes=minutes, begun_from=begun.name
        )
    return Model(flow.eval(), action.to(device), config, name_of(folder), facts)


def load_model(source: str | Path) -> Model:
    """Load a trained model, as `lattice_flows.load`: by its name, of a .safetensors file, or of a run's folder.

    A name goes before a folder of that name. The flow is on the CPU, in the precision of its training.

    Raises:
        InvalidInput: as `lattice_flows.models.load`, or nothing is trained in the folder.
    """
    if str(source) not in models.available() and Path(source).is_dir():
        model = trained_model(source)
        check_weights(model.flow, model.config, source)
        return model
    return models.load(source)
