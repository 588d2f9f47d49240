"""HMC of the links against HMC of the fields that a gradient flow carries to them: tau_int and CPU time.

    python experiments/field_transformation/transformed.py --out experiments/field_transformation/expected.json
    python experiments/field_transformation/transformed.py --table

The first command makes the chains and writes what it finds; the second writes the table of README.md from it.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.layers import GradientFlow
from lattice_flows.observables import action_density, average_plaquette, clover_charge, flow_history
from lattice_flows.operators import production
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import HMC, Cycle, HeatBath, OverRelaxation, Streams, Transformed, start
from lattice_flows.statistics import estimate
from lattice_flows.training.transport import transport_fit

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import record, write_table  # noqa: E402


class Theory(NamedTuple):
    """What is simulated, and the time of the Wilson flow at which energy and charge are taken."""

    space: GaugeField
    beta: float
    time: float


THEORIES = {
    "SU(3), 4^4, beta = 6": Theory(GaugeField(SU(3), (4,) * 4), 6.0, 0.5),
    "SU(2), 8^3, beta = 6": Theory(GaugeField(SU(2), (8,) * 3), 6.0, 1.0),
}
ORDERS = {"LO": 1, "NLO": 2}
"""The number of operators of `production`."""
MAPS = {"HMC": None} | {f"{order}, {shift:g}": (order, shift) for shift in (0.5, 1.0, 2.0) for order in ORDERS}
"""Operators, and the change of beta that the map makes up for, to first order."""
CHAINS, THERMAL, TUNING, STEPS = 8, 200, 10, 5
"""The chains; sweeps before; trajectories that tune the number of steps, and that number before."""
STEP = 0.1
"""The change of beta in a fit."""


def thermalised(action, chains, streams):
    """Chains after heat bath and over-relaxation, and these updates."""
    cycle = Cycle([HeatBath(action), (OverRelaxation(action), 2)])
    state = cycle.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(THERMAL):
        state, _ = cycle.step(state, streams)
    return state.x, cycle


def map_of(action, order, shift):
    """The flow whose velocity carries exp(-S) at beta towards beta + STEP, for a time of shift / STEP."""
    streams, space = Streams(7, 64), action.space
    x, cycle = thermalised(action, 64, streams)
    operators = production(space.group, space.dim)[: ORDERS[order]]
    fit = transport_fit(operators, cycle, action.at(action.beta + STEP), x, streams, stages=32, window=1)
    layer = GradientFlow(space, operators, knots=1, steps=1, dtype=torch.float64)
    layer.coefficients.data[:] = fit.coefficients * shift / STEP
    return layer.requires_grad_(False), fit.left


@torch.no_grad()
def errors_of_steps(layer, x):
    """The standard deviation, over configurations, of the error of log|dy/dx| by the steps of the map."""
    _, coarse = layer.inverse(x)
    layer.steps *= 4
    _, fine = layer.inverse(x)
    layer.steps //= 4
    return float((coarse - fine).std())


def run(name, kind, seconds, seed=5):
    """tau_int, means, and CPU seconds a trajectory of one chain."""
    theory = THEORIES[name]
    action, streams, entry = Wilson(theory.space, theory.beta), Streams(seed, CHAINS), {}
    x, _ = thermalised(action, CHAINS, streams)
    sampler = HMC(action, steps=STEPS)
    if MAPS[kind] is not None:
        layer, left = map_of(action, *MAPS[kind])
        entry = {"coefficients": layer.coefficients[0].tolist(), "left": left, "steps_std": errors_of_steps(layer, x)}
        sampler = Transformed(layer, action, lambda latent: HMC(latent, steps=STEPS))
    state = sampler.init(x)
    sampler = sampler.tune(state, streams, updates=TUNING)
    energies = {"E": action_density(theory.space), "Q": clover_charge(theory.space) if theory.space.dim == 4 else None}
    flowed = flow_history(theory.space, {key: own for key, own in energies.items() if own}, [theory.time])
    plaquette, series, accepted, spent = average_plaquette(theory.space), [], [], 0.0
    while spent < seconds:
        begin = time.process_time()
        state, info = sampler.step(state, streams)
        spent += time.process_time() - begin
        accepted.append(info.acceptance.mean().item())
        series.append({"plaquette": plaquette(state.x)} | {key: own[:, 0] for key, own in flowed(state.x).items()})
    found = {key: torch.stack([row[key] for row in series], 1).double().numpy() for key in series[0]}
    if "Q" in found:
        found["Q^2"] = found.pop("Q") ** 2
    results = {key: estimate(values) for key, values in found.items()}
    return entry | {
        "trajectories": CHAINS * len(series),
        "hmc_steps": sampler.tuned["steps"],
        "acceptance": sum(accepted) / len(accepted),
        "cpu_seconds": spent / (CHAINS * len(series)),
        "observables": {
            key: {"value": own.value, "error": own.error, "tau_int": own.tau_int, "tau_int_error": own.tau_int_error}
            for key, own in results.items()
        },
    }


def against(entry, plain, key):
    """The ratio of tau_int times CPU seconds to that of HMC, with its error."""
    own, other = (found["observables"][key] for found in (entry, plain))
    ratio = own["tau_int"] * entry["cpu_seconds"] / (other["tau_int"] * plain["cpu_seconds"])
    return ratio, ratio * math.hypot(*(one["tau_int_error"] / one["tau_int"] for one in (own, other)))


def table(found):
    """That of the README."""
    lines = []
    for name in THEORIES:
        own = {kind: found[f"{name}: {kind}"] for kind in MAPS if f"{name}: {kind}" in found}
        if not own:
            continue
        keys = list(own["HMC"]["observables"])
        heads = [f"tau_int({key})" for key in keys] + ["plaquette", "ms a trajectory", f"tau_int({keys[1]}) x time"]
        lines += [
            f"| {name} | flow time | steps | acceptance | {' | '.join(heads)} |",
            "|---" * (5 + len(keys)) + "|--:|--:|",
        ]
        for kind, entry in own.items():
            results = entry["observables"]
            cells = [f"{entry['coefficients'][0]:.3f}" if "coefficients" in entry else "-", str(entry["hmc_steps"])]
            cells += [f"{entry['acceptance']:.2f}"]
            cells += [bracketed(results[key]["tau_int"], results[key]["tau_int_error"]) for key in keys]
            cells += [bracketed(results["plaquette"]["value"], results["plaquette"]["error"])]
            cells += [f"{1000 * entry['cpu_seconds']:.3g}"]
            cells += ["1" if kind == "HMC" else bracketed(*against(entry, own["HMC"], keys[1]))]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theories", nargs="*", default=list(THEORIES))
    parser.add_argument("--maps", nargs="*", default=list(MAPS))
    parser.add_argument("--seconds", type=float, default=60.0, help="of the trajectories of a map; of HMC a tenth")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="write what expected.json holds to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        write_table(HERE, f"{table(json.loads((HERE / 'expected.json').read_text(encoding='utf-8')))}\n")
        return
    for kind in arguments.maps:
        for name in arguments.theories:
            entry = run(name, kind, arguments.seconds / (10 if kind == "HMC" else 1))
            print(f"{name}: {kind}", json.dumps(entry), flush=True)
            if arguments.out is not None:
                record(arguments.out, f"{name}: {kind}", entry)


if __name__ == "__main__":
    main()
