"""Single configurations in the files of other programs, as tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lattice_flows.errors import InvalidInput, SomeFailed, each
from lattice_flows.groups import from_name
from lattice_flows.io import Given, read_configuration, read_gauge_file
from lattice_flows.io.configurations import NOTHING_GIVEN
from lattice_flows.lattice import GaugeField
from lattice_flows.observables import action_density, clover_charge, standard_observables
from lattice_flows.observables import wilson_flow as smoothed
from lattice_flows.reports.columns import columns
from lattice_flows.reports.wilson_flow import TOLERANCE
from lattice_flows.reports.words import label

VERDICT = ("file", "verdict", "format", "group", "sites", "bits", "checksum", "plaquette stated", "found")
NAMES = ("plaquette", "wilson_loop_2x2", "polyakov_loop", "clover_charge")


def measure_configurations(
    paths: Sequence[str | Path], wilson_flow: float | None = None, given: Given = NOTHING_GIVEN
) -> str:
    """Return a table of single configurations: their headers, the statements verified, and observables.

    Args:
        paths: gauge files.
        wilson_flow: a time of the Wilson flow, for the action density and the charge there.
        given: the checks to ignore.

    Raises:
        SomeFailed: files that are missing, damaged or of another format; its answer is the table of the others.
        InvalidInput: all files are, or a flow time that is not finite and > 0.
    """
    flowed = () if wilson_flow is None else (f"t^2 E at t = {wilson_flow:g}", f"Q at t = {wilson_flow:g}")
    titles = ("clover charge" if name == "clover_charge" else label(name) for name in NAMES)

    def row(path: str | Path) -> tuple[str, ...]:
        links, facts = read_configuration(path, given)
        space = space_of(facts)
        charge = clover_charge(space)
        observables = {**standard_observables(space), "clover_charge": charge}
        cells = [f"{float(observables[name](links)):.8f}" if name in observables else "-" for name in NAMES]
        if wilson_flow is not None:
            smooth = smoothed(links, space, wilson_flow, tolerance=TOLERANCE)
            numbers = wilson_flow**2 * float(action_density(space)(smooth)), float(charge(smooth))
            cells += [f"{number:.8f}" for number in numbers]
        about = (str(path), facts["format"], facts["group"], str(space.lattice))
        return (*about, ", ".join(facts["verified"]) or "nothing", *cells)

    rows, errors = each(paths, row)
    table = columns([("file", "format", "group", "sites", "verified", *titles, *flowed), *rows])
    if errors:
        raise SomeFailed(table, errors)
    return table


def verify_configurations(paths: Sequence[str | Path], given: Given = NOTHING_GIVEN) -> tuple[str, list[str | Path]]:
    """Compare gauge files with what they state; return a table with reasons behind it, and the bad files.

    Args:
        paths: gauge files.
        given: what the files do not state, and the checks to ignore.
    """
    rows: list[tuple[str, ...]] = [VERDICT]
    reasons, bad = [], []
    for path in paths:
        try:
            file = read_gauge_file(path, given)
        except InvalidInput as error:
            rows.append((str(path), "bad", *["-"] * 7))
            reasons.append(str(error))
            bad.append(path)
            continue
        stated = {statement.name: statement for statement in file.statements}
        wrong = [statement for statement in file.statements if not statement.right]
        if {statement.name for statement in wrong} - {*given.ignore}:
            bad.append(path)
        reasons += [f"{sentence} ({path})" for sentence in (*wrong, *file.notes)]
        rows.append((
            str(path),
            "bad" if path in bad else "good",
            file.format,
            str(file.space.group),
            str(file.space.lattice),
            str(file.facts["precision"]),
            ("right" if stated["checksum"].right else "wrong") if "checksum" in stated else "none",
            stated["plaquette"].stated if "plaquette" in stated else "none",
            f"{file.averages['plaquette']:.12f}",
        ))  # fmt: skip
    return columns(rows) + "".join(f"{reason}\n" for reason in reasons), bad


def space_of(facts: dict[str, Any]) -> GaugeField:
    """Return the space of a configuration, from the facts that `read_configuration` gives."""
    return GaugeField(from_name(facts["group"]), facts["extents"])
