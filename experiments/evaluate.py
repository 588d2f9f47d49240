"""Measures a trained model against the exact theory, and writes down what it claims.

    python experiments/evaluate.py NAME ... [-n 16384] [--exact 4096] [--extent L] [--out FILE]

For each model, a shipped name or a run folder or a file: the effective sample size of n independent samples (reverse)
and that of exact, independent configurations (forward), which see what the model leaves out; then observables of an
independence chain of the n samples beside their exact values.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from tables import record

from lattice_flows.models import Model
from lattice_flows.observables import standard_observables
from lattice_flows.planar.exact import exact_value
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.runs import load_model
from lattice_flows.sampling import IndependenceMetropolis, Streams
from lattice_flows.statistics import ess, ess_error, estimate, forward_ess

BATCH = 128


def evaluate(model: Model, n: int, n_exact: int, seed: int = 7) -> dict:
    """The claims of a model: ESS both ways with errors, acceptance, observables with errors and exact values."""
    flow, action = model.flow, model.action
    generator = torch.Generator().manual_seed(seed)
    observables = standard_observables(action.space)
    sampler, streams = IndependenceMetropolis(flow, action, BATCH), Streams(seed, 1)
    state = sampler.begin(streams)
    log_w, accepted, moved = [], [], [state.x]
    # each accepted configuration is measured once; those along the chain are counted by what was accepted before
    distinct: dict[str, list[torch.Tensor]] = {name: [] for name in observables}
    for update in range(n):
        state, info = sampler.step(state, streams)
        log_w.append((info.log_w - info.action).double())
        accepted.append(info.accepted)
        moved += [state.x] if info.accepted else []
        if len(moved) == BATCH or update == n - 1:
            for name, observable in observables.items():
                distinct[name].append(observable(torch.cat(moved)) if moved else torch.empty(0))
            moved = []
    weights, chain = torch.cat(log_w), torch.cat(accepted).cumsum(0)
    claim = {
        "samples": len(weights),
        "ess": round(ess(weights).item(), 9),
        "ess_error": round(ess_error(weights).item(), 9),
        "acceptance": round(torch.cat(accepted).double().mean().item(), 9),
        "log_w_std": round(weights.std().item(), 9),
        "observables": {},
    }
    if n_exact:
        links = exact_samples(action, n_exact, generator=generator).to(action.space.dtype(torch.float32))
        with torch.no_grad():
            parts = [-action(part) - flow.log_prob(part) for part in links.split(BATCH)]
        value, error = forward_ess(torch.cat(parts))
        claim |= {
            "exact_samples": n_exact,
            "forward_ess": round(value.item(), 9),
            "forward_ess_error": round(error.item(), 9),
        }
    for name, parts in distinct.items():
        exact = exact_value(name, action)
        if exact is None:
            continue
        result = estimate(torch.cat(parts)[chain].double().numpy())
        claim["observables"][name] = {
            "value": result.value,
            "error": result.error,
            "exact": exact,
            "tau_int": result.tau_int,
            "tau_int_error": result.tau_int_error,
        }
    return claim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME")
    parser.add_argument("-n", type=int, default=16384, help="samples of the flow (%(default)s)")
    parser.add_argument("--exact", type=int, default=4096, help="exact configurations; 0 for none (%(default)s)")
    parser.add_argument("--extent", type=int, metavar="L", help="carry the flow to L x L first, without training")
    parser.add_argument("--out", type=Path, help="JSON file that the claims are added to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.models:
        model, key = load_model(name), Path(name).stem if name.endswith(".safetensors") else Path(name).name
        if arguments.extent is not None:
            lattice = (arguments.extent, arguments.extent)
            model = dataclasses.replace(model, flow=model.flow.on(lattice), action=model.action.on(lattice))
            key = f"{key} at L={arguments.extent}"
        claim = {
            "training_cpu_minutes": round(model.facts.training_cpu_minutes, 1),
            "step": model.facts.step,
            **evaluate(model, arguments.n, arguments.exact),
        }
        print(name, json.dumps(claim, indent=1))
        if arguments.out is not None:
            record(arguments.out, key, claim)


if __name__ == "__main__":
    main()
