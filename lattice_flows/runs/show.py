"""A run in words: its theory, its progress, and its report."""

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lattice_flows import training
from lattice_flows.config import Config
from lattice_flows.config.text import read_bytes
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, read_report
from lattice_flows.models import build_action
from lattice_flows.reports.report import in_words
from lattice_flows.reports.words import ess_in_words, sampler_in_words, stage_in_words, system
from lattice_flows.runs.folder import (
    CONFIG,
    ENSEMBLE,
    REPORT,
    Beginning,
    beginning,
    load_run,
    read_steps,
    training_stages,
)
from lattice_flows.runs.measure import draw_training, drawing
from lattice_flows.runs.stochastic import fits_of, prediction
from lattice_flows.runs.train import progress_in_words
from lattice_flows.runs.trained import Trained, read_trained, unfinished


def show_run(folder: str | Path) -> str:
    """Describe the theory, the progress and the report of a run; draw the training in figures/training.png.

    Raises:
        InvalidInput: there is no run, or a broken file.
    """
    folder = Path(folder)
    config, _ = build_action(load_run(folder), str(folder / CONFIG))
    metrics, report = read_steps(folder), folder / "report.txt"
    lines = [str(folder), f"theory: {system(config)}"]
    if config.sampling.uses_flow or metrics:
        lines += _training_in_words(folder, config, metrics)
    with drawing(folder):
        lines += [f"figure: {drawn}" for drawn in draw_training(folder, metrics)]
    lines.append(f"updates: {sampler_in_words(config)}")
    if "annealing" in config.sampling.names:
        lines.append(prediction(fits_of(folder, config), config.sampling.stages).in_words(config.sampling.n))
    made = "none yet"
    if (folder / ENSEMBLE).exists():
        chains = ChainFile(folder / ENSEMBLE)
        each = f" of each of {chains.chains} chains" if chains.chains > 1 else ""
        made = f"{chains.n_updates // chains.every} configurations{each}"
    lines.append(f"ensemble: {made}")
    shown = f"\n{_table(folder, report)}" if report.exists() else ""
    return "\n".join(lines) + "\n" + shown


def _table(folder: Path, path: Path) -> str:
    """Return the table of a report, if it is the one that was written."""
    text = read_bytes(path, "report")
    try:
        if read_report(folder / REPORT).get("table_crc32") == zlib.crc32(text):
            return text.decode()
    except InvalidInput:
        pass
    return f"damaged, or of an earlier version: lattice-flows measure {folder} writes it again ({path})\n"


class TrainingProgress(NamedTuple):
    """The progress of a training, with nan and "-" before its first step."""

    steps: int
    total: int
    """The number of planned steps of all stages, or of those made where the training ended early."""
    ess: str
    """The ESS in words: of the whole flow where the training has ended, else of the stage in its last steps."""
    seconds: float
    """The time of a step, a mean over the last ones of the stage."""


def training_progress(metrics: Sequence[Mapping[str, Any]], begun: Beginning, end: Trained | None) -> TrainingProgress:
    """Return the progress of a training, from its metrics, the run before its first step, and its end, if it has one.

    Where the metrics are those of more steps than the end, the training goes on.
    """
    total = training.total_steps(training_stages(begun.config, begun.flow, begun.action))
    if not metrics:
        return TrainingProgress(0, total, "-", math.nan)
    now = metrics[-1]
    recent = [record for record in metrics[-training.quality.POOLED :] if record["stage"] == now["stage"]]
    seconds = sum(record["seconds"] for record in recent) / len(recent)
    if end is not None and end.step == len(metrics):
        return TrainingProgress(end.step, end.step, ess_in_words(end.ess, end.samples, end.ess_error), seconds)
    ess = ess_in_words(*training.pooled_ess(recent))
    if now["stage"] != "flow":
        ess += f" of {stage_in_words(now['stage'], now.get('stage_number', 1), now.get('stages', 1))}"
    return TrainingProgress(len(metrics), total, ess, seconds)


def _training_in_words(folder: Path, config: Config, metrics: list[dict[str, Any]]) -> list[str]:
    begun, end = beginning(folder, config), read_trained(folder)
    steps, total, _, seconds = training_progress(metrics, begun, None)
    lines = [str(begun.flow)]
    if begun.model is not None:
        lines.append(f"begins from: {in_words(begun.model.name, begun.model.facts)}")
    stages = len(training_stages(begun.config, begun.flow, begun.action))
    line = f"training: {steps} of {total} steps" + (f" in {stages} stages" if stages > 1 else "")
    if metrics:
        line += f", now {progress_in_words(metrics)}, {seconds:.3g} s a step"
        line += f", {sum(bool(record.get('skipped')) for record in metrics)} skipped"
    lines.append(line)
    if end is not None and end.step == steps:
        early = f"ended after {steps} steps, " if steps < total else ""
        lines.append(f"trained: {early}{end.in_words().rstrip()}")
    elif metrics:
        lines.append(f"warning: {unfinished(folder, steps, total)}")
    return lines
