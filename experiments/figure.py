"""Draws the claims of an experiment beside what was published and what takes no learning: FOLDER/figure.png.

python experiments/figure.py FOLDER ...
"""

import sys
from pathlib import Path

from claims import PUBLISHED, read, without_learning
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(folder: Path) -> Figure:
    """ESS of every claim in FOLDER/expected.json against beta, or against L where the extents differ."""
    claims = read(folder)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    if len({claim.extent for claim in claims}) > 1:
        for group, beta in sorted({(claim.group, claim.beta) for claim in claims}):
            own = sorted((c for c in claims if (c.group, c.beta) == (group, beta)), key=lambda claim: claim.extent)
            _points(axes, [(c.extent, c.measured) for c in own], "", f"{group}, beta = {beta:g}", fmt="o-", ms=4)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("L")
    else:
        group, betas = claims[0].group, sorted({claim.beta for claim in claims})
        points = [(c.beta, c.measured) for c in sorted(claims, key=lambda claim: claim.beta)]
        _points(axes, points, "", group, fmt="o-", ms=4)
        _points(axes, points, "forward_", "forward, on exact configurations", fmt="x", ms=7)
        for source, values in PUBLISHED.get(group, {}).items():
            axes.plot(list(values), list(values.values()), "s--", ms=4, label=source)
        axes.plot(betas, [without_learning(group, beta) for beta in betas], "k:", label="no learning")
        axes.set_xlabel("beta")
    axes.set(ylabel="effective sample size", ylim=(0, 1.03))
    axes.legend(fontsize=8)
    return figure


def _points(axes: Axes, points: list[tuple[float, dict]], kind: str, label: str, **style) -> None:
    """The ESS of a kind, "" or "forward_", where there is one."""
    rows = [(x, m[f"{kind}ess"], m[f"{kind}ess_error"]) for x, m in points if f"{kind}ess" in m]
    if rows:
        axes.errorbar(*zip(*rows, strict=True), label=label, **style)


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        save(folder)


def save(folder: Path) -> None:
    """Writes FOLDER/figure.png."""
    draw(folder).savefig(folder / "figure.png", dpi=120, metadata={"Software": ""})


if __name__ == "__main__":
    main()
