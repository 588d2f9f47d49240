"""The weights of an annealing: log Z, dissipated work, reweighted means, and the predictions of all these."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.planar.exact import log_z
from lattice_flows.reports.columns import columns
from lattice_flows.reports.report import observable_entry
from lattice_flows.reports.steps import Steps
from lattice_flows.reports.words import bracketed, number
from lattice_flows.sampling import log_z_ratio
from lattice_flows.statistics import Estimate, reweight
from lattice_flows.statistics.weights import jackknife_error


class Predicted(NamedTuple):
    """What linear response expects of an annealing."""

    work: float
    """The dissipated work."""
    cpu_seconds: float
    """The CPU time of a path."""

    @property
    def ess(self) -> float:
        """The effective sample size per path, where log w is normal."""
        return math.exp(-2 * self.work)

    def in_words(self, paths: int) -> str:
        """Describe the prediction in one line.

        Example:
            >>> Predicted(work=0.1, cpu_seconds=0.25).in_words(1000)
            'expected: ESS 0.819, dissipated work 0.1, 0.25 CPU s a path, 250 CPU s for 1000 paths'
        """
        ess, work = f"ESS {self.ess:.3g}", f"dissipated work {self.work:.3g}"
        cost = f"{self.cpu_seconds:.3g} CPU s a path, {paths * self.cpu_seconds:.3g} CPU s for {paths} paths"
        return f"expected: {ess}, {work}, {cost}"


def annealing_entries(
    first: Action, action: Action, log_w: Tensor, values: Tensor, predicted: Predicted, steps: Steps, starts: int
) -> dict[str, Any]:
    """The entries of an annealing in report.json.

    Paths are drawn from their starts with replacement, so that errors are larger: at most by `excess`.

    Shapes: log_w and values `(n,)`, of all paths.

    Args:
        first: the action where paths begin.
        values: the action at their ends.
        steps: the errors of log w; log Z is corrected for their mean.
        starts: the number of configurations where paths begin, 0 for the prior.
    """
    more = excess(len(log_w), starts)
    value, error = log_z_ratio(log_w)
    known, zero = log_z(action), log_z(first)
    work = log_w.double()
    entries: dict[str, Any] = {
        "paths": len(log_w),
        "starts": starts,
        "log_z_ratio": {
            "value": float(value) - steps.mean,
            "error": math.hypot(more * float(error), steps.error),
            "exact": None if known is None or zero is None else known - zero,
        },
        "steps": steps._asdict(),
        "predicted_ess": predicted.ess,
        "work": {
            "mean": -float(work.mean()),
            "error": float(work.std() / len(work) ** 0.5),
            "dissipated": float(value - work.mean()),
            "dissipated_error": _dissipated_error(work),
            "predicted": predicted.work,
            "variance": float(work.var()),
        },
    }
    means = {"action": values, "plaquette": mean_plaquettes(action, values)}
    entries["reweighted"] = {
        name: observable_entry(action, name, _wider(reweight(own, log_w).estimate, more))
        for name, own in means.items()
        if own is not None
    }
    return entries


def excess(paths: int, starts: int) -> float:
    """The factor by which errors are larger, at most, where paths are drawn from few starts with replacement.

    The variance of a mean is at most that of all paths, over their number, and as much over the number of starts.

    Example:
        >>> excess(100, 0), excess(300, 400)
        (1.0, 1.3228756555322954)
    """
    return math.sqrt(1 + paths / starts) if starts else 1.0


def _wider(own: Estimate, factor: float) -> Estimate:
    return replace(own, error=factor * own.error)


def mean_plaquettes(action: Action, values: Tensor) -> Tensor | None:
    """The mean plaquettes of configurations of these actions, where one says the other: for Wilson's action."""
    weights = action.loop_weights()
    if weights is None or weights.ndim != 2:
        return None
    cold = action(action.space.cold(1, dtype=torch.float64))
    return values / cold


def _dissipated_error(work: Tensor) -> float:
    """The jackknife error of log <w> - <log w>."""
    n, shares = len(work), work.softmax(0)
    others = (work.sum() - work) / (n - 1)
    return float(jackknife_error(torch.log1p(-shares) - others))


def annealing_table(report: Mapping[str, Any]) -> str:
    """Write the entries of an annealing as text."""
    work, cost, ratio = report["work"], report["cost"], report["log_z_ratio"]
    rows = [["annealing", "measured", "expected"]]
    rows.append(["ESS", bracketed(report["ess"], report["ess_error"]), f"{report['predicted_ess']:.3g}"])
    rows.append(
        ["dissipated work", bracketed(work["dissipated"], work["dissipated_error"]), f"{work['predicted']:.3g}"]
    )
    rows.append(["variance of log w", f"{work['variance']:.3g}", f"{2 * work['predicted']:.3g}"])
    rows.append(["CPU s a path", number(cost["cpu_seconds"], ".3g"), f"{cost['predicted_cpu_seconds']:.3g}"])
    lines = [["weighted means", "value", "exact"]]
    lines.append(["log Z / Z_0", bracketed(ratio["value"], ratio["error"]), number(ratio["exact"], ".7g")])
    for name, entry in report["reweighted"].items():
        lines.append([name, bracketed(entry["value"], entry["error"]), number(entry["exact"], ".7g")])
    text = f"{columns(rows, right=True)}\n{columns(lines, right=True)}"
    if report["starts"]:
        factor = excess(report["paths"], report["starts"])
        text += (
            f"paths begin at {report['starts']} configurations: errors in this last table allow for it, those of the "
            f"chain are larger by a factor of up to {factor:.2f}\n"
        )
    steps = Steps(**report["steps"])
    if steps.deviation > (report["paths"] * report["ess"]) ** -0.5:
        text += (
            f"the steps of layers change log w by {steps.deviation:.1g}, so that means may be off by so many of their "
            "standard deviations: take more stages\n"
        )
    return text
