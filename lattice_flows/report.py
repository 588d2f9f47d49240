"""The report of an ensemble, a dict for report.json and a table for people; and what is said of trained models."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from lattice_flows.columns import columns
from lattice_flows.config import Config
from lattice_flows.groups import from_name
from lattice_flows.measurement import (
    Estimate,
    acceptance,
    ess,
    ess_error,
    estimate,
    exact_value,
    longest_rejection_run,
)
from lattice_flows.models import Facts, Header

Report = dict[str, Any]

LABELS = {
    "wilson_loop_2x2": "Wilson loop W(2,2)",
    "topological_charge": "topological charge Q",
    "topological_charge_squared": "<Q^2>",
    "polyakov_loop": "Polyakov loop |L|",
}
"""What people read for the names in report.json, where that is another word."""


def make_report(config: Config, series: Mapping[str, np.ndarray], accepted: np.ndarray, log_w: np.ndarray) -> Report:
    """Estimates beside the exact values, with null where there is none.

    Args:
        config: group, sites and action of the ensemble, for the exact values.
        series: name -> (n,) observable along the chain.
        accepted: (n,) whether each proposal was; the first is the start of the chain.
        log_w: (n,) log-weights of all proposals, which are independent of each other.
    """
    weights = torch.from_numpy(log_w)
    return {
        "ess": ess(weights).item(),
        "ess_error": ess_error(weights).item(),
        "acceptance": acceptance(accepted[1:]),
        "longest_rejection_run": longest_rejection_run(accepted[1:]),
        "n": len(accepted),
        "observables": {name: _observable(config, name, estimate(values)) for name, values in series.items()},
    }


def table(config: Config, report: Report) -> str:
    """The report as text, with errors in brackets: 0.5978(3)."""
    sites = "x".join(map(str, config.lattice.sites))
    lines = [
        f"{config.lattice.group}, {sites} sites, {config.action.name} action at beta = {config.action.beta:g}: "
        f"{report['n']} configurations by independence Metropolis",
        "",
        f"{'observable':<24} {'value':>16} {'exact':>12} {'pull':>7} {'tau_int':>14}",
    ]
    for name, entry in report["observables"].items():
        exact = "-" if entry["exact"] is None else f"{entry['exact']:.7g}"
        pull = "-" if entry["pull"] is None else f"{entry['pull']:+.2f}"
        value = bracketed(entry["value"], entry["error"])
        tau = bracketed(entry["tau_int"], entry["tau_int_error"])
        lines.append(f"{LABELS.get(name, name):<24} {value:>16} {exact:>12} {pull:>7} {tau:>14}")
    lines += [
        "",
        f"ESS                    {bracketed(report['ess'], report['ess_error'])}",
        f"acceptance             {report['acceptance']:.4f}",
        f"longest rejection run  {report['longest_rejection_run']}",
        "",
        "pull = (value - exact) / error; tau_int in updates, 0.5 where updates are independent",
    ]
    short = [LABELS.get(name, name) for name, entry in report["observables"].items() if not entry["reliable"]]
    if short:
        lines.append(f"the chain is too short for {', '.join(short)}: do not trust the errors")
    return "\n".join(lines) + "\n"


def in_words(name: str, facts: Facts) -> str:
    """A trained model in one line.

    Example:
        >>> in_words("u1", Facts(version="0.1.0", step=9, training_cpu_minutes=2.0, ess=0.91, ess_error=0.02))
        'u1: ESS 0.91(2), 9 steps in 2 CPU minutes'
    """
    return f"{name}: ESS {_ess(facts)}, {facts.step:,} steps in {facts.training_cpu_minutes:.3g} CPU minutes"


def models_table(headers: Iterable[Header]) -> str:
    """Trained models, a line each."""
    rows = [("model", "group", "sites", "action", "beta", "ESS", "CPU minutes")]
    for name, config, facts in headers:
        sites = "x".join(map(str, config.lattice.sites))
        cost = f"{facts.training_cpu_minutes:.3g}"
        rows.append(
            (name, config.lattice.group, sites, config.action.name, f"{config.action.beta:g}", _ess(facts), cost)
        )
    return columns(rows)


def _ess(facts: Facts) -> str:
    return "-" if facts.ess is None or facts.ess_error is None else bracketed(facts.ess, facts.ess_error)


def bracketed(value: float, error: float) -> str:
    """A value with its error in brackets.

    Example:
        >>> bracketed(0.59781, 0.00031)
        '0.5978(3)'
    """
    return str(Estimate(value, error, tau_int=0.5, tau_int_error=0.0, window=0, n=1))


def _observable(config: Config, name: str, measured: Estimate) -> dict[str, Any]:
    group = from_name(config.lattice.group)
    exact = exact_value(name, group, config.action.beta, config.lattice.sites, config.action.name)
    # A series that never moves has no error, hence no pull.
    pull = None if exact is None or measured.error == 0 else (measured.value - exact) / measured.error
    return {
        "value": measured.value,
        "error": measured.error,
        "tau_int": measured.tau_int,
        "tau_int_error": measured.tau_int_error,
        "exact": exact,
        "pull": pull,
        "reliable": measured.reliable,
    }
