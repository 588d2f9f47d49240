"""The measurements of a run's ensemble: its tables and figures."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from lattice_flows.config import Config, loads
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput, LatticeFlowsError, SomeFailed
from lattice_flows.io import ChainFile, files
from lattice_flows.io.metrics import finite
from lattice_flows.models import build_space
from lattice_flows.observables import standard_observables
from lattice_flows.reports.configurations import measure_configurations
from lattice_flows.reports.observe import observe
from lattice_flows.reports.potential import loops_table, measure_loops
from lattice_flows.reports.report import Report, log_weights, make_report, table
from lattice_flows.reports.wilson_flow import flow_averages, flow_ensemble, flow_table
from lattice_flows.reports.words import label
from lattice_flows.runs.folder import ENSEMBLE, REPORT, load_run, read_steps, sampled

log = logging.getLogger(__name__)


def measure_run(
    folder: str | Path, loops: tuple[int, int] | None = None, wilson_flow: float | None = None, world: World = SERIAL
) -> Report:
    """Measure the ensemble of a run; write report.json, report.txt and the figures.

    Nothing is written in a folder of somebody else that is read-only.

    Args:
        loops: R and T of the largest Wilson loops, for the static potential.
        wilson_flow: the end of the Wilson flow, in lattice units.
        world: the ranks that share the work; each of them calls this, and rank 0 writes.

    Raises:
        InvalidInput: nothing is sampled, a broken file, loops that do not fit the lattice, a flow time that is not
            finite and positive, or loops or a Wilson flow of a field without links.
        SomeFailed: the disk is full; its answer is the table.
        LatticeFlowsError: the folder is in use.
    """
    return _measured_run(Path(folder), loops, wilson_flow, world)[1]


def measure_table(
    folder: str | Path, loops: tuple[int, int] | None = None, wilson_flow: float | None = None, world: World = SERIAL
) -> str:
    """Measure the ensemble of a run as `measure_run` does; return the table on rank 0, and nothing elsewhere."""
    config, report = _measured_run(Path(folder), loops, wilson_flow, world)
    return _text(config, report) if world.first else ""


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


@contextlib.contextmanager
def drawing(folder: Path) -> Iterator[None]:
    """Warn of figures that cannot be drawn or written: nothing else needs them."""
    try:
        yield
    except (LatticeFlowsError, OSError, ImportError) as error:
        log.warning("no figures: %s; they need space in %s, and matplotlib a folder: $MPLCONFIGDIR", error, folder)


def _measured_run(
    folder: Path, loops: tuple[int, int] | None, wilson_flow: float | None, world: World
) -> tuple[Config, Report]:
    load_run(folder)
    path = sampled(folder)
    writes = world.first and os.access(folder, os.W_OK)
    if world.first and not writes:
        log.warning("%s cannot be written to: the results are shown, and kept where a copy of it is measured", folder)
    with files.locked(folder) if writes else nullcontext():
        config, chains, series, report = _measured(path, loops, wilson_flow, world)
        if writes:
            try:
                _write(folder, config, chains, series, report)
            except LatticeFlowsError as error:
                raise SomeFailed(_text(config, report), [error]) from error
    return config, report


def _measured(
    path: Path, loops: tuple[int, int] | None, wilson_flow: float | None, world: World = SERIAL
) -> tuple[Config, ChainFile, dict[str, np.ndarray], Report]:
    chains = ChainFile(path)
    if "config" not in chains.attributes:
        raise InvalidInput(f"an ensemble that lattice-flows sample made is expected, this one has no config ({path})")
    config = loads(chains.attributes["config"], str(path))
    space = build_space(config)
    series = observe(chains, standard_observables(space), world)
    report = make_report(config, chains, series)
    if loops is not None:
        report["loops"] = measure_loops(chains, config, *loops, world)
    if wilson_flow is not None:
        flowed = flow_ensemble(chains, config, wilson_flow, world)
        report["flow"] = flow_averages(flowed, wilson_flow, space.dim)
        if "topological_charge" in flowed:
            series["flowed_charge"] = flowed["topological_charge"][..., -1]
    return config, chains, series, report


def _write(folder: Path, config: Config, chains: ChainFile, series: dict[str, np.ndarray], report: Report) -> None:
    files.write(folder / REPORT, (json.dumps(finite(report), indent=2) + "\n").encode())
    files.write(folder / "report.txt", _text(config, report).encode())
    metrics = read_steps(folder)
    with drawing(folder):
        draw_training(folder, metrics)
        _draw(folder, chains, series, report)


def _draw(folder: Path, chains: ChainFile, series: dict[str, np.ndarray], report: Report) -> None:
    from lattice_flows.reports import figures

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
    return "\n".join([table(config, report), *(words(report[name]) for name, words in parts.items() if name in report)])
