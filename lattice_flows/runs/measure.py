"""The measurements of a run's ensemble: its tables and figures."""

import contextlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.config import Config, loads
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, files, read_metrics, write_report
from lattice_flows.models import build_action
from lattice_flows.observables import standard_observables
from lattice_flows.reports.configurations import measure_configurations
from lattice_flows.reports.observe import observe
from lattice_flows.reports.potential import loops_table, measure_loops
from lattice_flows.reports.report import Report, log_weights, make_report, table
from lattice_flows.reports.verify import verify_sample
from lattice_flows.reports.wilson_flow import flow_averages, flow_ensemble, flow_table
from lattice_flows.reports.words import label
from lattice_flows.runs.folder import ENSEMBLE, METRICS, REPORT, load_run, sampled

REPORT_LOCK = ".report.lock"
"""Held while a report is written; who measures needs no lock of the chains."""


def measure_run(
    folder: str | Path, loops: tuple[int, int] | None = None, wilson_flow: float | None = None, world: World = SERIAL
) -> Report:
    """Measure the ensemble of a run as it is now, also beside a job; write report.json, report.txt and the figures.

    Args:
        loops: R and T of the largest Wilson loops, for the static potential.
        wilson_flow: the end of the Wilson flow, in lattice units.
        world: the ranks that share the work; each of them calls this, and rank 0 writes.

    Raises:
        InvalidInput: nothing is sampled, a broken file, loops that do not fit the lattice, a flow time that is not
            finite and positive, or loops or a Wilson flow of a field without links.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder = Path(folder)
    load_run(folder)
    path = sampled(folder)
    config, chains, series, report = _measured(path, loops, wilson_flow, world)
    if world.first:
        with files.locked(folder, REPORT_LOCK, wait=True):
            _write(folder, config, chains, series, report)
    return report


def measure_ensemble(path: str | Path, loops: tuple[int, int] | None = None, wilson_flow: float | None = None) -> str:
    """Measure an ensemble file of any origin as `measure_run` does, but write nothing; return the table.

    Raises:
        InvalidInput: as `measure_run`, or the file is no ensemble of a run.
    """
    config, _, _, report = _measured(Path(path), loops, wilson_flow)
    return _text(config, report)


def measure_start(folder: str | Path, wilson_flow: float | None = None) -> str | None:
    """Measure the file that a run starts from as `measure_configurations` does; return the table.

    The result is None where the run starts from no file, or has an ensemble.

    Raises:
        InvalidInput: there is no run, or the file is broken.
    """
    folder = Path(folder)
    start = folder / (load_run(folder).sampling.start or "")
    if (folder / ENSEMBLE).exists() or not start.is_file():
        return None
    return measure_configurations([start], wilson_flow)


def draw_training(folder: Path, metrics: list[dict[str, Any]]) -> list[Path]:
    """Draw the training, if there is one; return the paths of the figures."""
    if not metrics:
        return []
    from lattice_flows.reports import figures

    path = folder / "figures" / "training.png"
    figures.save(figures.training_curve(metrics), path)
    return [path]


def _measured(
    path: Path, loops: tuple[int, int] | None, wilson_flow: float | None, world: World = SERIAL
) -> tuple[Config, ChainFile, dict[str, np.ndarray], Report]:
    chains = ChainFile(path)
    # one snapshot for all ranks, the one of rank 0
    if (updates := world.broadcast(len(chains))) != len(chains):
        chains = ChainFile(path, updates)
    config, action = build_action(loads(chains.config, str(path)), str(path))
    space = action.space
    verify_sample(chains, action)
    series = observe(chains, standard_observables(space), world)
    report = make_report(config, chains, series)
    report["chains_go_on"] = None
    if loops is not None:
        report["loops"] = measure_loops(chains, config, *loops, world)
    if wilson_flow is not None:
        flowed = flow_ensemble(chains, config, wilson_flow, world)
        report["flow"] = flow_averages(flowed, wilson_flow, space.dim)
        if "topological_charge" in flowed:
            series["flowed_charge"] = flowed["topological_charge"][..., -1]
    if world.first:
        report["chains_go_on"] = _going_on(chains, config)
    return config, chains, series, report


def _going_on(chains: ChainFile, config: Config) -> str | None:
    """Say whether the chains are longer by now, or are to become longer."""
    read = f"{len(chains)} updates were committed when this was read"
    with contextlib.suppress(InvalidInput):  # it may be moved away by now
        if (now := len(ChainFile(chains.path))) > len(chains):
            return f"the chains go on: {read}, {now} are by now"
    total = config.sampling.n * config.sampling.every
    return f"the chains are to go on: {read}, {total} are asked for" if len(chains) < total else None


def _write(folder: Path, config: Config, chains: ChainFile, series: dict[str, np.ndarray], report: Report) -> None:
    from lattice_flows.reports import figures

    text = _text(config, report).encode()
    files.write(folder / "report.txt", text)
    write_report(folder / REPORT, {**report, "table_crc32": zlib.crc32(text)})
    draw_training(folder, read_metrics(folder / METRICS))
    drawn = {}
    if series:
        name = "topological_charge" if "topological_charge" in series else next(iter(series))
        drawn["history"] = figures.history(series[name], label(name))
        drawn["autocorrelation"] = figures.autocorrelation_window(series[name], label(name))
    for charge, name in (("topological_charge", "charge"), ("flowed_charge", "flowed_charge")):
        if charge in series:
            drawn[name] = figures.topological_histogram(series[charge])
    if "loops" in report:
        found = report["loops"]["potential"]
        drawn["potential"] = figures.potential(np.array(found["value"]), np.array(found["error"]))
    if "flow" in report:
        drawn["flow"] = figures.wilson_flow(report["flow"])
    if report["ess"] is not None:
        drawn["weights"] = figures.weight_histogram(log_weights(chains).numpy(), report["ess"])
    for name, figure in drawn.items():
        figures.save(figure, folder / "figures" / f"{name}.png")


def _text(config: Config, report: Report) -> str:
    parts = {"loops": loops_table, "flow": flow_table}
    tables = [table(config, report), *(words(report[name]) for name, words in parts.items() if name in report)]
    return "\n".join([*tables, *([f"{going}\n"] if (going := report["chains_go_on"]) else [])])
