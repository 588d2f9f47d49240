"""Draws the claims of an experiment beside what was published and what takes no learning: FOLDER/figure.png.

python experiments/figure.py FOLDER ...
"""

import json
import math
import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

from lattice_flows.groups import from_name
from lattice_flows.measurement.characters import characters

PUBLISHED = {
    "su2": {"D. Boyda et al. 2020": {1.8: 0.91, 2.2: 0.80, 2.7: 0.56}},
    "su3": {
        "D. Boyda et al. 2020": {4: 0.88, 5: 0.75, 6: 0.48},
        "S. Bacchio et al. 2022": {4: 0.98, 5: 0.88, 6: 0.70},
    },
}
"""ESS on 16x16: 2008.05456 and, with 420 parameters, 2212.08469."""


def without_learning(group: str, beta: float) -> float:
    """The ESS, in large volumes, of plaquettes drawn independently, reweighted by the one that closes the torus."""
    once, twice = (characters(from_name(group), b).log_trivial for b in (beta, 2 * beta))
    return math.exp(2 * once - twice)


def draw(folder: Path) -> Figure:
    """ESS of every claim in FOLDER/expected.json against beta, or against L where the extents differ."""
    claims = json.loads((folder / "expected.json").read_text())
    points = []
    for name, claim in claims.items():
        match = re.fullmatch(r"(u1|su\d)_2d_L(\d+)_beta([\d.]+)(_seed\d)?( at L=(\d+))?(, fine-tuned)?", name)
        if match:
            key = match[1].upper().replace("SU", "SU(").replace("U1", "U(1")
            points.append((match[1], key + ")", float(match[3]), int(match[6] or match[2]), bool(match[7]), claim))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    by_extent = len({point[3] for point in points}) > 1
    for kind in sorted({(point[0], point[2] if by_extent else None, point[4]) for point in points}, key=str):
        own = [p for p in points if p[0] == kind[0] and p[4] == kind[2] and kind[1] in (None, p[2])]
        own.sort(key=lambda p: p[3] if by_extent else p[2])
        x = [p[3] if by_extent else p[2] for p in own]
        label = f"{own[0][1]}" + (f", beta = {kind[1]:g}" if by_extent else "") + (", fine-tuned" if kind[2] else "")
        axes.errorbar(x, [p[5]["ess"] for p in own], [p[5]["ess_error"] for p in own], fmt="o-", ms=4, label=label)
        pairs = [(p[2], p[5]["forward_ess"], p[5]["forward_ess_error"]) for p in own if "forward_ess" in p[5]]
        if pairs and not by_extent:
            axes.errorbar(*zip(*pairs, strict=True), fmt="x", ms=7, label="forward, on exact configurations")
        if not by_extent:
            for source, values in PUBLISHED.get(kind[0], {}).items():
                axes.plot(list(values), list(values.values()), "s--", ms=4, label=source)
            betas = sorted(set(x))
            axes.plot(betas, [without_learning(own[0][1], b) for b in betas], "k:", label="no learning")
    if by_extent:
        axes.set_xscale("log", base=2)
    axes.set(xlabel="L" if by_extent else "beta", ylabel="effective sample size", ylim=(0, 1.03))
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        draw(folder).savefig(folder / "figure.png", dpi=120, metadata={"Software": ""})


if __name__ == "__main__":
    main()
