"""Connected correlators of time slices of an ensemble, improved by control variates on both sides."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.actions import Action
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables import (
    Observable,
    Smearing,
    slice_contact,
    slice_plaquettes,
    slice_zeros,
    smeared_slice_zeros,
)
from lattice_flows.reports.columns import columns
from lattice_flows.reports.observe import smeared
from lattice_flows.reports.words import bracketed, number
from lattice_flows.statistics import Moves, connected, effective_masses, estimate, improved_slices, jackknife

Array = NDArray[np.float64]

EVERY_CONTACT = 20
"""The contact term is measured on one configuration of so many."""


def slice_observables(action: Action) -> dict[str, Observable]:
    """The observables that correlators need: none in two dimensions, which have no plaquettes in a slice.

    Where an action is not homogeneous, there are none, either.
    """
    if not isinstance(action.space, GaugeField) or action.space.dim < 3 or not action.homogeneous:
        return {}
    return {"slices": slice_plaquettes(action.space), "zeros": slice_zeros(action)}


def smeared_observables(action: Action, smear: Smearing) -> dict[str, Observable]:
    """The same for links after stout smearing in space."""
    space, (rho,) = gauge_field(action.space), smear.weights
    plaquettes = smeared("slices", slice_plaquettes(space), smear, space)
    zeros = smeared_slice_zeros(action, rho, (0, smear.steps, 2 * smear.steps))
    return dict([plaquettes, (f"zeros after {smear}", zeros)])


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
    products, n = connected(better.series), slices.shape[1]
    step = max(1, min(EVERY_CONTACT, n // 10))
    both = contact(slice_contact(action, torch.from_numpy(better.coefficients)), step)
    second = step * np.arange(1, both.shape[1] + 1) > n // 2  # and their coefficients
    term = np.where(second, both[..., 1], both[..., 0])
    shift, variance = np.zeros(products[0].shape[1]), np.zeros(products[0].shape[1])
    shift[1], variance[1] = term.mean(), term.var() * n / both.shape[1]
    return _entries(connected(list(slices)), products, shift, variance, zeros.shape[-1], moves, every)


def smeared_averages(slices: Array, zeros: Array, moves: Moves | None = None, every: int = 1) -> list[dict[str, Any]]:
    """The same of slices of smeared links and their zeros. At t = 1 one side alone is improved: no contact is left."""
    better = improved_slices(list(slices), list(zeros)).series
    products = connected(better)
    for own, plain, new in zip(products, list(slices), better, strict=True):
        one, other = plain - slices.mean(), new - np.mean(better)
        own[:, 1] = (one * (np.roll(other, 1, 1) + np.roll(other, -1, 1))).mean(1) / 2
    none = np.zeros(products[0].shape[1])
    return _entries(connected(list(slices)), products, none, none, zeros.shape[-1], moves, every)


def _entries(
    plain: list[Array],
    products: list[Array],
    shift: Array,
    variance: Array,
    n_coefficients: int,
    moves: Moves | None,
    every: int,
) -> list[dict[str, Any]]:
    """For report.json, from `connected` products, a shift of each distance, and the variance that it adds to each."""
    noise = np.sqrt(variance / sum(map(len, products)))

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
            "gain": float(variances[0] / (variances[1] + variance[t])), "n_coefficients": n_coefficients,
            "plain": before.value, "plain_error": before.error if before.reliable else None, "contact": shift[t],
            "effective_mass": mass, "effective_mass_error": math.hypot(error, noise[t] / value), "reason": after.reason,
        })  # fmt: skip
    return entries


def correlator_table(entries: list[Mapping[str, Any]]) -> str:
    """Write the correlators as text, a row for each distance in time."""
    return "connected correlator of the space-like plaquettes of time slices\n" + _rows(entries)


def smeared_table(found: Mapping[str, Any]) -> str:
    """The same of smeared links."""
    return f"the same after {found['smear']}\n" + _rows(found["distances"])


def _rows(entries: list[Mapping[str, Any]]) -> str:
    rows = [["t", "plain", "improved", "gain", "effective mass"]]
    for entry in entries:
        values = bracketed(entry["plain"], entry["plain_error"]), bracketed(entry["value"], entry["error"])
        known = math.isfinite(entry["effective_mass"])
        mass = bracketed(entry["effective_mass"], entry["effective_mass_error"]) if known else "-"
        rows.append([str(entry["t"]), *values, number(entry["gain"], ".3g"), mass])
    return columns(rows, right=True)
