"""What comes out of a run: its measurements, its state in words, and the demonstration of all of it."""

import json
import math
import time
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lattice_flows import training
from lattice_flows.config import Config, loads
from lattice_flows.errors import InvalidInput
from lattice_flows.folders import beginning, load_run
from lattice_flows.groups import from_name
from lattice_flows.io import Ensemble, files, read_metrics
from lattice_flows.measurement import standard_observables
from lattice_flows.report import LABELS, Report, in_words, make_report, table
from lattice_flows.runs import sample_run, train_run


def measure_run(folder: str | Path) -> Report:
    """Measures the ensemble of a run, and writes report.json, report.txt and the figures.

    Raises:
        InvalidInput: nothing sampled there, or a broken file.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    from lattice_flows import figures  # here, because it loads matplotlib

    folder = Path(folder)
    load_run(folder)
    path = folder / "ensemble.h5"
    if not path.exists():
        raise InvalidInput(f"nothing is sampled yet: lattice-flows sample {folder} does that ({path})")
    with files.locked(folder):
        ensemble = Ensemble(path)
        config = loads(ensemble.attributes["config"], str(path))
        series = observe(ensemble, config)
        report = make_report(config, series, ensemble.accepted, ensemble.log_weights)
        files.write(folder / "report.json", (json.dumps(report, indent=2) + "\n").encode())
        files.write(folder / "report.txt", table(config, report).encode())
        files.make_folder(folder / "figures")
        if metrics := read_metrics(folder / "metrics.jsonl"):
            figures.save(figures.training_curve(metrics), folder / "figures" / "training.png")
        name = "topological_charge" if "topological_charge" in series else "plaquette"
        figures.save(figures.history(series[name], LABELS.get(name, name)), folder / "figures" / "history.png")
        figures.save(figures.weight_histogram(ensemble.log_weights, report["ess"]), folder / "figures" / "weights.png")
    return report


def show_run(folder: str | Path) -> str:
    """What a run is, how far it is, and its report, as text.

    Raises:
        InvalidInput: there is no run, or a broken file.
    """
    folder = Path(folder)
    config, flow, action, model = beginning(folder, load_run(folder))
    metrics = read_metrics(folder / "metrics.jsonl")
    training_line = f"{len(metrics)} of {training.total_steps(flow, action, config.training)} steps"
    model_line = f"begins from: {in_words(model.name, model.facts)}\n" if model else ""
    if metrics:
        recent = metrics[-max(1, len(metrics) // 20) :]
        loss, ess, seconds = (_mean(record[key] for record in recent) for key in ("loss", "ess", "seconds"))
        skipped = sum(record["skipped"] for record in metrics)
        training_line += f", now loss {loss:.5g}, ESS {ess:.3f}, {seconds:.3g} s a step, {skipped} skipped"
    path = folder / "ensemble.h5"
    ensemble_line = f"{len(Ensemble(path))} configurations" if path.exists() else "none yet"
    report = folder / "report.txt"
    return f"{folder}\n{flow}\n{action}\n{model_line}training: {training_line}\nensemble: {ensemble_line}\n" + (
        f"\n{report.read_text(encoding='utf-8')}" if report.exists() else ""
    )


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


def observe(ensemble: Ensemble, config: Config) -> dict[str, np.ndarray]:
    """Every standard observable along the chain; each distinct configuration is measured once."""
    group = from_name(config.lattice.group)
    observables = standard_observables(group, config.lattice.sites)
    values: dict[str, list[Tensor]] = {name: [] for name in observables}
    with tqdm(total=ensemble.n_distinct, desc="measuring", unit="conf", disable=None) as bar:
        for links in ensemble.links():
            for name, observable in observables.items():
                values[name].append(observable(links))
            bar.update(len(links))
    return {name: torch.cat(parts).double().numpy()[ensemble.chain_index] for name, parts in values.items()}


def _mean(values: Iterable[float | None]) -> float:
    """Of the values that are there; nan when there is none."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else math.nan
