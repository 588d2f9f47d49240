"""Figures of a run as PNG: training, history, autocorrelation, histograms, potential, Wilson flow."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lattice_flows.io import files
from lattice_flows.reports.words import bracketed
from lattice_flows.statistics import Moves, autocorrelation, estimate

# the numbers of updates and of chains that the eye can tell apart
_FIRST = 500
_COLOURS = ("C0", "C1", "C2", "C4")

_PARTS = ("sampling", "backward", "waiting", "communication")


def training_curve(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss, ESS and gradient norm of the batches, and the parts of a step's time; skipped steps leave a gap.

    The times are those of rank 0; records of earlier versions have none.
    """
    steps = [record["step"] for record in metrics]
    timed = [record for record in metrics if "sampling_seconds" in record]
    figure, panels = _panels(9 if timed else 7, 4 if timed else 3)
    for axes, key in zip(panels, ("loss", "ess", "grad_norm"), strict=False):
        # None stands for a number that was not finite, and becomes nan
        values = np.array([record[key] for record in metrics], dtype=float)
        axes.plot(steps, values, color="C0", alpha=0.35, linewidth=0.8, label="each step")
        axes.plot(*_smoothed(steps, values), color="C0", label="mean over 1/50 of the run")
    panels[0].set(title="Training", ylabel=r"loss $\langle \log q + S \rangle_q$")
    finite = np.array([record["loss"] for record in metrics if record["loss"] is not None])
    if len(finite):  # the first steps would flatten all others
        _limit(panels[0], np.quantile(finite, [0.0, 0.98]), 0.05)
    panels[0].legend(frameon=False, loc="upper right")
    panels[1].set(ylabel="ESS of a batch", ylim=(0, 1))
    panels[2].set(ylabel="gradient norm")
    if any(record["grad_norm"] for record in metrics):
        panels[2].set_yscale("log")
    if timed:
        _times(panels[3], timed)
    panels[-1].set(xlabel="step")
    return figure


def _times(axes: Any, timed: Sequence[Mapping[str, Any]]) -> None:
    """Draw the shares of a step's time, means over up to 100 stretches."""
    starts = np.unique(np.linspace(0, len(timed), min(len(timed), 100) + 1).astype(int))[:-1]
    whole = np.array([record["seconds"] for record in timed])
    parts = [np.array([record[f"{name}_seconds"] for record in timed]) for name in _PARTS]
    parts.append(whole - sum(parts))
    shares = [np.add.reduceat(part, starts) / np.add.reduceat(whole, starts) for part in parts]
    axes.stackplot(
        [timed[start]["step"] for start in starts], *shares, labels=[*_PARTS, "optimizer"], step="post", alpha=0.8
    )
    axes.grid(False)
    axes.set(ylabel="share of the time", ylim=(0, 1))
    axes.legend(frameon=True, loc="lower right", ncols=3, fontsize="small")


def history(series: np.ndarray, label: str, every: int = 1) -> Figure:
    """Draw a chain `(n,)`, or several `(chains, n)`: the range in 500 stretches of updates, and the first ones.

    A measurement is made after every so many updates.
    """
    chains = np.atleast_2d(series)
    n = chains.shape[1]
    updates = every * np.arange(1, n + 1)
    figure, panels = _panels(5, 2 if n > _FIRST else 1, sharex=False)
    for number, chain in enumerate(chains[: len(_COLOURS)]):
        if n > _FIRST:
            starts = np.linspace(0, n, 501).astype(int)[:-1]
            low, high = (extreme.reduceat(chain, starts) for extreme in (np.minimum, np.maximum))
            colour = _COLOURS[number]
            panels[0].fill_between(updates[starts], low, high, step="post", alpha=0.6, linewidth=0.5, color=colour)
        panels[-1].plot(updates[:_FIRST], chain[:_FIRST], linewidth=0.7, color=_COLOURS[number])
    shown = f", {len(_COLOURS)} of {len(chains)} chains" if len(chains) > len(_COLOURS) else ""
    panels[0].set(title=f"History of the {label}, {every * n} updates{shown}", ylabel=label)
    panels[-1].set(xlabel="update", ylabel=label)
    if n > _FIRST:
        panels[-1].set_title(f"The first {every * _FIRST} updates")
    return figure


def autocorrelation_window(series: np.ndarray, label: str, moves: Moves | None = None, every: int = 1) -> Figure:
    """Draw the autocorrelation function of a series `(n,)` or `(chains, n)`, its sum, and the Gamma method's window.

    Moves and every are those of `estimate`; where it knows no tau_int, its words stand instead.
    """
    measured = estimate(series, moves, every)
    known = not math.isnan(measured.tau_int)
    figure, panels = _panels(5, 2 if known else 1)
    upper, lower = panels[0], panels[-1]
    upper.set_title(f"Autocorrelation function of the {label}")
    if not known:
        upper.set(xticks=[], yticks=[])
        words = f"{measured.reason}\nso there is no autocorrelation time"
        upper.text(0.5, 0.5, words, ha="center", va="center", transform=upper.transAxes)
        return figure
    upper.set_ylabel(r"$\rho(t)$")
    lower.set(xlabel="lag t, window W (updates)", ylabel=r"$\tau_\mathrm{int}(W)$")
    lags, rho, tau_int, error, window = autocorrelation(series, every)
    shown = min(len(rho), max(20, 3 * window // every))
    lags, tau_int, error = lags[:shown], tau_int[:shown], error[:shown]
    upper.vlines(lags, 0, rho[:shown], color="C0", linewidth=min(1.5, 200 / shown))
    upper.plot(lags, rho[:shown], "o", markersize=min(4, 400 / shown), color="C0")
    upper.axhline(0, color="black", linewidth=0.8)
    lower.plot(lags, tau_int, color="C0")
    factor = np.exp(error / tau_int)  # the error is that of the logarithm, as in Estimate.tau_int_range
    lower.fill_between(lags, tau_int / factor, tau_int * factor, color="C0", alpha=0.25)
    tau = bracketed(measured.tau_int, measured.tau_int_error)
    found = measured.reason or rf"$\tau_\mathrm{{int}}$ = {tau} updates"
    for axes in panels:
        axes.axvline(window, color="C3", linestyle="--", label=f"window {window}: {found}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.legend(frameon=False, loc="lower right")
    return figure


def topological_histogram(charge: np.ndarray, moves: Moves | None = None) -> Figure:
    """Draw the share of each topological sector, with errors by the Gamma method, and its mirror image.

    Moves are those of `estimate`; where it knows no error, there is none. A charge that is not an integer (clover) is
    counted in bins of 0.1, without errors.
    """
    figure, (axes,) = _panels(4)
    sectors = np.round(charge)
    if np.abs(charge - sectors).max() < 0.01:
        charge = sectors
        reach = int(np.abs(sectors).max()) + 1
        charges = np.arange(-reach, reach + 1)
        visits = [estimate(sectors == q, moves) for q in charges]
        share, error = (np.array([getattr(one, key) for one in visits]) for key in ("value", "error"))
        axes.bar(charges, share, yerr=error, width=0.8, color="C0", alpha=0.8, capsize=3, label="P(Q)")
        axes.plot(charges, share[::-1], "_", markersize=18, color="C3", label="P(-Q)")
        axes.legend(frameon=False)
    else:
        tenths = np.arange(np.floor(charge.min() * 10), np.ceil(charge.max() * 10) + 1)
        share = np.array([np.mean(np.round(charge * 10) == tenth) for tenth in tenths])
        axes.bar(tenths / 10, share, width=0.1, color="C0", alpha=0.8)
    words = rf"$\langle Q \rangle$ = {estimate(charge, moves)}"
    axes.set(title=f"Topological charge of {charge.size} configurations\n{words}", xlabel="Q", ylabel="share")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def potential(value: np.ndarray, error: np.ndarray) -> Figure:
    """Draw effective potentials V(R, T) `(r, t)` over the distance, a set of points for each T; nan is left out."""
    figure, (axes,) = _panels(4.5)
    style: dict[str, Any] = {"fmt": "o", "markersize": 4, "capsize": 3}
    r, t = value.shape
    for column in range(t):
        distance = np.arange(1, r + 1) + 0.06 * (column - (t - 1) / 2)
        axes.errorbar(distance, value[:, column], error[:, column], label=f"T = {column + 1}", **style)
    known = error < 0.25 * np.abs(value)
    if known.any():  # noise at large distances would flatten all else
        _limit(axes, value[known], 0.15)
    axes.set(title="Static potential", xlabel="R (lattice units)", ylabel=r"$V(R, T) = \log W(R, T) / W(R, T + 1)$")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper left")
    return figure


def wilson_flow(averages: Mapping[str, Any]) -> Figure:
    """Draw t^2 E(t) along the Wilson flow, from the clover and from the plaquette, with t0 where it is known."""
    figure, (axes,) = _panels(4.5)
    times = np.array(averages["times"])
    for name, label in (("action_density", "clover"), ("plaquette_density", "plaquette")):
        value, error = (times**2 * np.array(averages[name][key]) for key in ("value", "error"))
        (line,) = axes.plot(times, value, label=label)
        axes.fill_between(times, value - error, value + error, color=line.get_color(), alpha=0.3)
    if "t0" in averages:
        axes.axhline(0.3, color="black", linewidth=0.8)
        found = averages["t0"]
        if "missing" not in found:
            words = f"$t_0$ = {bracketed(found['value'], found['error'])}"
            axes.axvline(found["value"], color="C3", ls="--", label=words)
    axes.set(title="Wilson flow", xlabel="flow time t (lattice units)", ylabel=r"$t^2 \langle E \rangle$")
    axes.legend(frameon=False, loc="upper left")
    return figure


def weight_histogram(log_w: np.ndarray, ess: float) -> Figure:
    """Draw the distribution of log w around its mean; a tail to the right is a region that the model misses."""
    centred = log_w - np.logaddexp.reduce(log_w) + np.log(len(log_w))
    figure, (axes,) = _panels(4)
    axes.hist(centred[np.isfinite(centred)], bins=60, color="C0", alpha=0.8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title=f"Weights of {len(log_w)} proposals, ESS = {ess:.3f}", ylabel="proposals", yscale="log")
    axes.set_xlabel(r"$\log(w / \langle w \rangle)$")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically, and make its folder."""
    files.make_folder(path.parent)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    files.write(path, buffer.getvalue())


def _panels(height: float, n: int = 1, sharex: bool = True) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, height), layout="constrained")
    panels = figure.subplots(n, sharex=sharex, squeeze=False)[:, 0]
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure, panels


def _limit(axes: Any, values: np.ndarray, margin: float) -> None:
    """Show the range of the values, and a margin as a part of it."""
    low, high = values.min(), values.max()
    margin *= high - low or 1.0
    axes.set_ylim(low - margin, high + margin)


def _smoothed(steps: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Return means `(2, blocks)` of steps and finite values in consecutive blocks."""
    blocks = np.array_split(np.stack([steps, values]), 50, axis=1)
    finite = [block[:, np.isfinite(block[1])] for block in blocks]
    means = [block.mean(axis=1) for block in finite if block.size]
    return np.array(means).T if means else np.empty((2, 0))
