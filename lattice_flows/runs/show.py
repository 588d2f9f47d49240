"""A run in words: its theory, its progress, and its report."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lattice_flows import training
from lattice_flows.config import Config
from lattice_flows.config.text import read_text
from lattice_flows.io import ChainFile
from lattice_flows.models import build_action
from lattice_flows.reports.report import in_words
from lattice_flows.reports.words import sampler_in_words, system
from lattice_flows.runs.folder import CONFIG, ENSEMBLE, Beginning, beginning, load_run, read_steps
from lattice_flows.runs.measure import draw_training, drawing
from lattice_flows.runs.train import training_stages


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
    made = "none yet"
    if (folder / ENSEMBLE).exists():
        chains = ChainFile(folder / ENSEMBLE)
        each = f" of each of {chains.chains} chains" if chains.chains > 1 else ""
        made = f"{chains.n_updates // chains.every} configurations{each}"
    lines.append(f"ensemble: {made}")
    shown = f"\n{read_text(report, 'report')}" if report.exists() else ""
    return "\n".join(lines) + "\n" + shown


class TrainingProgress(NamedTuple):
    """The progress of a training, and means over its last twentieth, which are nan before its first step."""

    steps: int
    total: int
    loss: float
    ess: float
    seconds: float
    """The time of a step."""


def training_progress(metrics: Sequence[Mapping[str, Any]], begun: Beginning) -> TrainingProgress:
    """Return the progress of a training, from its metrics and the run before its first step."""
    recent = metrics[-max(1, len(metrics) // 20) :]
    loss, ess, seconds = (_mean(record[key] for record in recent) for key in ("loss", "ess", "seconds"))
    total = training.total_steps(training_stages(begun.config, begun.flow, begun.action))
    return TrainingProgress(len(metrics), total, loss, ess, seconds)


def _training_in_words(folder: Path, config: Config, metrics: list[dict[str, Any]]) -> list[str]:
    begun = beginning(folder, config)
    progress = training_progress(metrics, begun)
    line = f"training: {progress.steps} of {progress.total} steps"
    if metrics:
        line += f", now loss {progress.loss:.5g}, ESS {progress.ess:.3f}, {progress.seconds:.3g} s a step"
        line += f", {sum(bool(record.get('skipped')) for record in metrics)} skipped"
    model = begun.model
    return [str(begun.flow), *([f"begins from: {in_words(model.name, model.facts)}"] if model else []), line]


def _mean(values: Iterable[float | None]) -> float:
    """Average the values that are not None; nan where there are none."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else math.nan
