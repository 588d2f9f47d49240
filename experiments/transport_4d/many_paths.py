"""ESS, log Z and the plaquette of many paths of an annealing with a flow, beside those of heat bath.

    python experiments/transport_4d/many_paths.py ROW ... --out experiments/transport_4d/expected_ess.json
    python experiments/transport_4d/many_paths.py --table

The first command takes its coefficients from expected.json; the second writes the tables of README.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.observables import standard_observables
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import Streams, log_z_ratio, weighted_mean
from lattice_flows.statistics import estimate, estimate_ess

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from integrate import integrated  # noqa: E402
from tables import write_table  # noqa: E402
from transport import PROTOCOLS, ROWS, annealing, starts, table, thermalised, write  # noqa: E402

NAME, STAGES, PATHS, CHAINS, CYCLES, NODES = "plaquette + Q', 4 OR", 16, 4096, 64, 400, 3


class Fitted(NamedTuple):
    """The coefficients of a fit, for one unit of beta."""

    coefficients: torch.Tensor


def many_paths(row, claim):
    """ESS of many paths in double precision, and log Z and the plaquette beside those of heat bath."""
    began, protocol, betas = time.process_time(), PROTOCOLS[NAME], (row.begin, row.end)
    action, double = Wilson(GaugeField(SU(3), (row.extent,) * 4), row.begin), torch.complex128
    found = [Fitted(torch.tensor(own, dtype=torch.float64)) for own in claim["protocols"][NAME]["coefficients"]]
    path, plaquette = annealing(protocol, action, betas, found, STAGES), standard_observables(action.space)["plaquette"]
    x, ends, values, log_w = thermalised(action, Streams(7, CHAINS)), [], [], []
    for k, begin in enumerate(starts(action, x, PATHS)):
        end = path.run(begin.to(double), Streams(8, CHAINS).branch(k))
        log_w.append(end.log_w), values.append(plaquette(end.x))
    log_w, values = torch.cat(log_w), torch.cat(values)
    share, log_z, mean = estimate_ess(log_w), log_z_ratio(log_w), weighted_mean(values, log_w)

    def mean_at(beta, *key):
        return estimate(-actions_of(action.at(beta), Streams(9, CHAINS).branch(*key)) / beta)

    total, error = integrated(lambda k, beta: mean_at(beta, "node", k), row.begin, row.end, NODES)
    ends = mean_at(row.end, "end")
    per_plaquette = 1 / (6 * action.space.volume)
    return {
        "protocol": NAME, "stages": STAGES, "paths": len(log_w), "log_w_variance": float(log_w.var()),
        "ess": share.value, "ess_error": share.error, "log_z": log_z[0].item(), "log_z_error": log_z[1].item(),
        "log_z_integrated": total, "log_z_integrated_error": error,
        "plaquette": mean[0].item(), "plaquette_error": mean[1].item(),
        "plaquette_heat_bath": ends.value * per_plaquette, "plaquette_heat_bath_error": ends.error * per_plaquette,
        "cpu_minutes": round((time.process_time() - began) / 60, 1),
    }  # fmt: skip


def actions_of(action, streams):
    """The action along chains of heat bath and over-relaxation, `(chains, CYCLES)`."""
    cycle, series = PROTOCOLS["heat bath, 2 OR"].sampler(action), []
    state = cycle.init(thermalised(action, streams.branch("hot")))
    for _ in range(CYCLES):
        state, _ = cycle.step(state, streams)
        series.append(state.action.double())
    return torch.stack(series, 1).numpy()


def table_of_many(found):
    """Those of many paths."""
    head = ["", "paths", "n", "var(log w)", "ESS", "log Z / Z_0", "integrated", "plaquette", "heat bath", "CPU min"]
    lines = [head, ["---"] * len(head)]
    for row, own in found.items():
        pairs = ("ess", "log_z", "log_z_integrated", "plaquette", "plaquette_heat_bath")
        numbers = [bracketed(own[name], own[f"{name}_error"]) for name in pairs]
        first = [f"{row}, {own['protocol']}", f"{own['paths']}", f"{own['stages']}", f"{own['log_w_variance']:.2f}"]
        lines.append([*first, *numbers, f"{own['cpu_minutes']:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(name):
    """What a file of this folder holds."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="write what both files hold to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        write_table(HERE, f"{table(read('expected.json'))}\n\n{table_of_many(read('expected_ess.json'))}\n")
    for row in (ROWS[name] for name in arguments.rows):
        write(arguments.out, row, many_paths(row, read("expected.json")[row.name]))


if __name__ == "__main__":
    main()
