"""Measures gradient flows from Haar's measure against heat bath, and writes down what they claim.

    python experiments/haar_4d/measure.py RUN ... [-n 4096] [--out FILE]
    python experiments/haar_4d/measure.py --table

For each trained run: ESS both ways, log Z beside that of thermodynamic integration, the plaquette of weighted samples
beside that of heat bath, the error of the integrator by halved steps, and the CPU time of a sample. The flow makes
twice as many steps as in training, as fits use the errors of the integrator.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from lattice_flows.actions import Action
from lattice_flows.flows.gradient_flows import step_errors
from lattice_flows.models import Model
from lattice_flows.observables import standard_observables
from lattice_flows.reports.words import bracketed
from lattice_flows.runs import load_model
from lattice_flows.sampling import HeatBath, OverRelaxation, Streams, log_z_ratio, start, weighted_mean
from lattice_flows.statistics import Estimate, estimate, estimate_ess, forward_ess

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from integrate import integrated  # noqa: E402
from tables import record, write_table  # noqa: E402

BATCH, CHAINS, THERMALISE, EVERY, NODES = 32, 64, 50, 3, 6


def measure(model: Model, n: int, seed: int = 7) -> dict:
    """The claims of one model."""
    flow, action, dtype = model.flow, model.action, torch.float64
    flow.layers[0].steps *= 2
    plaquette = standard_observables(action.space)["plaquette"]
    generator, since = torch.Generator().manual_seed(seed), time.process_time()
    drawn = [flow.sample(BATCH, generator=generator) for _ in range(n // BATCH)]
    seconds = (time.process_time() - since) / n
    log_w = torch.cat([-action(y).double() - log_q.double() for y, log_q in drawn])
    share = estimate_ess(log_w)
    log_z, value = log_z_ratio(log_w), weighted_mean(torch.cat([plaquette(y) for y, _ in drawn]), log_w)
    series, links = heat_bath(action, Streams(seed, CHAINS), n // CHAINS, dtype)
    bath = estimate(series(plaquette))
    with torch.no_grad():
        back = torch.cat([-action(x).double() - flow.log_prob(x).double() for x in links.split(BATCH)])
    forward, forward_error = forward_ess(back)
    exact, exact_error = thermodynamic_log_z(action, seed)
    errors = step_errors(flow, action, flow.sample_prior(64, generator))
    return {
        "beta": action.beta, "training_cpu_minutes": round(model.facts.training_cpu_minutes, 1), "samples": len(log_w),
        "ess": share.value, "ess_error": share.error, "ess_warning": share.reason,
        "forward_ess": forward.item(), "forward_ess_error": forward_error.item(), "log_w_std": log_w.std().item(),
        "log_z": log_z[0].item(), "log_z_error": log_z[1].item(),
        "log_z_integrated": exact, "log_z_integrated_error": exact_error,
        "plaquette": value[0].item(), "plaquette_error": value[1].item(),
        "plaquette_heat_bath": bath.value, "plaquette_heat_bath_error": bath.error,
        "integrator_shift": -errors.mean().item(), "integrator_std": errors.std().item(),
        "milliseconds": 1e3 * seconds,
    }  # fmt: skip


def heat_bath(action: Action, streams: Streams, n: int, dtype: torch.dtype):
    """A function from observables to their series `(chains, n)`, and all configurations."""
    sweep, reflect = HeatBath(action), OverRelaxation(action)
    state, kept = sweep.init(start(action.space, streams, dtype=dtype)), []
    for update in range(THERMALISE + n * EVERY):
        state, _ = sweep.step(state, streams)
        state, _ = reflect.step(state, streams)
        if update >= THERMALISE and update % EVERY == 0:
            kept.append(state.x)
    return lambda observable: torch.stack([observable(x) for x in kept], 1).numpy(), torch.cat(kept)


def thermodynamic_log_z(action: Action, seed: int) -> tuple[float, float]:
    """log Z from the mean of -dS/dbeta at nodes in beta, with its error."""

    def mean(k: int, beta: float) -> Estimate:
        there = action.at(beta)
        series, _ = heat_bath(there, Streams(seed, CHAINS).branch("node", k), 100, torch.float64)
        return estimate(series(lambda x: -there(x) / there.beta))

    return integrated(mean, 0.0, action.beta, NODES)


def table(found: dict) -> str:
    """The rows of the README."""
    head = ["beta", "ESS", "forward ESS", "log Z", "integrated", "plaquette", "heat bath", "ms a sample", "CPU min"]
    pairs = ("ess", "forward_ess", "log_z", "log_z_integrated", "plaquette", "plaquette_heat_bath")
    rows = [
        [
            f"{own['beta']:g}", *(bracketed(own[name], own[f"{name}_error"]) for name in pairs),
            f"{own['milliseconds']:.1f}", f"{own['training_cpu_minutes']:.1f}",
        ]
        for own in found.values()
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("-n", type=int, default=4096, help="samples of the flow (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file that the claims are added to")
    parser.add_argument("--table", action="store_true", help="write what expected.json holds to README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        write_table(HERE, f"{table(json.loads((HERE / 'expected.json').read_text(encoding='utf-8')))}\n")
    for name in arguments.runs:
        claim = measure(load_model(name), arguments.n)
        print(name, json.dumps(claim, indent=1))
        if arguments.out is not None:
            record(arguments.out, f"beta = {claim['beta']:g}", claim)


if __name__ == "__main__":
    main()
