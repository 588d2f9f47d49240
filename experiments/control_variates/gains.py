"""Gains of control variates: the variance of the plaquette of SU(3) in four dimensions without them over that with.

    python experiments/control_variates/gains.py --out experiments/control_variates/expected.json
    python experiments/control_variates/gains.py --table

The first command makes the chains and writes what it finds; the second writes the table of README.md from it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.observables import average_plaquette, schwinger_dyson
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.statistics import estimate, improved, pulls_of

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import write_table  # noqa: E402

BETAS = (1.0, 2.0, 3.0, 6.0, 6.5)
EXTENTS = (4, 4, 4, 4)
CHAINS, CONFIGURATIONS, APART, THERMAL = 8, 500, 4, 100
BLOCKS = 10


def error_of_ratio(one, other):
    """The error of a ratio of variances by leaving out blocks of each chain, all of them of equal length."""
    one, other = (np.reshape(own, (len(own) * BLOCKS, -1)) for own in (one, other))
    left = [np.delete(one, k, 0).var() / np.delete(other, k, 0).var() for k in range(len(one))]
    return float(np.std(left) * (len(left) - 1) ** 0.5)


def measured(action, chains, configurations, apart, thermal, *observables):
    """Series `(chains, configurations, ...)` of observables, from chains that begin with Haar links."""
    streams, cycle = Streams(0, chains), Cycle([HeatBath(action), (OverRelaxation(action), 3)])
    state = cycle.init(start(action.space, streams, dtype=torch.float64))
    found = [[] for _ in observables]
    for number in range(-thermal, configurations * apart):
        state, _ = cycle.step(state, streams)
        if number >= 0 and number % apart == 0:
            for own, observable in zip(found, observables, strict=True):
                own.append(observable(state.x))
    return [torch.stack(own, 1).numpy() for own in found]


def run(beta, configurations=CONFIGURATIONS):
    """The gain at one coupling, from chains of heat bath and over-relaxation that begin with Haar links."""
    action = Wilson(GaugeField(SU(3), EXTENTS), beta)
    observables = average_plaquette(action.space), schwinger_dyson(action)
    began = time.process_time()
    series, found = measured(action, CHAINS, configurations, APART, THERMAL, *observables)
    result, plain = improved(list(series), list(found)), estimate(series)
    tests = {str(k): estimate(found[..., k]) for k in range(found.shape[-1])}
    return {
        "gain": result.gain,
        "gain_error": error_of_ratio(series, np.stack(result.series)),
        "plain": [plain.value, plain.error],
        "improved": [result.estimate.value, result.estimate.error],
        "worst_pull": float(max(pulls_of(tests).pulls.values(), key=abs)),
        "configurations": CHAINS * configurations,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def table(found, correlators, smeared):
    """Those of the README."""
    lines = [
        "| beta | plaquette | with control variates | gain | worst zero, in errors | CPU seconds |",
        "|--:|---|---|--:|--:|--:|",
    ]
    for beta, entry in found.items():
        cells = [
            bracketed(*entry["plain"]),
            bracketed(*entry["improved"]),
            bracketed(entry["gain"], entry["gain_error"]),
        ]
        lines.append(f"| {beta} | {' | '.join(cells)} | {entry['worst_pull']:.1f} | {entry['cpu_seconds']:.0f} |")
    lines += [
        "",
        "The connected correlator of the space-like plaquettes of time slices on 8^4, t apart, without the noise of",
        "the contact term at t = 1; and the plaquettes of one slice.",
        "",
        "| beta | configurations | one slice | t = 1 | t = 2 | t = 3 | CPU seconds |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for beta, entry in correlators.items():
        gains = " | ".join(bracketed(*entry["gains"][f"t={t}"]) for t in (1, 2, 3))
        slices, seconds = f"{entry['one_slice']:.3g}", f"{entry['cpu_seconds']:.0f}"
        lines.append(f"| {beta} | {entry['configurations']} | {slices} | {gains} | {seconds} |")
    lines += [
        "",
        "The same after steps of stout smearing in space with rho = 0.1, at beta = 6.0, from",
        f"{smeared['configurations']} configurations in {smeared['cpu_seconds']:.0f} seconds.",
        "",
        "| steps | one slice | t = 2 | t = 3 | t = 4 |",
        "|--:|--:|--:|--:|--:|",
    ]
    for steps, entry in smeared["steps"].items():
        gains = " | ".join(bracketed(*entry["gains"][f"t={t}"]) for t in (2, 3, 4))
        lines.append(f"| {steps} | {entry['one_slice']:.3g} | {gains} |")
    return "\n".join(lines)


def tables():
    """Those of what the files of this folder hold."""
    return table(*(read(f"expected{part}.json") for part in ("", "_correlators", "_smeared")))


def read(name):
    """What a file of this folder holds."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="write what expected.json holds to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        write_table(HERE, f"{tables()}\n")
        return
    found = {}
    for beta in BETAS:
        found[f"{beta}"] = run(beta)
        print(beta, json.dumps(found[f"{beta}"]), flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
