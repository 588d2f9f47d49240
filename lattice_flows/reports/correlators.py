"""Connected correlators of time slices of an ensemble, improved by control variates on both sides."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.lattice import GaugeField
from lattice_flows.observables import Observable, slice_contact, slice_plaquettes, slice_zeros
from lattice_flows.reports.columns import columns
from lattice_flows.reports.words import bracketed, number
from lattice_flows.statistics import Moves, connected, effective_masses, estimate, improved_slices, jackknife

Array = NDArray[np.float64]

EVERY_CONTACT = 20
"""The contact term is measured on one configuration of so many."""


def slice_observables(action: Action) -> dict[str, Observable]:
    """The observables that correlators need: none in two dimensions, which have no plaquettes in a slice."""
    if not isinstance(action.space, GaugeField) or action.space.dim < 3:
        return {}
    return {"slices": slice_plaquettes(action.space), "zeros": slice_zeros(action)}


def correlator_averages(
    slices: Array,
    zeros: Array,
    contact: Callable[[Observable, int], Array],
    action: Action,
    moves: Moves | None = None,
    every: int = 1,
) -> list[dict[str, Any]]:
    """Connected correlators of space-like plaquettes at t = 1 ... T / 2, for report.json.

    Shapes: slices `(chains, n, T)`, zeros `(chains, n, T, n_variates)`.

    Args:
        contact: measures an observable on each k-th configuration: `(observable, k) -> (chains, n / k, ...)`.
        moves, every: as for `estimate`.

    Raises:
        InvalidInput: chains too short to fit.
    """
    better = improved_slices(list(slices), list(zeros))
    plain, products = connected(list(slices)), connected(better.series)
    n = slices.shape[1]
    step = max(1, min(EVERY_CONTACT, n // 10))
    both = contact(slice_contact(action, torch.from_numpy(better.coefficients)), step)
    second = step * np.arange(1, both.shape[1] + 1) > n // 2  # and their coefficients
    term = np.where(second, both[..., 1], both[..., 0])
    shift, noise = np.zeros(products[0].shape[1]), np.zeros(products[0].shape[1])
    shift[1], noise[1] = term.mean(), term.std() / math.sqrt(term.size)

    def derive(mean: Array) -> Array:
        return effective_masses((mean + shift)[1:])

    masses = jackknife(derive, products)
    entries = []
    for t in range(1, len(shift)):
        before, after = (estimate([own[:, t] for own in part], moves, every) for part in (plain, products))
        value = after.value + shift[t]
        variances = [np.concatenate([own[:, t] for own in part]).var() for part in (plain, products)]
        mass, error = (masses.value[t - 1], masses.error[t - 1]) if t < len(shift) - 1 else (math.nan, math.nan)
        entries.append({
            "t": t, "value": value, "error": math.hypot(after.error, noise[t]) if after.reliable else None,
            "gain": float(variances[0] / (variances[1] + term.size * noise[t] ** 2 * n / both.shape[1])),
            "n_coefficients": zeros.shape[-1], "plain": before.value,
            "plain_error": before.error if before.reliable else None, "contact": shift[t],
            "effective_mass": mass, "effective_mass_error": math.hypot(error, noise[t] / value), "reason": after.reason,
        })  # fmt: skip
    return entries


def correlator_table(entries: list[Mapping[str, Any]]) -> str:
    """Write the correlators as text, a row for each distance in time."""
    rows = [["t", "plain", "improved", "gain", "effective mass"]]
    for entry in entries:
        values = bracketed(entry["plain"], entry["plain_error"]), bracketed(entry["value"], entry["error"])
        known = math.isfinite(entry["effective_mass"])
        mass = bracketed(entry["effective_mass"], entry["effective_mass_error"]) if known else "-"
        rows.append([str(entry["t"]), *values, number(entry["gain"], ".3g"), mass])
    return "connected correlator of the space-like plaquettes of time slices\n" + columns(rows, right=True)
