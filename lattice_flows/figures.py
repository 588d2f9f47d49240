"""Figures of a run as PNG: training curve, history with autocorrelation function, histogram of weights."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lattice_flows.io import files
from lattice_flows.measurement import autocorrelation
from lattice_flows.report import bracketed


def training_curve(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and ESS of the training batches against the step; steps that were skipped leave a gap."""
    steps = [record["step"] for record in metrics]
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, key in ((upper, "loss"), (lower, "ess")):
        # None, which stands for a number that was not finite, becomes nan
        values = np.array([record[key] for record in metrics], dtype=float)
        axes.plot(steps, values, color="C0", alpha=0.35, linewidth=0.8, label="each step")
        axes.plot(*_smoothed(steps, values), color="C0", label="mean over 1/50 of the run")
        axes.grid(alpha=0.3)
    upper.set(title="Training", ylabel=r"loss $\langle \log q + S \rangle_q$")
    finite = np.array([record["loss"] for record in metrics if record["loss"] is not None])
    if len(finite):  # the first steps would flatten all others
        low, high = np.quantile(finite, [0.0, 0.98])
        upper.set_ylim(low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0))
    upper.legend(frameon=False, loc="upper right")
    lower.set(xlabel="step", ylabel="ESS of a batch", ylim=(0, 1))
    return figure


def history(series: np.ndarray, label: str) -> Figure:
    """The first updates of a chain and its autocorrelation function, with the window of the Gamma method."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    shown = series[:500]
    upper.plot(shown, linewidth=0.7)
    stretch = f"first {len(shown)} of {len(series)} updates" if len(shown) < len(series) else f"{len(series)} updates"
    upper.set(title=f"History, {stretch}", xlabel="update", ylabel=label)
    result = autocorrelation(series)
    shown_lags = min(len(result.rho), max(20, 3 * result.window))
    lags = np.arange(shown_lags)
    tau = bracketed(result.tau_int[result.window], result.tau_int_error[result.window])
    lower.vlines(lags, 0, result.rho[:shown_lags], color="C0")
    lower.plot(lags, result.rho[:shown_lags], "o", markersize=4, color="C0", label=r"$\rho(t)$")
    lower.axhline(0, color="black", linewidth=0.8)
    window = rf"window {result.window}: $\tau_\mathrm{{int}}$ = {tau} updates"
    lower.axvline(result.window, color="C3", linestyle="--", label=window)
    lower.set(title=f"Autocorrelation function of the {label}", xlabel="lag t (updates)", ylabel=r"$\rho(t)$")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    lower.legend(frameon=False)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def weight_histogram(log_w: np.ndarray, ess: float) -> Figure:
    """The distribution of log w around its mean: a peak is a good model, a tail to the right a missed region."""
    centred = log_w - np.logaddexp.reduce(log_w) + np.log(len(log_w))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(centred[np.isfinite(centred)], bins=60, color="C0", alpha=0.8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(
        title=f"Weights of {len(log_w)} proposals, ESS = {ess:.3f}",
        xlabel=r"$\log(w / \langle w \rangle)$",
        ylabel="proposals",
        yscale="log",
    )
    axes.grid(alpha=0.3)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    files.write(path, buffer.getvalue())


def _smoothed(steps: Sequence[int], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over consecutive blocks, without what is not finite."""
    blocks = [block for block in np.array_split(np.stack([steps, values]), 50, axis=1) if np.isfinite(block[1]).any()]
    means = [np.mean(block[:, np.isfinite(block[1])], axis=1) for block in blocks]
    x, y = np.array(means).T if means else np.empty((2, 0))
    return x, y
