"""Samplers side by side: what an independent configuration costs, training included and not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lattice_flows.columns import columns
from lattice_flows.config import Config, loads
from lattice_flows.folders import COSTS, REPORT, load_run, sampled, trained_model
from lattice_flows.io import ChainFile, read_metrics
from lattice_flows.report import LABELS, bracketed, sampler_in_words, system, tau_in_words
from lattice_flows.results import measure_run

Comparison = dict[str, Any]

FIRST = ("plaquette", "topological_charge", "topological_charge_squared")


def compare_runs(folders: Sequence[str | Path]) -> list[Comparison]:
    """What each of some runs took for an independent configuration; those that are not measured yet are.

    With c CPU-seconds for an update of one chain, an independent configuration costs 2 tau_int c, tau_int counting
    updates. With everything included, it costs the CPU time of training, thermalisation and sampling over the
    n / (2 tau_int) independent configurations that the run has. Costs are None for a frozen observable, and where
    the ensemble came without the record of its cost.

    Raises:
        InvalidInput: nothing sampled in one of the folders, or a broken file.
    """
    return [_row(Path(folder)) for folder in folders]


def comparison_table(rows: Sequence[Comparison]) -> str:
    """The comparison as text: one table for each observable that all runs have, those of most interest first."""
    common = [name for name in rows[0]["observables"] if all(name in row["observables"] for row in rows)]
    order = [name for name in FIRST if name in common] + [name for name in common if name not in FIRST]
    facts = [("run", "theory", "sampler", "updates", "acceptance", "CPU s/update", "training CPU s")]
    for row in rows:
        cost = _number(row["cpu_seconds_per_update"])
        training = _number(row["training_cpu_seconds"])
        updates = f"{row['chains']} x {row['updates']}" if row["chains"] > 1 else str(row["updates"])
        facts.append((row["run"], row["theory"], row["sampler"], updates, f"{row['acceptance']:.3f}", cost, training))
    parts = [columns(facts)]
    for name in order:
        lines = [[LABELS.get(name) or name, "value", "tau_int", "CPU s/independent", "all included"]]
        for row in rows:
            own = row["observables"][name]
            costs = (_number(own[f"cpu_seconds_per_independent{kind}"]) for kind in ("", "_all_included"))
            lines.append([row["run"], bracketed(own["value"], own["error"]), tau_in_words(own), *costs])
        parts.append(columns(lines, right=True))
    return "\n".join(parts) + (
        "\ntau_int in updates of a chain; CPU s/independent = 2 tau_int times the cost of one; all included: training\n"
        "and thermalisation as well, shared by the independent configurations that there are\n"
    )


def _row(folder: Path) -> Comparison:
    load_run(folder)
    path = sampled(folder)
    chains = ChainFile(path)
    config = loads(chains.attributes["config"], str(path))
    report = _report(folder, chains)
    costs = read_metrics(folder / COSTS)
    spent = sum(record["cpu_seconds"] for record in costs)
    made = [record for record in costs if record["updates"]]
    updates = sum(record["made"] for record in made) * chains.chains
    each = sum(record["cpu_seconds"] for record in made) / updates if updates else None
    training = _training(folder, config)
    return {
        "run": folder.name,
        "theory": system(config),
        "sampler": sampler_in_words(config),
        "chains": chains.chains,
        "updates": chains.n_updates,
        "acceptance": report["acceptance"],
        "cpu_seconds_per_update": each,
        "thermalisation_cpu_seconds": sum(record["cpu_seconds"] for record in costs if not record["updates"]),
        "training_cpu_seconds": training,
        "observables": {
            name: _observable(entry, chains.every, each, spent + training)
            for name, entry in report["observables"].items()
        },
    }


def _report(folder: Path, chains: ChainFile) -> dict[str, Any]:
    """The report of the ensemble as it is now."""
    path = folder / REPORT
    if path.exists():
        report = json.loads(path.read_text(encoding="utf-8"))
        if report.get("updates") == chains.n_updates and report.get("chains") == chains.chains:
            return report
    return measure_run(folder)


def _training(folder: Path, config: Config) -> float:
    if not config.sampling.uses_flow:
        return 0.0
    return 60 * trained_model(folder).facts.training_cpu_minutes


def _observable(entry: dict[str, Any], every: int, each: float | None, spent: float) -> dict[str, Any]:
    known = not entry["frozen"]
    tau = {key: entry[key] * every if known else None for key in ("tau_int", "tau_int_error")}
    return {
        **{key: entry[key] for key in ("value", "error", "frozen", "reliable")},
        **tau,
        "cpu_seconds_per_independent": 2 * entry["tau_int"] * every * each if known and each else None,
        "cpu_seconds_per_independent_all_included": spent / entry["n_eff"] if known and each else None,
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
