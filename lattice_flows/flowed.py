"""The gradient flow of an ensemble: action densities and topological charge along it, the scales t0 and w0."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lattice_flows.columns import columns
from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import from_name
from lattice_flows.io import ChainFile
from lattice_flows.measurement import flow_history, flow_observables, jackknife, t0, w0
from lattice_flows.observe import observe
from lattice_flows.report import bracketed

Flowed = dict[str, NDArray[np.float64]]
"""Observables along the flow by name, `(chains, n, n_times)`."""
Averages = dict[str, Any]
Scale = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
SCALES: dict[str, Scale] = {"t0": t0, "w0": w0}

INTERVALS = 40
STEP = 0.02
"""The largest step of the integration: its error is small against those of an ensemble."""
_ROWS = 10


def flow_times(time: float) -> NDArray[np.float64]:
    """The flow times `(n_times,)`, from 0 to `time`, at which observables are measured.

    Example:
        >>> flow_times(2.0)[:3]
        array([0.  , 0.05, 0.1 ])
    """
    return np.linspace(0, time, INTERVALS + 1)


def flow_ensemble(chains: ChainFile, config: Config, time: float, world: World = SERIAL) -> Flowed:
    """The `flow_observables` of each configuration along the gradient flow. The ranks of a world share the work.

    Raises:
        InvalidInput: a time that is not finite and positive.
    """
    group, sites = from_name(config.lattice.group), config.lattice.sites
    observables = flow_observables(group, sites)
    measure = flow_history(group, observables, flow_times(time).tolist(), STEP, dim=len(sites))

    def stacked(links: Tensor) -> Tensor:
        return torch.stack(list(measure(links).values()), dim=-1)

    series = observe(chains, {"flow": stacked}, world)["flow"]
    return dict(zip(observables, np.moveaxis(series, -1, 0), strict=True))


def flow_averages(flowed: Flowed, time: float, dim: int) -> Averages:
    """Averages along the flow, for report.json: of each observable, and of Q^2, a `value` and an `error` `(n_times,)`.

    In four dimensions also `t0` and `w0`, from the clover's action density; where the flow is too short for one,
    `missing` says so.
    """
    if "topological_charge" in flowed:
        flowed = flowed | {"topological_charge_squared": np.square(flowed["topological_charge"])}
    derived = {name: jackknife(np.asarray, list(series)) for name, series in flowed.items()}
    times = flow_times(time)
    averages: Averages = {
        "time": time,
        "step": STEP,
        "times": times.tolist(),
        "reliable": all(own.reliable for own in derived.values()),
        **{name: {"value": own.value.tolist(), "error": own.error.tolist()} for name, own in derived.items()},
    }
    if dim == 4:
        averages |= {name: _scale(scale, times, flowed["action_density"]) for name, scale in SCALES.items()}
    return averages


def _scale(scale: Scale, times: NDArray[np.float64], density: NDArray[np.float64]) -> dict[str, Any]:
    try:
        found = jackknife(lambda mean: scale(times, mean), list(density))
    except InvalidInput as error:
        return {"value": math.nan, "error": math.nan, "missing": str(error)}
    return {"value": found.value.item(), "error": found.error.item()}


def flow_table(averages: Averages) -> str:
    """The averages as text, a row for every few flow times, and the scales."""
    times = np.array(averages["times"])
    titles = {
        "action_density": ("t^2 E, clover", times**2),
        "plaquette_density": ("t^2 E, plaquette", times**2),
        "topological_charge": ("Q", np.ones_like(times)),
        "topological_charge_squared": ("Q^2", np.ones_like(times)),
    }
    shown = {name: title for name, title in titles.items() if name in averages}
    rows = [["flow time t", *(title for title, _ in shown.values())]]
    for i in range(INTERVALS // _ROWS, INTERVALS + 1, INTERVALS // _ROWS):
        numbers = (
            (averages[name]["value"][i], averages[name]["error"][i], factor[i]) for name, (_, factor) in shown.items()
        )
        rows.append([f"{times[i]:g}", *(bracketed(factor * value, factor * error) for value, error, factor in numbers)])
    lines = [f"Gradient flow, in steps of at most {averages['step']:g}\n{columns(rows, right=True)}"]
    for name in SCALES:
        if name in averages:
            found = averages[name]
            words = f": {found['missing']}" if "missing" in found else f" = {bracketed(found['value'], found['error'])}"
            lines.append(f"{name}{words}\n")
    if not averages["reliable"]:
        lines.append("the chains are too short for the errors of the flow: do not trust them\n")
    return "".join(lines)
