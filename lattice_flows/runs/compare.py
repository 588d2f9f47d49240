"""Samplers side by side: the cost of an independent configuration, training included and not."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lattice_flows.config import loads
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, read_report
from lattice_flows.reports.columns import columns
from lattice_flows.reports.report import tau_in_words
from lattice_flows.reports.tuning import tuning_of, tuning_warnings
from lattice_flows.reports.words import bracketed, label, number, sampler_in_words, system
from lattice_flows.runs.folder import REPORT, load_run, name_of, read_costs, sampled, trained_model
from lattice_flows.runs.measure import measure_run
from lattice_flows.runs.stochastic import fits_of

log = logging.getLogger(__name__)

Comparison = dict[str, Any]

FIRST = ("plaquette", "topological_charge", "topological_charge_squared")


def compare_runs(folders: Sequence[str | Path]) -> list[Comparison]:
    """Return the cost of an independent configuration for each run; runs without a report are measured.

    With c CPU-seconds for an update of one chain and tau_int in updates, an independent configuration costs
    2 tau_int c. With everything included, it costs the CPU time of training, thermalisation and sampling over the
    n / (2 tau_int) independent configurations of the run. Costs are None for stuck and frozen observables, and for
    an ensemble without the record of its cost.

    Raises:
        InvalidInput: nothing is sampled in one of the folders, or a broken file.
    """
    return [_row(Path(folder)) for folder in folders]


def comparison_table(rows: Sequence[Comparison]) -> str:
    """Write the comparison as text: one table for each observable that all runs have, the most interesting first."""
    common = dict.fromkeys((*FIRST, *rows[0]["observables"]))
    facts = [("run", "theory", "sampler", "updates", "acceptance", "CPU s/update", "training CPU s")]
    for row in rows:
        updates = f"{row['chains']} x {row['updates']}" if row["chains"] > 1 else str(row["updates"])
        costs = (number(row[key], ".3g") for key in ("cpu_seconds_per_update", "training_cpu_seconds"))
        facts.append((row["run"], row["theory"], row["sampler"], updates, f"{row['acceptance']:.3f}", *costs))
    parts = [columns(facts)]
    for name in (name for name in common if all(name in row["observables"] for row in rows)):
        lines = [[label(name), "value", "tau_int", "CPU s/independent", "all included", ""]]
        for row in rows:
            own = row["observables"][name]
            costs = (number(own[f"cpu_seconds_per_independent{kind}"], ".3g") for kind in ("", "_all_included"))
            lines.append([row["run"], bracketed(own["value"], own["error"]), tau_in_words(own), *costs, own["reason"]])
        parts.append(columns(lines, right=True))
    warnings = [f"{row['run']}: {words}\n" for row in rows for words in tuning_warnings(row["tuning"])]
    return "\n".join(parts) + (
        "\ntau_int in updates of a chain; CPU s/independent = 2 tau_int times the cost of an update\n"
        "all included = the cost of training, thermalisation and sampling, over the independent configurations\n"
        + "".join(warnings)
    )


def _row(folder: Path) -> Comparison:
    load_run(folder)
    chains = ChainFile(sampled(folder))
    config = loads(chains.config, str(chains.path))
    report = _report(folder, chains)
    entries = report["observables"].items()
    costs = read_costs(folder)
    spent = sum(record["cpu_seconds"] for record in costs)
    made = [record for record in costs if record["updates"]]
    updates = sum(record["made"] for record in made) * chains.chains
    each = sum(record["cpu_seconds"] for record in made) / updates if updates else None
    # the training of flows that no update uses is no cost of this ensemble
    training = 60 * trained_model(folder).facts.training_cpu_minutes if config.sampling.uses_flow else 0.0
    if "annealing" in config.sampling.names:
        training += fits_of(folder, config).about["fit_seconds"]
    return {
        "run": name_of(folder),
        "theory": system(config),
        "sampler": sampler_in_words(config),
        "chains": chains.chains,
        "updates": chains.n_updates,
        "acceptance": report["acceptance"],
        "tuning": tuning_of(config, chains),
        "cpu_seconds_per_update": each,
        "thermalisation_cpu_seconds": sum(record["cpu_seconds"] for record in costs if not record["updates"]),
        "training_cpu_seconds": training,
        "observables": {name: _observable(entry, each, spent + training) for name, entry in entries},
    }


def _report(folder: Path, chains: ChainFile) -> dict[str, Any]:
    """Return the report of the ensemble as it is now."""
    path = folder / REPORT
    # an older one may be of an ensemble that stood here before
    if path.exists() and path.stat().st_mtime >= chains.path.stat().st_mtime:
        own = {"updates": chains.n_updates, "chains": chains.chains, "every": chains.every}  # not thinned
        try:
            report = read_report(path)
        except InvalidInput as error:
            log.warning("%s", error)
        else:
            if {key: report.get(key) for key in own} == own:
                return report
    return measure_run(folder)


def _observable(entry: dict[str, Any], each: float | None, spent: float) -> dict[str, Any]:
    known = entry["tau_int"] is not None and each
    kept = ("value", "error", "tau_int", "tau_int_error", "frozen", "reliable", "reason")
    return {
        **{key: entry[key] for key in kept},
        "cpu_seconds_per_independent": 2 * entry["tau_int"] * each if known else None,
        "cpu_seconds_per_independent_all_included": spent / entry["n_eff"] if known else None,
    }
