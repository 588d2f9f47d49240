"""Measures gradient flows from Haar's measure against heat bath, and writes down what they claim.

    python experiments/haar_plain.py RUN ... [--out FILE]
    python experiments/haar_plain.py --table FOLDER

For each trained run: ESS both ways, log Z beside that of thermodynamic integration, the plaquette of weighted samples
beside that of heat bath, the error of the integrator by halved steps, and the CPU time of a sample. The flow makes
more steps than in training, as fits use the errors of the integrator. With --table the README of a folder gets
the table of what its expected.json holds.
"""

import time

import torch
from integrate import integrated
from tables import markdown, measuring_program, theory

from lattice_flows.actions import Action
from lattice_flows.flows.gradient_flows import step_errors
from lattice_flows.observables import standard_observables
from lattice_flows.reports.words import bracketed
from lattice_flows.runs import load_model
from lattice_flows.sampling import HeatBath, OverRelaxation, Streams, log_z_ratio, start, weighted_mean
from lattice_flows.statistics import Estimate, estimate, estimate_ess, forward_ess

SAMPLES, BATCH, STEPS, CHAINS, THERMALISE, EVERY, NODES = 4096, 32, 12, 64, 50, 3, 6


def measure(run: str, seed: int = 7) -> tuple[str, dict]:
    """The theory of one run, and its claims."""
    model = load_model(run)
    flow, action, dtype = model.flow, model.action, torch.float64
    flow.layers[0].steps = STEPS
    plaquette = standard_observables(action.space)["plaquette"]
    generator, since = torch.Generator().manual_seed(seed), time.process_time()
    drawn = [flow.sample(BATCH, generator=generator) for _ in range(SAMPLES // BATCH)]
    seconds = (time.process_time() - since) / SAMPLES
    log_w = torch.cat([-action(y).double() - log_q.double() for y, log_q in drawn])
    share = estimate_ess(log_w)
    log_z, value = log_z_ratio(log_w), weighted_mean(torch.cat([plaquette(y) for y, _ in drawn]), log_w)
    series, links = heat_bath(action, Streams(seed, CHAINS), SAMPLES // CHAINS, dtype)
    bath = estimate(series(plaquette))
    with torch.no_grad():
        back = torch.cat([-action(x).double() - flow.log_prob(x).double() for x in links.split(BATCH)])
    forward, forward_error = forward_ess(back)
    exact, exact_error = thermodynamic_log_z(action, seed)
    errors = step_errors(flow, action, flow.sample_prior(64, generator))
    return theory(action), {
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
    """The rows of a README."""
    pairs = {
        "ESS": "ess", "forward ESS": "forward_ess", "log Z": "log_z", "integrated": "log_z_integrated",
        "plaquette": "plaquette", "heat bath": "plaquette_heat_bath",
    }  # fmt: skip
    return markdown(
        [
            {
                "theory": name,
                **{head: bracketed(own[key], own[f"{key}_error"]) for head, key in pairs.items()},
                "ms a sample": f"{own['milliseconds']:.3g}",
                "CPU min": f"{own['training_cpu_minutes']:.1f}",
            }
            for name, own in found.items()
        ]
    )


if __name__ == "__main__":
    measuring_program(__doc__, measure, table)
