"""What comes out of a run: its measurements, its state in words, and the demonstration of all of it."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lattice_flows import training
from lattice_flows.config import Config, loads
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.flowed import flow_averages, flow_ensemble, flow_table
from lattice_flows.folders import CONFIG, ENSEMBLE, METRICS, REPORT, Beginning, beginning, load_run, sampled
from lattice_flows.groups import from_name
from lattice_flows.io import ChainFile, files, read_metrics
from lattice_flows.measurement import standard_observables
from lattice_flows.models import build_action
from lattice_flows.observe import observe
from lattice_flows.potential import loops_table, measure_loops
from lattice_flows.report import LABELS, Report, in_words, log_weights, make_report, sampler_in_words, table
from lattice_flows.runs import sample_run, train_run


def measure_run(
    folder: str | Path, loops: tuple[int, int] | None = None, flow: float | None = None, world: World = SERIAL
) -> Report:
    """Measures the ensemble of a run, and writes report.json, report.txt and the figures.

    Args:
        loops: R and T of the largest Wilson loops, for the static potential.
        flow: how far the configurations are followed along the gradient flow, in lattice units of flow time.
        world: whose ranks share the work, each of them calling this; rank 0 writes.

    Raises:
        InvalidInput: nothing sampled there, a broken file, loops that do not fit the lattice, or a flow time that is
            not finite and positive.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    load_run(folder)
    path = sampled(folder)
    with files.locked(folder) if world.first else nullcontext():
        config, chains, series, report = _measured(path, loops, flow, world)
        if world.first:
            _write(folder, config, chains, series, report)
    return report


def _write(folder: Path, config: Config, chains: ChainFile, series: dict[str, np.ndarray], report: Report) -> None:
    from lattice_flows import figures  # here, because it loads matplotlib

    loops, flow = report.get("loops"), report.get("flow")
    files.write(folder / REPORT, (json.dumps(_finite(report), indent=2) + "\n").encode())
    files.write(folder / "report.txt", _text(config, report).encode())
    files.make_folder(folder / "figures")

    def save(figure: Any, name: str) -> None:
        figures.save(figure, folder / "figures" / f"{name}.png")

    _draw_training(folder, read_metrics(folder / METRICS))
    name = "topological_charge" if "topological_charge" in series else "plaquette"
    save(figures.history(series[name], LABELS.get(name, name)), "history")
    save(figures.autocorrelation_window(series[name], LABELS.get(name, name)), "autocorrelation")
    for charge, figure in (("topological_charge", "charge"), ("flowed_charge", "flowed_charge")):
        if charge in series:
            save(figures.topological_histogram(series[charge]), figure)
    if loops:
        found = loops["potential"]
        save(figures.potential(np.array(found["value"]), np.array(found["error"])), "potential")
    if flow:
        save(figures.flow(flow), "flow")
    if report["ess"] is not None:
        save(figures.weight_histogram(log_weights(chains).numpy(), report["ess"]), "weights")


def measure_ensemble(path: str | Path, loops: tuple[int, int] | None = None, flow: float | None = None) -> str:
    """The table of an ensemble file, wherever it came from; nothing is written.

    Args:
        loops: as for `measure_run`.
        flow: as for `measure_run`.

    Raises:
        InvalidInput: there is no such file, or it is no ensemble of a run; loops or a flow time as for `measure_run`.
    """
    config, _, _, report = _measured(Path(path), loops, flow)
    return _text(config, report)


def _measured(
    path: Path, loops: tuple[int, int] | None, flow: float | None, world: World = SERIAL
) -> tuple[Config, ChainFile, dict[str, np.ndarray], Report]:
    chains = ChainFile(path)
    if "config" not in chains.attributes:
        raise InvalidInput(f"an ensemble that lattice-flows sample made is expected, this one has no config ({path})")
    config = loads(chains.attributes["config"], str(path))
    group, sites = from_name(config.lattice.group), config.lattice.sites
    series = observe(chains, standard_observables(group, sites), world)
    report = make_report(config, chains, series)
    if loops is not None:
        report["loops"] = measure_loops(chains, config, *loops, world)
    if flow is not None:
        flowed = flow_ensemble(chains, config, flow, world)
        report["flow"] = flow_averages(flowed, flow, len(sites))
        if "topological_charge" in flowed:
            series["flowed_charge"] = flowed["topological_charge"][..., -1]
    return config, chains, series, report


def _text(config: Config, report: Report) -> str:
    parts = {"loops": loops_table, "flow": flow_table}
    return "\n".join([table(config, report), *(words(report[name]) for name, words in parts.items() if name in report)])


def show_run(folder: str | Path) -> str:
    """What a run is, how far it is, and its report, as text; draws the training in figures/training.png.

    Raises:
        InvalidInput: there is no run, or a broken file.
        LatticeFlowsError: the folder cannot be written to.
    """
    folder = Path(folder)
    config, action = build_action(load_run(folder), str(folder / CONFIG))
    metrics, path, report = read_metrics(folder / METRICS), folder / ENSEMBLE, folder / "report.txt"
    lines = [str(folder)]
    if config.sampling.uses_flow or metrics:
        lines += _training_in_words(folder, config, metrics)
    lines += [f"figure: {drawn}" for drawn in _draw_training(folder, metrics)]
    lines += [f"{action}", f"updates: {sampler_in_words(config)}"]
    if path.exists():
        chains = ChainFile(path)
        each = f" of each of {chains.chains} chains" if chains.chains > 1 else ""
        lines.append(f"ensemble: {chains.n_updates // chains.every} configurations{each}")
    else:
        lines.append("ensemble: none yet")
    shown = f"\n{report.read_text(encoding='utf-8')}" if report.exists() else ""
    return "\n".join(lines) + "\n" + shown


def _draw_training(folder: Path, metrics: list[dict[str, Any]]) -> list[Path]:
    """The figures of a training, if there is one."""
    if not metrics:
        return []
    from lattice_flows import figures  # here, because it loads matplotlib

    path = folder / "figures" / "training.png"
    files.make_folder(path.parent)
    figures.save(figures.training_curve(metrics), path)
    return [path]


class TrainingProgress(NamedTuple):
    """How far a training is; the means of its last twentieth are nan where it has not begun."""

    steps: int
    total: int
    loss: float
    ess: float
    seconds: float
    """Of a step."""


def training_progress(metrics: Sequence[Mapping[str, Any]], begun: Beginning) -> TrainingProgress:
    """How far a training is, from its metrics and what it was before its first step."""
    recent = metrics[-max(1, len(metrics) // 20) :]
    loss, ess, seconds = (_mean(record[key] for record in recent) for key in ("loss", "ess", "seconds"))
    total = training.total_steps(begun.flow, begun.action, begun.config.training)
    return TrainingProgress(len(metrics), total, loss, ess, seconds)


def _training_in_words(folder: Path, config: Config, metrics: list[dict[str, Any]]) -> list[str]:
    begun = beginning(folder, config)
    progress = training_progress(metrics, begun)
    line = f"training: {progress.steps} of {progress.total} steps"
    if metrics:
        skipped = sum(record["skipped"] for record in metrics)
        line += f", now loss {progress.loss:.5g}, ESS {progress.ess:.3f}, {progress.seconds:.3g} s a step"
        line += f", {skipped} skipped"
    model = begun.model
    return [str(begun.flow), *([f"begins from: {in_words(model.name, model.facts)}"] if model else []), line]


def demo(folder: str | Path) -> str:
    """Trains, samples and measures U(1) on 8x8 at beta = 2 in a folder; the text compares with the exact values."""
    source = resources.files("lattice_flows") / "demo.toml"
    config = loads(source.read_text(encoding="utf-8"), "demo.toml")
    stages = {
        "training": lambda: train_run(config, folder, "demo.toml"),
        "sampling": lambda: sample_run(folder),
        "measuring": lambda: measure_run(folder),
    }
    seconds = []
    for name, stage in stages.items():
        start = time.monotonic()
        stage()
        seconds.append(f"{name} {time.monotonic() - start:.0f} s")
    text = (Path(folder) / "report.txt").read_text(encoding="utf-8")
    return f"{text}\n{', '.join(seconds)}; everything is in {folder}\n"


def _finite(value: Any) -> Any:
    """A report with None for a number that is not finite, since JSON has none."""
    if isinstance(value, dict):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(values: Iterable[float | None]) -> float:
    """Of the values that are there; nan when there is none."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else math.nan
