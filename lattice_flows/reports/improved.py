"""Improved estimates of an ensemble: control variates from the action's force, and the test that they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, read_report
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.schwinger_dyson import schwinger_dyson
from lattice_flows.operators import next_to_leading
from lattice_flows.planar.exact import exact_value
from lattice_flows.reports.columns import columns
from lattice_flows.reports.observe import Session, links_of, observe
from lattice_flows.reports.words import bracketed, couplings, label, number
from lattice_flows.statistics import Moves, estimate, improved, pulls_of

Coefficients = Mapping[str, NDArray[np.float64]]


def measure_zeros(chains: ChainFile, config: Config, action: Action, session: Session) -> NDArray[np.float64]:
    """Measure Lap W - dS.dW `(chains, n, n_operators)` for the operators of the next-to-leading order.

    Raises:
        InvalidInput: no links, a group without the operators, or a lattice that is too short for them.
        Interrupted: as `observe`.
    """
    links_of(config, "control variates are those of")
    name = f"schwinger_dyson_next_to_leading of {config.action.name}, {couplings(config)}"
    return observe(chains, {name: schwinger_dyson(action)}, session)[name]


def improved_averages(
    series: Mapping[str, NDArray[np.float64]],
    zeros: NDArray[np.float64],
    action: Action,
    moves: Moves | None = None,
    every: int = 1,
    carried: Coefficients | None = None,
) -> dict[str, Any]:
    """Improved averages of observables `(chains, n)` for report.json, and the zeros as a test of the ensemble.

    Args:
        moves, every: as for `estimate`.
        carried: coefficients of `read_coefficients`, in place of fits; observables without any are left out.

    Raises:
        InvalidInput: as `improved`.
    """
    entries, volume = {}, action.space.volume
    for name, own in series.items():
        if carried is not None and name not in carried:
            continue
        given = None if carried is None else carried[name] / volume
        found = improved(list(own), list(zeros), moves, every, given)
        plain, exact = estimate(own, moves, every), exact_value(name, action)
        reliable = found.estimate.reliable
        entries[name] = {
            "value": found.estimate.value, "error": found.estimate.error if reliable else None, "gain": found.gain,
            "n_coefficients": zeros.shape[-1], "plain": plain.value, "plain_error": plain.error if plain.reliable else
            None, "exact": exact, "reason": found.estimate.reason,
            "coefficients": (volume * found.coefficients).tolist(),
        }  # fmt: skip
    names = operators_of(action)["operators"]
    pulls, worst, allowed = pulls_of({name: estimate(zeros[..., i], moves, every) for i, name in enumerate(names)})
    return {
        "improved": entries,
        "control_variates": operators_of(action),
        "schwinger_dyson": {
            "pulls": pulls, "worst": worst, "worst_pull": pulls[worst] if worst else None,
            "allowed": allowed,
        },
    }  # fmt: skip


def operators_of(action: Action) -> dict[str, Any]:
    """The operators that coefficients in report.json belong to, in their order."""
    space = gauge_field(action.space)
    names = [own.name for own in next_to_leading(space.group, space.dim)]
    return {"group": space.group.name, "dimensions": space.dim, "operators": names}


def read_coefficients(path: Path, action: Action) -> Coefficients:
    """Read the coefficients in a report.json, each times the number of sites, by observable.

    They serve any volume: averages over sites have coefficients that fall as one over it. At another coupling they gain
    less, and have no bias.

    Raises:
        InvalidInput: the report is damaged, has no coefficients, or those of another group or dimension.
    """
    report, own = read_report(path), operators_of(action)
    if "control_variates" not in report:
        raise InvalidInput(f"a report with coefficients is expected: measure --improved writes one ({path})")
    if (found := report["control_variates"]) != own:
        one, other = (f"{which['group']} in {which['dimensions']} dimensions" for which in (own, found))
        raise InvalidInput(f"coefficients for {one} are expected, got those for {other} ({path})")
    return {name: np.array(entry["coefficients"]) for name, entry in report["improved"].items()}


def improved_table(report: Mapping[str, Any]) -> str:
    """Write the improved averages as text, a row for each observable, and what the zeros say."""
    rows = [["observable", "plain", "improved", "exact", "gain"]]
    for name, entry in report["improved"].items():
        values = bracketed(entry["plain"], entry["plain_error"]), bracketed(entry["value"], entry["error"])
        rows.append([label(name), *values, number(entry["exact"], ".7g"), number(entry["gain"], ".3g")])
    zeros = report["schwinger_dyson"]
    text = "control variates; gain = the variance without them over that with them\n" + columns(rows, right=True)
    if zeros["worst"] is None:
        return text
    text += f"zeros of Schwinger and Dyson: the worst of {len(zeros['pulls'])} is {zeros['worst_pull']:+.1f} errors off"
    if abs(zeros["worst_pull"]) > zeros["allowed"]:
        text += (
            f" ({zeros['worst']}): this is no ensemble of the action in equilibrium, so trust no mean of it; "
            "check beta, the action, and the updates before the first measurement"
        )
    return text + "\n"
