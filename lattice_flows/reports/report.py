"""The report of an ensemble, a dict for report.json and a table for people; and trained models in words."""

import math
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
from lattice_flows.reports.tempering import tempering_entries, tempering_table, tempering_warnings
from lattice_flows.reports.tuning import tuning_of, tuning_warnings
from lattice_flows.reports.words import (
    bracketed,
    couplings,
    field,
    half_trained,
    label,
    number,
    sampler_in_words,
    system,
)
from lattice_flows.statistics import (
    Estimate,
    Moves,
    estimate,
    estimate_ess,
    longest_rejection_run,
    pareto_tail,
    r_hat,
)

Report = dict[str, Any]

R_HAT = 1.05
"""Chains with a larger R-hat disagree."""


def make_report(config: Config, chains: ChainFile, series: Mapping[str, np.ndarray], doubt: str = "") -> Report:
    """Return estimates beside the exact values, with None where there is none.

    Args:
        series: observables `(chains, n)` along the chains, by name.
        doubt: the reason why no error can be relied on, if there is one.
    """
    acceptance, moves = chains.series("acceptance"), moves_of(chains)
    report = {
        "sampler": list(config.sampling.updates),
        "n": chains.n_updates // chains.every * chains.chains,
        "chains": chains.chains,
        "updates": chains.n_updates,
        "every": chains.every,
        "acceptance": float(acceptance.mean()),
        "distinct": moves.distinct,
        "longest_rejection_run": longest_rejection_run(acceptance.T > 0),
        "tuning": tuning_of(config, chains),
        "half_trained": _half_trained(chains),
        **dict.fromkeys(("ess", "ess_error", "ess_reason", "pareto_k", "pareto_k_error", "pareto_warning")),
    }
    if chains.proposals:
        weights = log_weights(chains)
        tail, share = pareto_tail(weights), estimate_ess(weights)
        error = None if math.isnan(share.error) else share.error
        report |= {"ess": share.value, "ess_error": error, "ess_reason": share.reason}
        report |= {"pareto_k": tail.k, "pareto_k_error": tail.error, "pareto_warning": tail.warning}
        if not doubt and config.sampling.independent and not tail.trusted:
            doubt = f"weights: Pareto k = {tail.k:.2f}"
    _, action = build_action(config, str(chains.path))
    measured = {name: estimate(values, moves, chains.every) for name, values in series.items()}
    entries = {name: observable_entry(action, name, own, doubt) for name, own in measured.items()}
    for name, entry in entries.items():
        entry["r_hat"] = r_hat(series[name]) if chains.chains > 1 else None
    return report | {"tempering": tempering_entries(config, chains), "observables": entries}


def moves_of(chains: ChainFile) -> Moves:
    """Return the moves of the stored configurations."""
    counts = (chains.rows(chain)[1] for chain in range(chains.chains))
    return Moves([own[own > 0] for own in counts])  # thinned chains skip some


def log_weights(chains: ChainFile) -> Tensor:
    """Return the log-weights `(n,)` of all proposals under the target, log w - S; they are independent."""
    log_w, action = (chains.series(f"proposals/{name}") for name in ("log_w", "action"))
    return torch.from_numpy(log_w - action).flatten()


def table(config: Config, report: Report) -> str:
    """Write the report as text, with errors in brackets: 0.5978(3)."""
    several, every = report["chains"] > 1, report["every"]
    forms = {"exact": ".7g", "pull": "+.2f", "n_eff": ".0f", "r_hat": ".3f"}
    rows = [["observable", "value", "exact", "pull", "tau_int", "n_eff", *(["R-hat"] if several else [])]]
    for name, entry in report["observables"].items():
        value, tau = bracketed(entry["value"], entry["error"]), tau_in_words(entry)
        exact, pull, n_eff, apart = (number(entry[key], form) for key, form in forms.items())
        rows.append([label(name), value, exact, pull, tau, n_eff, *([apart] if several else [])])
    facts = []
    if report["ess"] is not None:
        trusted = "reweighted means" if report["ess_reason"] else "the weights"  # which an ESS asks more of
        tail = f"{number(report['pareto_k'], 'z.2f')}: " + (report["pareto_warning"] or f"{trusted} can be trusted")
        share = bracketed(report["ess"], report["ess_error"])
        facts += [("ESS", ", ".join(filter(None, (share, report["ess_reason"])))), ("Pareto k", tail)]
    if report["acceptance"] != 1:
        run = str(report["longest_rejection_run"])
        facts += [("acceptance", f"{report['acceptance']:.4f}"), ("longest rejection run", run)]
    if report["distinct"] != report["n"]:
        facts.append(("distinct", f"{report['distinct']} of {report['n']} configurations"))
    of_chains = f" of {report['chains']} chains" if several else ""
    lines = [
        f"{system(config)}: {report['n']} configurations{of_chains} by {sampler_in_words(config)}",
        "",
        columns(rows, right=True),
        *([columns(facts)] if facts else []),
        *([tempering_table(report["tempering"])] if report["tempering"] else []),
        f"pull = (value - exact) / error; tau_int in updates, {every / 2:g} where they are independent; "
        f"n_eff = {'n' if every == 1 else f'{every} n'} / (2 tau_int)",
        *_warnings(report),
        *tuning_warnings(report["tuning"]),
        *tempering_warnings(report["tempering"]),
    ]
    return "\n".join(lines) + "\n"


def tau_in_words(entry: Mapping[str, Any]) -> str:
    """Write tau_int of an observable of a report; where there is none, the kind of the reason."""
    if entry["tau_int"] is None:
        return str(entry["reason"]).partition(":")[0]
    return bracketed(entry["tau_int"], entry["tau_int_error"])


REMEDIES = {
    "stuck": "mix other updates with these (sampling.updates), such as heat bath; take a smaller lattice; or anneal",
    "frozen": "take updates that move it, such as a flow, or a smaller beta",
    "short": "run longer",
    "drift": "the flow hardly ever proposes some configurations: mix local updates with it (sampling.updates), such as "
    "heat bath, or train it further",
    "weights": "mix other updates with the flow (sampling.updates), such as heat bath, or train it further",
}


def _warnings(report: Report) -> list[str]:
    half = [f"{report['half_trained']}: train it to the end"] if report["half_trained"] else []
    named: dict[str, list[str]] = {}
    for name, entry in report["observables"].items():
        if entry["reason"]:
            named.setdefault(entry["reason"], []).append(label(name))
    lines = [f"not reliable, {reason}: {', '.join(names)}" for reason, names in named.items()]
    kinds = dict.fromkeys(reason.partition(":")[0] for reason in named)
    lines += [f"where {kind}: {REMEDIES[kind]}" for kind in kinds]
    apart = [label(name) for name, entry in report["observables"].items() if (entry["r_hat"] or 1) > R_HAT]
    if apart:
        lines.append(f"the chains disagree (R-hat > {R_HAT}) in {', '.join(apart)}: run them longer")
    return half + lines


def _half_trained(chains: ChainFile) -> str | None:
    """Say that the flow of the chains was not trained to the end, if it was not."""
    if "planned" not in chains.attributes:
        return None
    return half_trained(chains.attributes["step"], chains.attributes["planned"])


def in_words(name: str, facts: Facts) -> str:
    """Describe a trained model in one line.

    Example:
        >>> in_words("u1", Facts(version="0.1.0", step=9, training_cpu_minutes=2.0, ess=0.91, ess_error=0.02))
        'u1: ESS 0.91(2), 9 steps in 2 CPU minutes'
    """
    steps = f"{facts.step:,}" if facts.planned is None else f"{facts.step:,} of {facts.planned:,}"
    return f"{name}: ESS {_ess(facts)}, {steps} steps in {facts.training_cpu_minutes:.3g} CPU minutes"


def models_table(headers: Iterable[Header]) -> str:
    """Write a line for each trained model."""
    rows = [("model", "field", "sites", "action", "couplings", "ESS", "CPU minutes")]
    for name, config, facts in headers:
        space = build_space(config)
        theory = (field(space), str(space.lattice), config.action.name, couplings(config))
        rows.append((name, *theory, _ess(facts), f"{facts.training_cpu_minutes:.3g}"))
    return columns(rows)


def _ess(facts: Facts) -> str:
    if facts.ess is None:
        return "-"
    # without an error, the true one is mostly smaller
    return f"at most {facts.ess:.2g}" if facts.ess_error is None else bracketed(facts.ess, facts.ess_error)


def observable_entry(action: Action, name: str, measured: Estimate, doubt: str = "") -> dict[str, Any]:
    """Return the numbers of an observable in report.json, but for R-hat; `doubt` is a reason to rely on no error."""
    exact, reason = exact_value(name, action), measured.reason or doubt
    # stuck and frozen series have neither error nor pull
    known = not math.isnan(measured.error)
    return {
        "value": measured.value,
        "error": measured.error if known else None,
        "tau_int": measured.tau_int if known else None,
        "tau_int_error": measured.tau_int_error if known else None,
        "n_eff": measured.n_eff if known else None,
        "exact": exact,
        "pull": (measured.value - exact) / measured.error if known and exact is not None else None,
        "reliable": not reason,
        "reason": reason,
        "frozen": list(measured.frozen),
    }
