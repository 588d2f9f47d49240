"""Wilson loops of an ensemble: the static potential and Creutz ratios, with errors."""

from typing import Any

import numpy as np

from lattice_flows.columns import columns
from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.groups import from_name
from lattice_flows.io import ChainFile
from lattice_flows.measurement import Derived, creutz_ratios, effective_potential, jackknife, wilson_loops
from lattice_flows.measurement.resampling import Function
from lattice_flows.observe import observe
from lattice_flows.report import bracketed

Loops = dict[str, Any]


def measure_loops(chains: ChainFile, config: Config, r: int, t: int, world: World = SERIAL) -> Loops:
    """W(R, T) for R = 1 ... r and T = 1 ... t, T along the last direction, and what is derived from them.

    `wilson_loops`, `potential` V(R, T) and `creutz_ratios`, each with `value` and `error` `(r, t)`, but T to t - 1 for
    the potential; and whether the chains are long enough for the errors. The ranks of a world share the work.

    Raises:
        InvalidInput: sides < 1 (t < 2), or as long as the lattice or longer; or chains too short for an error.
    """
    group = from_name(config.lattice.group)
    measure = wilson_loops(group, r, t, time=-1, dim=len(config.lattice.sites))
    samples = list(observe(chains, {"loops": measure}, world)["loops"])
    kinds: dict[str, Function] = {
        "wilson_loops": np.asarray,
        "potential": effective_potential,
        "creutz_ratios": creutz_ratios,
    }
    derived: dict[str, Derived] = {name: jackknife(function, samples) for name, function in kinds.items()}
    return {
        "r": r,
        "t": t,
        "reliable": derived["wilson_loops"].reliable,
        **{name: {"value": own.value.tolist(), "error": own.error.tolist()} for name, own in derived.items()},
    }


def loops_table(loops: Loops) -> str:
    """The loops as text, a row for each R and a column for each T."""
    titles = {
        "wilson_loops": "W(R, T)",
        "potential": "V(R, T) = log W(R, T) / W(R, T + 1)",
        "creutz_ratios": "Creutz ratios",
    }
    parts = []
    for name, title in titles.items():
        value, error = loops[name]["value"], loops[name]["error"]
        rows = [["R", *(f"T = {t}" for t in range(1, len(value[0]) + 1))]]
        rows += [
            [str(r), *(bracketed(*pair) for pair in zip(value[r - 1], error[r - 1], strict=True))]
            for r in range(1, len(value) + 1)
        ]
        parts.append(f"{title}\n{columns(rows, right=True)}")
    if not loops["reliable"]:
        parts.append("the chains are too short for the errors of the loops: do not trust them\n")
    return "\n".join(parts)
