"""The Wilson flow of an ensemble: action densities and topological charge along it, the scales t0 and w0."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile
from lattice_flows.observables import flow_history, flow_observables
from lattice_flows.reports.columns import columns
from lattice_flows.reports.observe import Session, links_of, observe
from lattice_flows.reports.words import bracketed
from lattice_flows.statistics import jackknife, t0, w0

Flowed = dict[str, NDArray[np.float64]]
"""Observables along the Wilson flow by name, `(chains, n, n_times)`."""
SCALES = {"t0": t0, "w0": w0}

INTERVALS = 40
TOLERANCE = 1e-4
"""That of every step of the integration; the error that is left is small against those of an ensemble."""
_ROWS = 10


def flow_times(time: float) -> NDArray[np.float64]:
    """Return the flow times `(n_times,)` of the measurements, from 0 to `time`."""
    return np.linspace(0, time, INTERVALS + 1)


def flow_ensemble(chains: ChainFile, config: Config, time: float, session: Session | None = None) -> Flowed:
    """Measure the `flow_observables` of each configuration along the Wilson flow.

    Raises:
        InvalidInput: another field than links, or a time that is not finite and positive.
        Interrupted: as `observe`.
    """
    space = links_of(config, "the densities along the Wilson flow are measured on")
    observables = flow_observables(space)
    measure = flow_history(space, observables, flow_times(time).tolist(), tolerance=TOLERANCE)

    def stacked(links: Tensor) -> Tensor:
        return torch.stack(list(measure(links).values()), dim=-1)

    name = f"Wilson flow to {time!r}, {INTERVALS} times, with tolerance {TOLERANCE!r}"
    series = observe(chains, {name: stacked}, session)[name]
    return dict(zip(observables, np.moveaxis(series, -1, 0), strict=True))


def flow_averages(flowed: Flowed, time: float, dim: int) -> dict[str, Any]:
    """Average along the Wilson flow, for report.json.

    Each observable, and Q^2, has a `value` and an `error` `(n_times,)`. In four dimensions there are also `t0` and
    `w0`, from the clover's action density, with `missing` where the flow is too short for one.
    """
    if "topological_charge" in flowed:
        flowed = flowed | {"topological_charge_squared": np.square(flowed["topological_charge"])}
    derived = {name: jackknife(np.asarray, list(series)) for name, series in flowed.items()}
    times = flow_times(time)
    averages: dict[str, Any] = {
        "time": time,
        "tolerance": TOLERANCE,
        "times": times.tolist(),
        "reliable": all(own.reliable for own in derived.values()),
        "reason": next((own.reason for own in derived.values() if own.reason), ""),
        **{name: {"value": own.value.tolist(), "error": own.error.tolist()} for name, own in derived.items()},
    }
    if dim == 4:
        averages |= {name: _scale(scale, times, flowed["action_density"]) for name, scale in SCALES.items()}
    return averages


def _scale(scale: Callable[..., float], times: NDArray[np.float64], density: NDArray[np.float64]) -> dict[str, Any]:
    try:
        found = jackknife(lambda mean: scale(times, mean), list(density))
    except InvalidInput as error:
        return {"value": math.nan, "error": math.nan, "missing": str(error)}
    return {"value": found.value.item(), "error": found.error.item()}


def flow_table(averages: dict[str, Any]) -> str:
    """Write the averages as text, a row for every few flow times, and the scales."""
    times = np.array(averages["times"])
    # with the power of t that goes with each
    titles = {
        "action_density": ("t^2 E, clover", 2),
        "plaquette_density": ("t^2 E, plaquette", 2),
        "topological_charge": ("Q", 0),
        "topological_charge_squared": ("Q^2", 0),
    }
    shown = {name: title for name, title in titles.items() if name in averages}
    rows = [["flow time t", *(title for title, _ in shown.values())]]
    for i in range(INTERVALS // _ROWS, INTERVALS + 1, INTERVALS // _ROWS):
        scaled = [(averages[name], times[i] ** power) for name, (_, power) in shown.items()]
        cells = (bracketed(factor * own["value"][i], factor * own["error"][i]) for own, factor in scaled)
        rows.append([f"{times[i]:g}", *cells])
    lines = [f"Wilson flow, each step to within {averages['tolerance']:g}\n{columns(rows, right=True)}"]
    for name in SCALES:
        if name in averages:
            found = averages[name]
            words = f": {found['missing']}" if "missing" in found else f" = {bracketed(found['value'], found['error'])}"
            lines.append(f"{name}{words}\n")
    if averages["reason"]:
        lines.append(f"the errors of the Wilson flow are not reliable, {averages['reason']}\n")
    return "".join(lines)
