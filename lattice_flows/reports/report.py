"""The report of an ensemble, a dict for report.json and a table for people; and trained models in words."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.io import ChainFile
from lattice_flows.models import Facts, Header, build_action, build_space
from lattice_flows.planar.exact import exact_value
from lattice_flows.reports.columns import columns
from lattice_flows.reports.words import bracketed, couplings, field, label, number, sampler_in_words, system
from lattice_flows.statistics import ess, ess_error, estimate, longest_rejection_run, pareto_tail, r_hat

Report = dict[str, Any]

R_HAT = 1.05
"""Chains with a larger R-hat disagree."""


def make_report(config: Config, chains: ChainFile, series: Mapping[str, np.ndarray]) -> Report:
    """Return estimates beside the exact values, with None where there is none.

    `series` are observables `(chains, n)` along the chains, by name.
    """
    acceptance = chains.series("acceptance")
    report = {
        "sampler": list(config.sampling.updates),
        "n": chains.n_updates // chains.every * chains.chains,
        "chains": chains.chains,
        "updates": chains.n_updates,
        "every": chains.every,
        "acceptance": float(acceptance.mean()),
        "longest_rejection_run": longest_rejection_run(acceptance.T > 0),
        **dict.fromkeys(("ess", "ess_error", "pareto_k", "pareto_k_error", "pareto_warning")),
    }
    if chains.proposals:
        weights = log_weights(chains)
        tail = pareto_tail(weights)
        report |= {"ess": ess(weights).item(), "ess_error": ess_error(weights).item()}
        report |= {"pareto_k": tail.k, "pareto_k_error": tail.error, "pareto_warning": tail.warning}
    _, action = build_action(config, str(chains.path))
    return report | {"observables": {name: _observable(action, name, values) for name, values in series.items()}}


def log_weights(chains: ChainFile) -> Tensor:
    """Return the log-weights `(n,)` of all proposals under the target, log w - S; they are independent."""
    log_w, action = (chains.series(f"proposals/{name}") for name in ("log_w", "action"))
    return torch.from_numpy(log_w - action).flatten()


def table(config: Config, report: Report) -> str:
    """Write the report as text, with errors in brackets: 0.5978(3)."""
    several = report["chains"] > 1
    forms = {"exact": ".7g", "pull": "+.2f", "n_eff": ".0f", "r_hat": ".3f"}
    rows = [["observable", "value", "exact", "pull", "tau_int", "n_eff", *(["R-hat"] if several else [])]]
    for name, entry in report["observables"].items():
        value, tau = bracketed(entry["value"], entry["error"]), tau_in_words(entry)
        exact, pull, n_eff, apart = (number(entry[key], form) for key, form in forms.items())
        rows.append([label(name), value, exact, pull, tau, n_eff, *([apart] if several else [])])
    facts = []
    if report["ess"] is not None:
        tail = f"{number(report['pareto_k'], 'z.2f')}: " + (report["pareto_warning"] or "the weights can be trusted")
        facts += [("ESS", bracketed(report["ess"], report["ess_error"])), ("Pareto k", tail)]
    if report["acceptance"] != 1:
        run = str(report["longest_rejection_run"])
        facts += [("acceptance", f"{report['acceptance']:.4f}"), ("longest rejection run", run)]
    step = "updates" if report["every"] == 1 else f"configurations, {report['every']} updates apart"
    of_chains = f" of {report['chains']} chains" if several else ""
    lines = [
        f"{system(config)}: {report['n']} configurations{of_chains} by {sampler_in_words(config)}",
        "",
        columns(rows, right=True),
        *([columns(facts)] if facts else []),
        f"pull = (value - exact) / error; tau_int in {step}, 0.5 where they are independent; n_eff = n / (2 tau_int)",
        *_warnings(report),
    ]
    return "\n".join(lines) + "\n"


def tau_in_words(entry: Mapping[str, Any]) -> str:
    """Write tau_int of an observable of a report."""
    return "frozen" if entry["frozen"] else bracketed(entry["tau_int"], entry["tau_int_error"])


def _warnings(report: Report) -> list[str]:
    named = {label(name): entry for name, entry in report["observables"].items()}
    frozen = [name for name, entry in named.items() if entry["frozen"]]
    short = [name for name, entry in named.items() if not entry["reliable"] and not entry["frozen"]]
    apart = [name for name, entry in named.items() if (entry["r_hat"] or 1) > R_HAT]
    warnings = {
        "frozen, no chain ever moved: {}; there is no error for that": frozen,
        "the chain is too short for {}: do not trust the errors": short,
        f"the chains disagree (R-hat > {R_HAT}) in {{}}: run them longer": apart,
    }
    return [text.format(", ".join(names)) for text, names in warnings.items() if names]


def in_words(name: str, facts: Facts) -> str:
    """Describe a trained model in one line.

    Example:
        >>> in_words("u1", Facts(version="0.1.0", step=9, training_cpu_minutes=2.0, ess=0.91, ess_error=0.02))
        'u1: ESS 0.91(2), 9 steps in 2 CPU minutes'
    """
    return f"{name}: ESS {_ess(facts)}, {facts.step:,} steps in {facts.training_cpu_minutes:.3g} CPU minutes"


def models_table(headers: Iterable[Header]) -> str:
    """Write a line for each trained model."""
    rows = [("model", "field", "sites", "action", "couplings", "ESS", "CPU minutes")]
    for name, config, facts in headers:
        space = build_space(config)
        theory = (field(space), str(space.lattice), config.action.name, couplings(config))
        rows.append((name, *theory, _ess(facts), f"{facts.training_cpu_minutes:.3g}"))
    return columns(rows)


def _ess(facts: Facts) -> str:
    return "-" if facts.ess is None or facts.ess_error is None else bracketed(facts.ess, facts.ess_error)


def _observable(action: Action, name: str, series: np.ndarray) -> dict[str, Any]:
    exact = exact_value(name, action)
    measured = estimate(series)
    # a series that never moves has no error, hence no pull
    pull = None if exact is None or measured.error == 0 else (measured.value - exact) / measured.error
    return {
        "value": measured.value,
        "error": measured.error,
        "tau_int": None if measured.frozen else measured.tau_int,
        "tau_int_error": None if measured.frozen else measured.tau_int_error,
        "n_eff": None if measured.frozen else measured.n / (2 * measured.tau_int),
        "exact": exact,
        "pull": pull,
        "reliable": measured.reliable,
        "frozen": measured.frozen,
        "r_hat": r_hat(series) if len(series) > 1 else None,
    }
