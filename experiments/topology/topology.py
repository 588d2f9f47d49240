"""Critical slowing down: tau_int of the topological charge of U(1) on 16x16 by four samplers, and what it costs.

    python experiments/topology/topology.py --out experiments/topology/expected.json
    python experiments/topology/topology.py --figure

The first command runs the chains, which begin from exact configurations, and adds what it finds to the file; the second
draws figure.png and writes the table of README.md from it. `--betas 1,2` and `--updates 500` make it shorter.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

import lattice_flows
from lattice_flows.actions import Wilson
from lattice_flows.groups import U1
from lattice_flows.lattice import GaugeField
from lattice_flows.observables import average_plaquette, topological_charge
from lattice_flows.planar.exact import exact_value
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.reports.words import bracketed
from lattice_flows.sampling import HMC, Cycle, HeatBath, IndependenceMetropolis, OverRelaxation, Streams
from lattice_flows.statistics import estimate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import record, write_table  # noqa: E402

SPACE = GaugeField(U1(), (16, 16))
BETAS = (1, 2, 3, 4, 5, 6, 7)
SAMPLERS = {
    "HMC": "HMC, trajectories of length 1, tuned to an acceptance of 0.8",
    "heat bath": "heat bath, then four over-relaxation sweeps",
    "flow": "independence Metropolis",
    "cycle": "one flow proposal, one heat bath, two over-relaxation sweeps",
}
CHAINS = {"HMC": 16, "heat bath": 16, "flow": 1, "cycle": 4}
"""As many as make a good use of the processor."""


def sampler_of(kind: str, model, action: Wilson, state_links, streams: Streams):
    """The sampler of a kind; HMC is tuned from these links."""
    if kind == "HMC":
        begun = HMC(action, steps=10)
        return begun.tune(begun.init(state_links), streams)
    flow = IndependenceMetropolis(model.flow, action, batch=500)
    relaxed = OverRelaxation(action)
    sweeps = Cycle([HeatBath(action), (relaxed, 4)])
    return {"heat bath": sweeps, "flow": flow, "cycle": Cycle([flow, HeatBath(action), (relaxed, 2)])}[kind]


def run(kind: str, beta: int, updates: int, seed: int = 5) -> dict:
    """tau_int of Q, what the chains found beside the exact values, and CPU seconds a configuration and an update."""
    model = lattice_flows.load(f"u1_2d_L16_beta{beta}")
    action = Wilson(SPACE, beta)
    chains = CHAINS[kind]
    streams = Streams(seed, chains)
    links = exact_samples(action, chains, generator=torch.Generator().manual_seed(seed)).float()
    sampler = sampler_of(kind, model, action, links, streams)
    state = sampler.init(links)
    charge, plaquette = topological_charge(SPACE), average_plaquette(SPACE)
    charges, plaquettes, accepted, spent = [], [], 0.0, 0.0
    for _ in range(updates):
        begin = time.process_time()
        state, info = sampler.step(state, streams)
        spent += time.process_time() - begin
        accepted += info.acceptance.mean().item() / updates
        charges.append(charge(state.x).round())
        plaquettes.append(plaquette(state.x))
    q, p = (torch.stack(series, 1).double().numpy() for series in (charges, plaquettes))
    topology, squared, mean = estimate(q), estimate(q**2), estimate(p)
    tunnelled = int((abs(q[:, 1:] - q[:, :-1]) > 0).sum())
    return {
        "chains": chains,
        "updates": updates,
        "acceptance": round(accepted, 4),
        "changes_of_q": tunnelled,
        "frozen": len(topology.frozen) == chains,
        "reliable": topology.reliable,
        "tau_int": None if math.isnan(topology.tau_int) else round(topology.tau_int, 4),
        "tau_int_error": None if math.isnan(topology.tau_int) else round(topology.tau_int_error, 4),
        "charge_squared": [squared.value, squared.error, exact_value("topological_charge_squared", action)],
        "plaquette": [mean.value, mean.error, exact_value("plaquette", action)],
        "cpu_seconds_per_update": spent / (updates * chains),
        "training_cpu_seconds": round(60 * model.facts.training_cpu_minutes, 1) if kind in ("flow", "cycle") else 0.0,
    }


def betas_of(found: dict) -> list[int]:
    """The couplings at which all samplers were run."""
    return [beta for beta in BETAS if all(f"{kind} beta={beta}" in found for kind in SAMPLERS)]


def tau(entry: dict) -> str:
    """In words where there is no number."""
    if entry["frozen"]:
        return "frozen"
    if not entry["reliable"]:
        return f"not resolved ({entry['changes_of_q']} changes of Q)"
    return bracketed(entry["tau_int"], entry["tau_int_error"])


def cost(entry: dict) -> float | None:
    """CPU seconds for an independent configuration, 2 tau_int updates of one chain."""
    if entry["frozen"] or not entry["reliable"]:
        return None
    return 2 * entry["tau_int"] * entry["cpu_seconds_per_update"]


def table(found: dict) -> str:
    """The rows of the README."""
    lines = ["| beta | " + " | ".join(f"{kind}: tau_int(Q) | ms" for kind in SAMPLERS) + " |"]
    lines.append("|---|" + "---|" * (2 * len(SAMPLERS)))
    for beta in betas_of(found):
        cells = []
        for kind in SAMPLERS:
            entry = found[f"{kind} beta={beta}"]
            milliseconds = cost(entry)
            cells += [tau(entry), "-" if milliseconds is None else f"{1000 * milliseconds:.3g}"]
        lines.append(f"| {beta} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(found: dict) -> Figure:
    """tau_int, and the cost of an independent configuration, against beta; what is not resolved is left out."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, kind in enumerate(SAMPLERS):
        rows = [(beta, found[f"{kind} beta={beta}"]) for beta in betas_of(found)]
        rows = [(beta, entry) for beta, entry in rows if cost(entry) is not None]
        betas = [beta for beta, _ in rows]
        taus, errors = ([entry[key] for _, entry in rows] for key in ("tau_int", "tau_int_error"))
        left.errorbar(betas, taus, errors, fmt="o-", ms=4, color=f"C{number}", label=kind)
        right.plot(betas, [1000 * cost(entry) for _, entry in rows], "o-", ms=4, color=f"C{number}")
        lost = [beta for beta in betas_of(found) if beta not in betas]
        if lost:
            left.plot(
                lost, [0.97 - 0.05 * number] * len(lost), "x", color=f"C{number}", transform=left.get_xaxis_transform()
            )
    left.axhline(0.5, color="k", linestyle=":", linewidth=0.8)
    left.set(
        xlabel="beta", ylabel="tau_int(Q) in updates", yscale="log", ylim=(0.3, 3e4), title="x: frozen, or not resolved"
    )
    right.set(
        xlabel="beta",
        ylabel="CPU ms for an independent Q",
        yscale="log",
        ylim=(0.3, 3e4),
        title="training not included",
    )
    for axes in (left, right):
        axes.set_xticks(betas_of(found))
    left.legend(fontsize=8, loc="upper left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--betas", default=",".join(map(str, BETAS)))
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--updates", type=int, default=5000, help="of each chain; of the one of the flow, four times")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", action="store_true", help="draw and write what expected.json holds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.figure:
        found = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
        draw(found).savefig(HERE / "figure.png", dpi=120, metadata={"Software": ""})
        write_table(HERE, f"{table(found)}\n")
        return
    for beta in map(int, arguments.betas.split(",")):
        for kind in arguments.samplers.split(","):
            entry = run(kind, beta, arguments.updates * (4 if kind == "flow" else 1))
            print(f"{kind} beta={beta}", json.dumps(entry), flush=True)
            if arguments.out is not None:
                record(arguments.out, f"{kind} beta={beta}", entry)


if __name__ == "__main__":
    main()
