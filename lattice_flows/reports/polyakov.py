"""Polyakov loops of an ensemble: complex averages in every direction, and their susceptibility."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.io import ChainFile
from lattice_flows.observables import Smearing, polyakov_loops
from lattice_flows.planar.exact import mean_polyakov_loop_squared
from lattice_flows.reports.columns import columns
from lattice_flows.reports.observe import Session, links_of, observe, smeared
from lattice_flows.reports.words import bracketed, number
from lattice_flows.statistics import jackknife, susceptibility

QUANTITIES = {"re": "Re L", "im": "Im L", "modulus": "|L|", "squared": "|L|^2", "susceptibility": "chi"}


def measure_polyakov(
    chains: ChainFile, config: Config, smear: Smearing | None = None, session: Session | None = None
) -> NDArray[np.complex128]:
    """Measure L `(chains, n, dim)`, the average of tr / N over the Polyakov loops along each direction.

    Args:
        smear: of the links whose loops are measured.

    Raises:
        InvalidInput: no links, or a smearing that does not fit.
        Interrupted: as `observe`.
    """
    space = links_of(config, "Polyakov loops are measured on")
    name, measure = smeared("Polyakov loops", polyakov_loops(space), smear, space)
    return observe(chains, {name: measure}, session)[name]


def polyakov_averages(loops: NDArray[np.complex128], action: Action, smear: Smearing | None = None) -> dict[str, Any]:
    """Average Polyakov loops for report.json: an entry for each of the `directions`.

    An entry has `re`, `im`, `modulus`, `squared` and the `susceptibility` V (<|L|^2> - <|L|>^2) of V loops, each with
    `value` and `error`. `squared` has the `exact` value of links that are not smeared where a formula is known.

    Raises:
        InvalidInput: chains too short for an error.
    """
    lattice, entries = action.space.lattice, []
    for mu, extent in enumerate(lattice.extents):
        own = loops[..., mu]
        samples = np.stack((own.real, own.imag, np.abs(own), np.abs(own) ** 2), -1)
        volume = lattice.volume // extent

        def derive(mean: NDArray[np.float64], volume: int = volume) -> NDArray[np.float64]:
            return np.append(mean, susceptibility(mean[2], mean[3], volume))

        found = jackknife(derive, list(samples))
        pairs = zip(QUANTITIES, found.value.tolist(), found.error.tolist(), strict=True)
        entry: dict[str, Any] = {name: {"value": value, "error": error} for name, value, error in pairs}
        entry["squared"]["exact"] = None if smear else mean_polyakov_loop_squared(action, mu)
        entries.append({"direction": mu, "extent": extent, "reliable": found.reliable, **entry})
    return {"smearing": None if smear is None else str(smear), "directions": entries}


def polyakov_table(polyakov: dict[str, Any]) -> str:
    """Write the averages as text, a row for each direction."""
    rows = [["direction", "extent", *QUANTITIES.values(), "exact |L|^2"]]
    for entry in polyakov["directions"]:
        cells = (bracketed(entry[name]["value"], entry[name]["error"]) for name in QUANTITIES)
        exact = number(entry["squared"]["exact"], ".7g")
        rows.append([str(entry["direction"]), str(entry["extent"]), *cells, exact])
    smearing = f" of links after {polyakov['smearing']}" if polyakov["smearing"] else ""
    text = f"Polyakov loops{smearing}, L the average of tr / N; chi = V (<|L|^2> - <|L|>^2) of V loops\n"
    text += columns(rows, right=True)
    if not all(entry["reliable"] for entry in polyakov["directions"]):
        text += "the chains are too short for the errors of the Polyakov loops: do not trust them\n"
    return text
