"""Every sampler beside the exact values of two dimensions, at three couplings of three groups, in 64 and 32 bits.

    python experiments/exact_2d/exact.py --out experiments/exact_2d/expected.json
    python experiments/exact_2d/exact.py --table

The first command runs the chains and adds what it finds to the file; the second writes the tables of README.md from it.
`--groups "U(1)"` and `--samplers hmc,annealed` do a part.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

import lattice_flows
from lattice_flows.actions import Wilson
from lattice_flows.groups import Group, from_name
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value, log_partition
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import (
    HMC,
    Annealing,
    Cycle,
    HeatBath,
    IndependenceMetropolis,
    Metropolis,
    OverRelaxation,
    ReplicaExchange,
    Streams,
    Transformed,
    log_z_ratio,
    start,
    weighted_mean,
)
from lattice_flows.statistics import estimate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import record, write_table  # noqa: E402

LATTICE = Lattice((8, 8))
COUPLINGS = {"U(1)": (1, 2, 4), "SU(2)": (1.8, 2.2, 2.7), "SU(3)": (4, 5, 6)}
"""At which there are trained flows."""
DTYPES = {"64": torch.float64, "32": torch.float32}
SAMPLERS = {
    "metropolis": "Metropolis",
    "hmc": "HMC",
    "heat_bath": "heat bath",
    "over_relaxed": "heat bath, 2 over-relaxation",
    "flow": "independence Metropolis",
    "cycle": "flow, heat bath, 2 over-relaxation",
    "transformed": "field-transformed HMC",
    "exchange": "replica exchange",
    "annealed": "annealing",
    "resampled": "annealing with resampling",
}
CHAINS, THERMAL, UPDATES = 16, 100, 400
FEWER = {"flow": (2, 0, 1000), "cycle": (2, 20, 250), "transformed": (4, 10, 60)}
"""Chains and updates, those to drop first, of samplers that take a flow."""
STAGES, PATHS, POPULATION = 40, 256, 16


class Point:
    """A theory in one precision, and the flow that was trained for it on 16x16."""

    def __init__(self, group: Group, beta: float, dtype: torch.dtype):
        self.group, self.beta, self.dtype = group, beta, dtype
        self.space = GaugeField(group, LATTICE)
        self.action = Wilson(self.space, beta)
        self.plaquette = average_plaquette(self.space)

    def flow(self):
        """Carried to these extents."""
        name = self.group.name.lower().replace("(", "").replace(")", "")
        return lattice_flows.load(f"{name}_2d_L16_beta{self.beta:g}").flow.on(LATTICE).to(self.dtype)

    def haar(self, streams: Streams) -> torch.Tensor:
        """Links to begin from."""
        return start(self.space, streams, dtype=self.dtype)


def sampler_of(name: str, point: Point):
    """A sampler of the table, before it is tuned."""
    action = point.action
    heat_bath, relaxed = HeatBath(action), (OverRelaxation(action), 2)
    match name:
        case "metropolis":
            return Metropolis(action, hits=5)
        case "hmc":
            return HMC(action)
        case "heat_bath":
            return heat_bath
        case "over_relaxed":
            return Cycle([heat_bath, relaxed])
        case "flow":
            return IndependenceMetropolis(point.flow(), action, batch=500)
        case "cycle":
            return Cycle([IndependenceMetropolis(point.flow(), action, batch=500), heat_bath, relaxed])
        case "transformed":
            return Transformed(point.flow(), action, lambda latent: HMC(latent, steps=2))
        case "exchange":
            return ReplicaExchange([HeatBath(point.action.at(0.8 * point.beta)), heat_bath])
    raise KeyError(f"no sampler of the table is called {name!r}; there are {', '.join(SAMPLERS)}")


def heat_bath_takes(links: torch.Tensor, point: Point, streams: Streams) -> torch.Tensor:
    """Thermalised links."""
    sampler = HeatBath(point.action)
    state = sampler.init(links)
    for _ in range(THERMAL):
        state, _ = sampler.step(state, streams)
    return state.x


def chain(name: str, point: Point, seed: int) -> tuple[float, float, dict]:
    """The plaquette along chains that begin with Haar links, or, of transformed HMC, where a heat bath takes them.

    To a flow, Haar links at a large coupling are so improbable that no trajectory in its latent links is accepted.
    """
    chains, thermal, updates = FEWER.get(name, (CHAINS, THERMAL, UPDATES))
    streams, sampler = Streams(seed, chains), sampler_of(name, point)
    links = point.haar(streams)
    if name == "transformed":
        links = heat_bath_takes(links, point, streams)
    state, series = sampler.init(links), []
    for update in range(thermal + updates):
        if name in ("hmc", "metropolis") and update == thermal // 2:
            sampler = sampler.tune(state, streams)
        state, _ = sampler.step(state, streams)
        if update >= thermal:
            here = state.states[-1] if name == "exchange" else state
            series.append(point.plaquette(here.x).double())
    measured = estimate(torch.stack(series, 1))
    return measured.value, measured.error, {"tau_int": round(measured.tau_int, 3)}


def annealed(name: str, point: Point, seed: int) -> tuple[float, float, dict]:
    """The plaquette, and log Z, from the weights of paths that begin with Haar links."""
    population = POPULATION if name == "resampled" else 1
    streams = Streams(seed, PATHS)
    betas = [point.beta * (stage + 1) / STAGES for stage in range(STAGES)]
    schedule = [HeatBath(point.action.at(beta)) for beta in betas]
    result = Annealing(schedule, population=population).run(point.haar(streams), streams)
    value, error = weighted_mean(point.plaquette(result.x), result.log_w, population)
    log_z, log_z_error = (x.item() for x in log_z_ratio(result.log_w, population))
    exact = log_partition(point.group, point.beta, LATTICE.volume)
    return value.item(), error.item(), {"log_z": [log_z, log_z_error, exact]}


def run(name: str, point: Point, seed: int) -> dict:
    """The result of a sampler, beside the exact value."""
    began = time.process_time()
    value, error, more = (annealed if name in ("annealed", "resampled") else chain)(name, point, seed)
    exact = exact_value("plaquette", point.action)
    return {
        "value": value,
        "error": error,
        "exact": exact,
        "pull": round((value - exact) / error, 2),
        **more,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def points() -> dict[str, tuple[Group, float, torch.dtype]]:
    """All points, by name."""
    return {
        f"{name} beta={beta:g} {bits}": (from_name(name), beta, dtype)
        for name, betas in COUPLINGS.items()
        for beta in betas
        for bits, dtype in DTYPES.items()
    }


def table(found: dict) -> str:
    """The rows of the README: pulls, and log Z from annealing."""
    head = [f"{name} {beta:g}" for name, betas in COUPLINGS.items() for beta in betas]
    lines = ["| sampler | " + " | ".join(head) + " |", "|---|" + "--:|" * len(head)]
    for name, words in SAMPLERS.items():
        cells = []
        for group, betas in COUPLINGS.items():
            for beta in betas:
                pulls = [found[f"{name} {group} beta={beta:g} {bits}"]["pull"] for bits in DTYPES]
                cells.append(" / ".join(f"{pull:.1f}" for pull in pulls))
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += ["", "| log Z | 64 bits | 32 bits | with resampling, 64 | 32 | exact |", "|---|--:|--:|--:|--:|--:|"]
    for group, betas in COUPLINGS.items():
        for beta in betas:
            entries = [
                found[f"{name} {group} beta={beta:g} {bits}"]["log_z"]
                for name in ("annealed", "resampled")
                for bits in DTYPES
            ]
            cells = [bracketed(value, error) for value, error, _ in entries]
            lines.append(f"| {group}, beta = {beta:g} | {' | '.join(cells)} | {entries[0][2]:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default=",".join(COUPLINGS))
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true", help="write what expected.json holds to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        found = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
        write_table(HERE, f"{table(found)}\n")
        return
    for name in arguments.samplers.split(","):
        for seed, (key, (group, beta, dtype)) in enumerate(points().items()):
            if group.name not in arguments.groups.split(","):
                continue
            entry = run(name, Point(group, beta, dtype), seed)
            print(f"{name} {key}", json.dumps(entry), flush=True)
            if arguments.out is not None:
                record(arguments.out, f"{name} {key}", entry)


if __name__ == "__main__":
    main()
