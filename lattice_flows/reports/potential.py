"""Wilson loops of an ensemble: the static potential and Creutz ratios, with errors."""

from typing import Any

import numpy as np

from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.io import ChainFile
from lattice_flows.observables import wilson_loops
from lattice_flows.reports.columns import columns
from lattice_flows.reports.observe import links_of, observe
from lattice_flows.reports.words import bracketed
from lattice_flows.statistics import creutz_ratios, effective_potential, jackknife
from lattice_flows.statistics.resampling import Function

KINDS: dict[str, tuple[str, Function]] = {
    "wilson_loops": ("W(R, T)", np.asarray),
    "potential": ("V(R, T) = log W(R, T) / W(R, T + 1)", effective_potential),
    "creutz_ratios": ("Creutz ratios", creutz_ratios),
}


def measure_loops(chains: ChainFile, config: Config, r: int, t: int, world: World = SERIAL) -> dict[str, Any]:
    """Measure W(R, T) for R = 1 ... r and T = 1 ... t, T along the last direction, and derived quantities.

    The result holds `wilson_loops`, `potential` and `creutz_ratios`, each with `value` and `error` `(r, t)`; T of the
    potential ends at t - 1. `reliable` is false where the chains are too short for the errors.

    Raises:
        InvalidInput: no links; sides < 1 (t < 2), or not shorter than the lattice; chains too short for an error.
    """
    measure = wilson_loops(links_of(config, "Wilson loops are measured on"), r, t, time=-1)
    samples = list(observe(chains, {"loops": measure}, world)["loops"])
    derived = {name: jackknife(function, samples) for name, (_, function) in KINDS.items()}
    return {
        "r": r,
        "t": t,
        "reliable": derived["wilson_loops"].reliable,
        **{name: {"value": own.value.tolist(), "error": own.error.tolist()} for name, own in derived.items()},
    }


def loops_table(loops: dict[str, Any]) -> str:
    """Write the loops as text, a row for each R and a column for each T."""
    parts = []
    for name, (title, _) in KINDS.items():
        value, error = loops[name]["value"], loops[name]["error"]
        rows = [["R", *(f"T = {t}" for t in range(1, len(value[0]) + 1))]]
        rows += [[str(r), *map(bracketed, *own)] for r, own in enumerate(zip(value, error, strict=True), start=1)]
        parts.append(f"{title}\n{columns(rows, right=True)}")
    if not loops["reliable"]:
        parts.append("the chains are too short for the errors of the loops: do not trust them\n")
    return "\n".join(parts)
