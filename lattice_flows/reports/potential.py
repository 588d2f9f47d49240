"""Wilson loops of an ensemble: the static potential and Creutz ratios, with errors."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.io import ChainFile
from lattice_flows.observables import Smearing, wilson_loops
from lattice_flows.planar.exact import exact_value
from lattice_flows.reports.columns import columns
from lattice_flows.reports.observe import Session, links_of, observe, smeared
from lattice_flows.reports.words import bracketed, number
from lattice_flows.statistics import creutz_ratios, effective_potential, jackknife
from lattice_flows.statistics.resampling import Function

KINDS: dict[str, tuple[str, Function]] = {
    "wilson_loops": ("W(R, T)", np.asarray),
    "potential": ("V(R, T) = log W(R, T) / W(R, T + 1)", effective_potential),
    "creutz_ratios": ("Creutz ratios", creutz_ratios),
}


def measure_loops(
    chains: ChainFile, config: Config, r: int, t: int, smear: Smearing | None = None, session: Session | None = None
) -> NDArray[np.float64]:
    """Measure W(R, T) `(chains, n, r, t)` for R = 1 ... r and T = 1 ... t, T along the last direction.

    Args:
        smear: of the links whose loops are measured.

    Raises:
        InvalidInput: no links; sides < 1 (t < 2), or not shorter than the lattice; a smearing that does not fit.
        Interrupted: as `observe`.
    """
    space = links_of(config, "Wilson loops are measured on")
    name, measure = smeared(f"Wilson loops up to {r}x{t}", wilson_loops(space, r, t, time=-1), smear, space)
    return observe(chains, {name: measure}, session)[name]


def loops_averages(loops: NDArray[np.float64], action: Action, smear: Smearing | None = None) -> dict[str, Any]:
    """Average Wilson loops `(chains, n, r, t)`, and derive the potential and Creutz ratios, for report.json.

    The result holds `wilson_loops`, `potential` and `creutz_ratios`, each with `value`, `error` and `exact` `(r, t)`; T
    of the potential ends at t - 1. What has no exact value, as smeared loops, is nan. `reliable` and `reason` tell
    whether the errors can be relied on, as in `Estimate`.

    Raises:
        InvalidInput: chains too short for an error.
    """
    derived = {name: jackknife(function, list(loops)) for name, (_, function) in KINDS.items()}
    known = np.full(loops.shape[-2:], math.nan)
    for r, t in np.ndindex(known.shape if smear is None else (0, 0)):
        if (value := exact_value(f"wilson_loop_{r + 1}x{t + 1}", action)) is not None:
            known[r, t] = value
    exact = {name: function(known).tolist() for name, (_, function) in KINDS.items()}
    return {
        "r": loops.shape[-2],
        "t": loops.shape[-1],
        "smearing": None if smear is None else str(smear),
        "reliable": derived["wilson_loops"].reliable,
        "reason": derived["wilson_loops"].reason,
        **{
            name: {"value": own.value.tolist(), "error": own.error.tolist(), "exact": exact[name]}
            for name, own in derived.items()
        },
    }


def loops_table(loops: dict[str, Any]) -> str:
    """Write the loops as text, a row for each R and a column for each T, and below it exact values, where there are."""
    parts = [f"loops of links after {loops['smearing']}\n"] if loops["smearing"] else []
    for name, (title, _) in KINDS.items():
        value, error, exact = (loops[name][key] for key in ("value", "error", "exact"))
        rows = [["R", *(f"T = {t}" for t in range(1, len(value[0]) + 1))]]
        for r, own in enumerate(zip(value, error, exact, strict=True), start=1):
            rows.append([str(r), *map(bracketed, *own[:2])])
            if np.isfinite(own[2]).any():
                rows.append(["exact", *(number(one, ".5g") for one in own[2])])
        parts.append(f"{title}\n{columns(rows, right=True)}")
    if loops["reason"]:
        parts.append(f"the errors of the loops are not reliable, {loops['reason']}\n")
    return "\n".join(parts)
