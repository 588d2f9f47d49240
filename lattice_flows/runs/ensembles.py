"""Improved averages of ensembles that are no runs: gauge files of other programs, and chains without a config."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lattice_flows.config import Config
from lattice_flows.errors import Interrupted, InvalidInput, LatticeFlowsError, SomeFailed, naming
from lattice_flows.io import ChainFile, Given, read_configuration, write_report
from lattice_flows.io.configurations import NOTHING_GIVEN
from lattice_flows.models import build_action
from lattice_flows.observables import Observable, schwinger_dyson, standard_observables
from lattice_flows.operators import next_to_leading
from lattice_flows.reports.configurations import space_of
from lattice_flows.reports.correlators import correlator_averages, correlator_table, slice_observables
from lattice_flows.reports.improved import improved_averages, improved_table, read_coefficients
from lattice_flows.reports.observe import PART, observe
from lattice_flows.reports.report import moves_of, observable_entry
from lattice_flows.reports.words import system
from lattice_flows.runs.folder import CONFIG, REPORT
from lattice_flows.signals import Stop
from lattice_flows.statistics import Moves, check_enough, estimate

ZEROS = "schwinger_dyson"


class _Measured(NamedTuple):
    """What is measured of an ensemble: series `(chains, n)`, the zeros with a last axis, and as for `estimate`."""

    series: dict[str, np.ndarray]
    again: Callable[[Observable, int], np.ndarray]
    """Measures an observable on each k-th configuration."""
    moves: Moves | None = None
    every: int = 1


def measure_files(
    paths: Sequence[str | Path],
    action: Mapping[str, Any],
    given: Given = NOTHING_GIVEN,
    stop: Stop | None = None,
    coefficients: Path | None = None,
) -> str:
    """Improve the averages of an ensemble by control variates; write report.json beside it, and return the table.

    Args:
        paths: gauge files, which are one chain in the order of the numbers in their names; or one HDF5 file of chains.
        action: its keys and values, as in `[action]` of a config.
        given: the checks of gauge files to ignore.
        stop: asked after every gauge file.
        coefficients: a report.json whose coefficients are used, in place of fits; correlators are left out.

    Raises:
        InvalidInput: no action or one that does not fit, files that are damaged or of different lattices, or too few
            configurations.
        Interrupted: it was asked to stop.
        SomeFailed: the report cannot be written; its answer is the table.
    """
    files = sorted(map(Path, paths), key=_numbers_in)
    if not action:
        raise InvalidInput(f"no file states its action: say --action, such as --action wilson --beta 6.0 ({files[0]})")
    fits = coefficients is None
    if any(path.suffix in (".h5", ".hdf5") for path in files):
        config, measured = _of_chains(files, action, fits)
    else:
        config, measured = _of_gauge_files(files, action, given, stop or Stop(), fits)
    _, built = build_action(config, str(files[0]))
    series, moves, every = measured.series, measured.moves, measured.every
    zeros = series.pop(ZEROS)
    slices = {name: series.pop(name) for name in slice_observables(built) if fits}
    chains, n = zeros.shape[:2]
    entries = {name: observable_entry(built, name, estimate(own, moves, every)) for name, own in series.items()}
    report = {"n": chains * n, "chains": chains, "every": every, "action": dict(action), "observables": entries}
    carried = None if coefficients is None else read_coefficients(coefficients, built)
    report |= improved_averages(series, zeros, built, moves, every, carried)
    if slices:
        report["correlator"] = correlator_averages(
            **slices, contact=measured.again, action=built, moves=moves, every=every
        )
    text = f"{system(config)}: {chains * n} configurations\n\n{improved_table(report)}"
    if slices:
        text += f"\n{correlator_table(report['correlator'])}"
    folder = files[0].parent
    if (folder / CONFIG).exists():  # the report there is that of a run
        return text
    try:
        write_report(folder / REPORT, report)
    except LatticeFlowsError as error:
        raise SomeFailed(text, [error]) from error
    return f"{text}written: {folder / REPORT}\n"


def _of_chains(paths: Sequence[Path], action: Mapping[str, Any], fits: bool) -> tuple[Config, _Measured]:
    if len(paths) > 1:
        raise InvalidInput(f"measure takes one HDF5 file at a time, got {len(paths)} files, {paths[0]} the first")
    chains = ChainFile(paths[0])
    if not {"group", "extents"} <= chains.attributes.keys():
        raise InvalidInput(f"chains of links with the attributes group and extents are expected ({paths[0]})")
    group, extents = str(chains.attributes["group"]), tuple(map(int, chains.attributes["extents"]))
    config, observables = _observables(group, extents, action, paths[0], fits)

    def again(observable: Observable, step: int) -> np.ndarray:
        return observe(chains.thinned(step), {"contact": observable})["contact"]

    return config, _Measured(observe(chains, observables), again, moves_of(chains), chains.every)


def _of_gauge_files(
    paths: Sequence[Path], action: Mapping[str, Any], given: Given, stop: Stop, fits: bool
) -> tuple[Config, _Measured]:
    links, facts = read_configuration(paths[0], given)
    first = space_of(facts)
    config, observables = _observables(first.group.name, first.lattice.extents, action, paths[0], fits)
    if fits:
        check_enough(len(next_to_leading(first.group, first.dim)), [len(paths)])  # before the work
    size = max(1, PART // links.nbytes)

    def read(path: Path) -> Tensor:
        links, facts = read_configuration(path, given)
        if (space := space_of(facts)) != first:
            raise InvalidInput(f"files of one ensemble are expected, got {space} in {path} and {first} in {paths[0]}")
        return links

    def measure(observables: Mapping[str, Observable], paths: Sequence[Path]) -> dict[str, np.ndarray]:
        found: dict[str, list[Tensor]] = {name: [] for name in observables}
        for start in range(0, len(paths), size):
            if stop.asked:
                raise Interrupted(f"asked to stop: {start} of {len(paths)} files are measured, and nothing is kept")
            part = torch.stack([read(path) for path in paths[start : start + size]])
            for name, observable in observables.items():
                found[name].append(observable(part).double())
        return {name: torch.cat(own).numpy()[None] for name, own in found.items()}

    def again(observable: Observable, step: int) -> np.ndarray:
        return measure({"contact": observable}, paths[step - 1 :: step])["contact"]

    return config, _Measured(measure(observables, paths), again)


def _observables(
    group: str, extents: tuple[int, ...], action: Mapping[str, Any], path: Path, fits: bool
) -> tuple[Config, dict[str, Observable]]:
    """The config that stands for an ensemble, and what is measured of it; of time slices, where they are fitted."""
    lattice, updates = {"group": group, "extents": extents}, {"updates": ("hmc",)}
    with naming(str(path)):
        config = Config.of(lattice=lattice, action=action, sampling=updates)
    config, built = build_action(config, str(path))
    slices = slice_observables(built) if fits else {}
    return config, {**standard_observables(built.space), ZEROS: schwinger_dyson(built), **slices}


def _numbers_in(path: Path) -> list[str | int]:
    """The name in parts, numbers apart from words, so that 10 comes behind 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
