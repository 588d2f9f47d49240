"""Plaquettes in three and four dimensions by two algorithms, heat bath with over-relaxation and HMC, and their pull.

    python experiments/thermal/agreement.py --out experiments/thermal/expected.json
    python experiments/thermal/agreement.py --table

The first command runs the chains and writes what it finds; the second writes the table of README.md from it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from lattice_flows import SU
from lattice_flows.actions import Wilson
from lattice_flows.lattice import GaugeField
from lattice_flows.observables import average_plaquette
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import HMC, Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.statistics import estimate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import write_table  # noqa: E402

POINTS = [
    (SU(n), beta, (extent,) * dim)
    for n, dim, betas in ((2, 3, (4.0, 6.0)), (2, 4, (2.3, 2.4)), (3, 4, (5.7, 6.0)))
    for beta in betas
    for extent in (4, 6)
]
CHAINS, THERMAL = 2, 100
UPDATES = {"heat_bath": 1000, "hmc": 1000}


def series(sampler, state, streams, observable, n):
    """n plaquettes of each chain, and the state after them."""
    values = []
    for _ in range(n):
        state, _ = sampler.step(state, streams)
        values.append(observable(state.x))
    return torch.stack(values, 1).numpy(), state


def measure(name, group, beta, extents):
    """The plaquette by one algorithm, from Haar links."""
    space, streams = GaugeField(group, extents), Streams(1 if name == "hmc" else 0, CHAINS)
    action, plaquette = Wilson(space, beta), average_plaquette(space)
    cycle = Cycle([HeatBath(action), (OverRelaxation(action), 2)])
    sampler = cycle if name == "heat_bath" else HMC(action, steps=8)
    state = sampler.init(start(space, streams, dtype=torch.float64))
    if name == "hmc":  # towards equilibrium in short steps, then in as many as it takes
        _, state = series(HMC(action, steps=24), state, streams, plaquette, THERMAL // 3)
        sampler = sampler.tune(state, streams)
    _, state = series(sampler, state, streams, plaquette, THERMAL)
    began = time.process_time()
    values, _ = series(sampler, state, streams, plaquette, UPDATES[name])
    result = estimate(values)
    row = {
        "value": result.value,
        "error": result.error,
        "tau_int": result.tau_int,
        "updates": UPDATES[name],
        "chains": CHAINS,
    }
    if name == "hmc":
        row["steps"] = sampler.steps
    return row | {"cpu_seconds": round(time.process_time() - began, 1)}


def run():
    """Every point, by both algorithms."""
    found = {}
    for group, beta, extents in POINTS:
        one, other = (measure(name, group, beta, extents) for name in UPDATES)
        pull = round((one["value"] - other["value"]) / (one["error"] ** 2 + other["error"] ** 2) ** 0.5, 2)
        name = f"{group} {extents[0]}^{len(extents)} beta={beta}"
        found[name] = {"heat_bath": one, "hmc": other, "pull": pull}
        print(name, json.dumps(found[name]), flush=True)
    return found


def table(found):
    """The rows of the README."""
    lines = ["| group | lattice | beta | heat bath | HMC | pull |", "|---|---|---|---|---|---|"]
    for name, entry in found.items():
        values = (bracketed(entry[key]["value"], entry[key]["error"]) for key in UPDATES)
        lines.append(f"| {' | '.join([*name.replace('beta=', '').split(), *values, format(entry['pull'], '.2f')])} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="write what expected.json holds to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        found = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
        write_table(HERE, f"{table(found)}\n")
        return
    found = run()
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
