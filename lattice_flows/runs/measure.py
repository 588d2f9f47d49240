"""The measurements of a run's ensemble: its tables and figures."""

import contextlib
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lattice_flows.actions import Action
from lattice_flows.config import Config, loads
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput, LatticeFlowsError, SomeFailed
from lattice_flows.flows.gradient_flows import step_errors
from lattice_flows.io import ChainFile, files, write_report
from lattice_flows.io.measurements import Measurements
from lattice_flows.models import build_action
from lattice_flows.observables import Observable, Smearing, standard_observables
from lattice_flows.reports.annealing import annealing_entries, annealing_table
from lattice_flows.reports.configurations import measure_configurations
from lattice_flows.reports.correlators import (
    correlator_averages,
    correlator_table,
    slice_observables,
    smeared_averages,
    smeared_observables,
    smeared_table,
)
from lattice_flows.reports.drift import drift
from lattice_flows.reports.export import export_series, writer
from lattice_flows.reports.improved import improved_averages, improved_table, measure_zeros, read_coefficients
from lattice_flows.reports.observe import Session, observe
from lattice_flows.reports.polyakov import measure_polyakov, polyakov_averages, polyakov_table
from lattice_flows.reports.potential import loops_averages, loops_table, measure_loops
from lattice_flows.reports.report import Report, log_weights, make_report, moves_of, table
from lattice_flows.reports.steps import Steps
from lattice_flows.reports.verify import verify_sample
from lattice_flows.reports.wilson_flow import flow_averages, flow_ensemble, flow_table, flow_times
from lattice_flows.reports.words import couplings, label
from lattice_flows.runs.folder import (
    ENSEMBLE,
    MEASUREMENTS,
    REPORT,
    load_model,
    load_run,
    name_of,
    read_costs,
    read_steps,
    sampled,
)
from lattice_flows.runs.stochastic import fits_of, prediction
from lattice_flows.signals import Stop

log = logging.getLogger(__name__)


class Wishes(NamedTuple):
    """What to measure beside the observables of every run, of which configurations, and where the series go.

    Example:
        >>> Wishes(loops=(2, 2), every=10).every
        10
    """

    loops: tuple[int, int] | None = None
    """R and T of the largest Wilson loops, for the static potential."""
    wilson_flow: float | None = None
    """The end of the Wilson flow, in lattice units."""
    polyakov: bool = False
    """Polyakov loops in every direction."""
    smear: Smearing | None = None
    """Of the links whose Wilson and Polyakov loops are measured, and improved correlators if it is stout in space."""
    every: int = 1
    """Measure every so many stored configurations of each chain."""
    n: int | None = None
    """Measure at most so many configurations of each chain, at equal distances."""
    exports: Sequence[str] = ()
    """Files for the series, see `export_series`."""
    improved: bool = False
    """Improve the averages by control variates, and test the ensemble by their zeros."""
    coefficients: Path | None = None
    """A report.json whose coefficients of control variates are used, in place of fits."""


SAMPLES = 16
"""The number of samples of a gradient flow whose steps are compared."""
REPORT_LOCK = ".report.lock"
"""Held while a report is written; who measures needs no lock of the chains."""


def measure_run(
    folder: str | Path, wishes: Wishes | None = None, world: World = SERIAL, stop: Stop | None = None
) -> Report:
    """Measure the ensemble of a run as it is now, also beside a job; write report.json, report.txt and the figures.

    What is measured is kept in measurements.h5, and is not measured again. Nothing is written in a folder of somebody
    else that is read-only.

    Args:
        world: the ranks that share the work; each of them calls this, and rank 0 writes.
        stop: asked after every part of the work, on every rank.

    Raises:
        InvalidInput: nothing is sampled, a broken file, or wishes that do not fit the run.
        Interrupted: it was asked to stop, and has kept what is measured.
        SomeFailed: the report cannot be written; its answer is the table.
    """
    return _measured_run(Path(folder), wishes or Wishes(), world, stop)[1]


def measure_table(
    folder: str | Path, wishes: Wishes | None = None, world: World = SERIAL, stop: Stop | None = None
) -> str:
    """Measure the ensemble of a run as `measure_run` does; return the table on rank 0, and nothing elsewhere."""
    config, report = _measured_run(Path(folder), wishes or Wishes(), world, stop)
    return _text(config, report) if world.first else ""


def measure_ensemble(path: str | Path, wishes: Wishes | None = None, stop: Stop | None = None) -> str:
    """Measure an ensemble file of any origin as `measure_run` does, but write no report; return the table.

    What is measured is kept beside the file.

    Raises:
        InvalidInput: as `measure_run`, or the file is no ensemble of a run.
        Interrupted: as `measure_run`.
    """
    path, wishes = Path(path), wishes or Wishes()
    config, chains, series, report = _measured(path, wishes, stop=stop)
    _export(chains, series, path.stem, wishes)
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


def _measured_run(folder: Path, wishes: Wishes, world: World, stop: Stop | None) -> tuple[Config, Report]:
    load_run(folder)
    path = sampled(folder)
    writes = world.first and os.access(folder, os.W_OK)
    if world.first and not writes:
        log.warning("%s cannot be written to: the results are shown, and kept where a copy of it is measured", folder)
    config, chains, series, report = _measured(path, wishes, world, stop, keeps=writes)
    if world.first:
        _export(chains, series, name_of(folder), wishes)
    if writes:
        try:
            with files.locked(folder, REPORT_LOCK, wait=True):
                _write(folder, config, chains, series, report)
        except LatticeFlowsError as error:
            raise SomeFailed(_text(config, report), [error]) from error
    return config, report


def _measured(
    path: Path, wishes: Wishes, world: World = SERIAL, stop: Stop | None = None, keeps: bool = True
) -> tuple[Config, ChainFile, dict[str, np.ndarray], Report]:
    """Return the config, the chains as they are thinned, all series, and the report."""
    for export in wishes.exports:
        writer(export)  # a wrong ending is said before the work
    of_loops = wishes.loops is not None or wishes.polyakov
    if wishes.smear is not None and not of_loops and not (wishes.improved and _of_slices(wishes.smear)):
        raise InvalidInput(
            f"{wishes.smear} smears links for Wilson or Polyakov loops: add --loops or --polyakov; stout of links in "
            "space serves --improved, too"
        )
    chains = ChainFile(path)
    # one snapshot for all ranks, the one of rank 0
    if (updates := world.broadcast(len(chains))) != len(chains):
        chains = ChainFile(path, updates)
    chains = _thinned(chains, wishes)
    config, action = build_action(loads(chains.config, str(path)), str(path))
    space = action.space
    verify_sample(chains, action)
    kept = Measurements(_beside(path), writable=keeps) if world.first else None
    session = Session(kept, world, stop or Stop())
    series = observe(chains, standard_observables(space), session)
    alone = config.sampling.independent
    doubt = drift(chains, action, config.sampling.seed, session) if alone else ""
    report = make_report(config, chains, series, doubt)
    if wishes.improved:
        carried = None if wishes.coefficients is None else read_coefficients(wishes.coefficients, action)
        zeros = measure_zeros(chains, config, action, session)
        report |= improved_averages(series, zeros, action, moves_of(chains), chains.every, carried)
        if carried is None and (observables := slice_observables(action)):
            report |= _correlators(chains, config, action, observables, wishes.smear, session)
    if wishes.polyakov:
        polyakov = measure_polyakov(chains, config, wishes.smear, session)
        report["polyakov_loops"] = polyakov_averages(polyakov, action, wishes.smear)
        for mu, own in enumerate(np.moveaxis(polyakov, -1, 0)):
            series |= {f"polyakov_loop_{mu}_re": own.real, f"polyakov_loop_{mu}_im": own.imag}
    if wishes.loops is not None:
        loops = measure_loops(chains, config, *wishes.loops, wishes.smear, session)
        report["loops"] = loops_averages(loops, action, wishes.smear)
        for r, t in np.ndindex(*wishes.loops):
            series[f"wilson_loop_in_time_{r + 1}x{t + 1}"] = loops[..., r, t]
    if wishes.wilson_flow is not None:
        flowed = flow_ensemble(chains, config, wishes.wilson_flow, session)
        report["flow"] = flow_averages(flowed, wishes.wilson_flow, space.dim)
        for name, own in flowed.items():
            series |= {f"{name}_at_{t:g}": own[..., i] for i, t in enumerate(flow_times(wishes.wilson_flow))}
    if world.first and path.name == ENSEMBLE:
        report |= _of_proposals(path.parent, chains, config, action)
    report["chains_go_on"] = _going_on(chains, config) if world.first else None
    return config, chains, series, report


def _correlators(
    chains: ChainFile,
    config: Config,
    action: Action,
    observables: dict[str, Observable],
    smear: Smearing | None,
    session: Session,
) -> Report:
    """Return the correlators of time slices, also those of smeared links if they are smeared in space by stout."""

    def measured(found: dict[str, Observable]) -> Iterator[np.ndarray]:
        about = f"of time slices of {config.action.name}, {couplings(config)}"
        yield from observe(chains, {f"{name} {about}": own for name, own in found.items()}, session).values()

    def contact(observable: Observable, step: int) -> np.ndarray:
        unkept = Session(None, session.world, session.stop)  # as no name says the coefficients
        return observe(chains.thinned(step), {"contact": observable}, unkept)["contact"]

    slices, zeros = measured(observables)
    moves, every = moves_of(chains), chains.every
    report: Report = {"correlator": correlator_averages(slices, zeros, contact, action, moves, every)}
    if smear is not None and _of_slices(smear):
        slices, own = measured(smeared_observables(action, smear))
        found = smeared_averages(slices, np.concatenate([zeros, own], -1), moves, every)
        report["smeared_correlator"] = {"smear": str(smear), "distances": found}
    return report


def _of_slices(smear: Smearing) -> bool:
    """Return whether the correlator of links smeared like this can be improved."""
    return smear.kind == "stout" and smear.spatial


def _of_proposals(folder: Path, chains: ChainFile, config: Config, action: Action) -> dict[str, Any]:
    """Return what the folder of a run says about the flow or the annealing whose proposals the chains met."""
    if "annealing" in config.sampling.names:
        return _annealing(folder, chains, config, action)
    if "flow" in config.sampling.names and config.flow.architecture == "gradient":
        return {"integrator": _steps(folder, action)._asdict()}
    return {}


def _steps(folder: Path, action: Action) -> Steps:
    flow = load_model(folder).flow
    return Steps.of(step_errors(flow, action, flow.sample_prior(SAMPLES, torch.Generator().manual_seed(0))))


def _annealing(folder: Path, chains: ChainFile, config: Config, action: Action) -> dict[str, Any]:
    fits = fits_of(folder, config)
    made = [record for record in read_costs(folder) if record["updates"]]
    paths = sum(record["made"] for record in made)
    spent = sum(record["cpu_seconds"] for record in made) / paths if paths else None
    first, predicted = action.at(float(fits.response.betas[0])), prediction(fits, config.sampling.stages)
    values = torch.from_numpy(chains.series("proposals/action")).flatten()
    steps = Steps(**fits.about["steps"])
    entries = annealing_entries(first, action, log_weights(chains), values, predicted, steps, len(fits.rows))
    cost = {"cpu_seconds": spent, "predicted_cpu_seconds": predicted.cpu_seconds}
    return entries | {"cost": cost | {"fit_cpu_seconds": fits.about["fit_seconds"]}}


def _going_on(chains: ChainFile, config: Config) -> str | None:
    """Say whether the chains are longer by now, or are to become longer."""
    read = f"{len(chains)} updates were committed when this was read"
    with contextlib.suppress(InvalidInput):  # it may be moved away by now
        if (now := len(ChainFile(chains.path))) > len(chains):
            return f"the chains go on: {read}, {now} are by now"
    total = config.sampling.n * config.sampling.every
    return f"the chains are to go on: {read}, {total} are asked for" if len(chains) < total else None


def _beside(path: Path) -> Path:
    """Where the measurements of an ensemble are kept."""
    return path.with_name(MEASUREMENTS if path.name == ENSEMBLE else f"{path.stem}.{MEASUREMENTS}")


def _thinned(chains: ChainFile, wishes: Wishes) -> ChainFile:
    for name, value in (("--every", wishes.every), ("-n", 1 if wishes.n is None else wishes.n)):
        if value < 1:
            raise InvalidInput(f"{name} must be >= 1, got {value}")
    stored = chains.n_updates // chains.every
    step = wishes.every if wishes.n is None else max(wishes.every, math.ceil(stored / wishes.n))
    if stored and step > stored:
        raise InvalidInput(f"--every must be at most {stored}, the configurations of each chain, got {step}")
    return chains.thinned(step)


def _export(chains: ChainFile, series: dict[str, np.ndarray], ensemble: str, wishes: Wishes) -> None:
    for path in wishes.exports:
        export_series(path, chains, series, ensemble)


def _write(folder: Path, config: Config, chains: ChainFile, series: dict[str, np.ndarray], report: Report) -> None:
    text = _text(config, report).encode()
    files.write(folder / "report.txt", text)
    write_report(folder / REPORT, {**report, "table_crc32": zlib.crc32(text)})
    metrics = read_steps(folder)
    with drawing(folder):
        draw_training(folder, metrics)
        _draw(folder, chains, series, report)


def _draw(folder: Path, chains: ChainFile, series: dict[str, np.ndarray], report: Report) -> None:
    from lattice_flows.reports import figures

    drawn, moves = {}, moves_of(chains)
    if series:
        name = "topological_charge" if "topological_charge" in series else next(iter(series))
        drawn["history"] = figures.history(series[name], label(name), chains.every)
        drawn["autocorrelation"] = figures.autocorrelation_window(series[name], label(name), moves, chains.every)
    flowed = f"topological_charge_at_{report['flow']['time']:g}" if "flow" in report else ""
    for charge, name in (("topological_charge", "charge"), (flowed, "flowed_charge")):
        if charge in series:
            drawn[name] = figures.topological_histogram(series[charge], moves)
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
    parts: dict[str, Callable[[Any], str]] = {
        "integrator": lambda own: f"{Steps(**own).in_words()}\n",
        "log_z_ratio": lambda _: annealing_table(report),
        "correlator": correlator_table,
        "smeared_correlator": smeared_table,
        "polyakov_loops": polyakov_table,
        "loops": loops_table,
        "flow": flow_table,
    }
    tables = [table(config, report), *([improved_table(report)] if "improved" in report else [])]
    tables += [words(report[name]) for name, words in parts.items() if name in report]
    return "\n".join([*tables, *([f"{going}\n"] if (going := report["chains_go_on"]) else [])])
