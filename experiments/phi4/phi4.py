"""phi^4 in two dimensions at m_p L = 4: affine flows beside HMC on five lattices.

    python experiments/phi4/phi4.py --runs runs/phi4 --out experiments/phi4/expected.json
    python experiments/phi4/phi4.py --figure

For every lattice the first command trains a flow, makes an independence chain with it and chains of HMC, and adds the
results to the file. It goes on with runs that were stopped; `--extents 6,8` takes some of the lattices. Each lattice
costs the commands that `--commands` prints. The second draws figure.png and writes the table of README.md.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from lattice_flows import ScalarField
from lattice_flows.cli import main as lattice_flows
from lattice_flows.io import ChainFile, read_metrics
from lattice_flows.observables import scalar, standard_observables
from lattice_flows.reports.words import bracketed
from lattice_flows.statistics import estimate, jackknife
from lattice_flows.statistics.weights import ess, ess_error

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tables import record, write_table  # noqa: E402

LAMBDAS = {6: 6.975, 8: 6.008, 10: 5.55, 12: 5.276, 14: 5.113}
"""The couplings of M. S. Albergo, G. Kanwar, P. E. Shanahan, 1904.12072, with m^2 = -4 and m_p L near 4."""
FIRST = 6
"""The lattice that is trained from scratch; the other trainings begin from its flow."""
STEPS = {6: 2000, 8: 1500, 10: 1500, 12: 2000, 14: 2500}
"""Of the training."""
HMC = ['sampling.updates=["hmc"]', "sampling.start=cold", "sampling.chains=16", "sampling.trajectory=2.0"]
NAMES = {
    "susceptibility": "chi_2",
    "ising_energy": "E",
    "pole_mass": "m_p",
    "magnetisation": "|m|",
    "phi_squared": "phi^2",
}
"""The observables by their names in the table; the first three are those of the paper."""


def commands(extent: int, runs: str) -> list[list[str]]:
    """The commands for one lattice: train, sample, and HMC."""
    theory = [f"lattice.extents=[{extent},{extent}]", f"action.lambda={LAMBDAS[extent]}"]
    config, name = str(HERE.relative_to(Path.cwd()) if HERE.is_relative_to(Path.cwd()) else HERE), f"{runs}_L{extent}"
    begin = [] if extent == FIRST else ["--from", f"{runs}_L{FIRST}"]
    return [
        ["train", f"{config}/config.toml", *theory, f"training.steps={STEPS[extent]}", *begin, "--out", name],
        ["sample", name],
        ["sample", f"{config}/config.toml", *theory, *HMC, "-n", "4000", "--out", f"{name}_hmc"],
    ]


def averaged(space: ScalarField, path: Path) -> dict[str, np.ndarray]:
    """Series `(chains, n, ...)` of all observables and of the correlator, averaged over directions."""
    chains, observables = ChainFile(path), standard_observables(space)
    rows = torch.cat(list(chains.configurations())).double()
    directions = [scalar.zero_momentum_correlator(space, mu) for mu in range(space.dim)]
    values = {name: observable(rows) for name, observable in observables.items()}
    values["correlator"] = torch.stack([correlator(rows) for correlator in directions]).mean(0)
    return {name: chains.expand(value.numpy()).swapaxes(0, 1) for name, value in values.items()}


def mass(correlator: np.ndarray) -> float:
    """m_p: the mean of the effective masses from t = 2 to L - 2, where excited states are gone."""
    return float(scalar.pole_mass(correlator)[1:-1].mean())


def measured(space: ScalarField, path: Path) -> dict[str, dict[str, float]]:
    """Every observable of an ensemble with error and tau_int."""
    series, found = averaged(space, path), {}
    for name in standard_observables(space):
        result = estimate(series[name])
        found[name] = {"value": result.value, "error": result.error, "tau_int": result.tau_int}
        found[name] |= {"tau_int_error": result.tau_int_error, "reliable": result.reliable}
    derived = jackknife(mass, list(series["correlator"]))
    found["pole_mass"] = {"value": float(derived.value), "error": float(derived.error), "reliable": derived.reliable}
    return found


def minutes(path: Path) -> float:
    """CPU minutes that a file of costs sums up to."""
    return sum(entry["cpu_seconds"] for entry in read_metrics(path)) / 60


def evaluate(extent: int, runs: str) -> dict:
    """The claim of one lattice, from the folders of its runs."""
    flow, hmc, space = Path(f"{runs}_L{extent}"), Path(f"{runs}_L{extent}_hmc"), ScalarField((extent, extent))
    chains, reference = ChainFile(flow / "ensemble.h5"), ChainFile(hmc / "ensemble.h5")
    log_w = chains.series("proposals/log_w").ravel() - chains.series("proposals/action").ravel()
    weights = torch.from_numpy(log_w).double()
    claim = {
        "lambda": LAMBDAS[extent],
        "steps": STEPS[extent],
        "training_cpu_minutes": round(minutes(flow / "metrics.jsonl"), 2),
        "ess": ess(weights).item(),
        "ess_error": ess_error(weights).item(),
        "samples": len(weights),
        "hmc_samples": reference.chains * len(reference),
        "acceptance": float(chains.series("acceptance").mean()),
        "hmc_acceptance": float(reference.series("acceptance").mean()),
        "milliseconds": 60_000 * minutes(flow / "sampling.jsonl") / len(weights),
        "hmc_milliseconds": 60_000 * minutes(hmc / "sampling.jsonl") / (reference.chains * len(reference)),
        "flow": measured(space, flow / "ensemble.h5"),
        "hmc": measured(space, hmc / "ensemble.h5"),
    }
    return claim | {"pulls": {name: round(pull(claim, name), 2) for name in NAMES}}


def pull(claim: dict, name: str) -> float:
    """The difference of flow and HMC in units of its error."""
    one, other = claim["flow"][name], claim["hmc"][name]
    return (one["value"] - other["value"]) / (one["error"] ** 2 + other["error"] ** 2) ** 0.5


def in_order(found: dict) -> list[tuple[str, dict]]:
    """The claims by extent."""
    return sorted(found.items(), key=lambda item: int(item[0]))


def table(found: dict) -> str:
    """The rows of the README."""
    head = ["L", "lambda", "acceptance", "ESS", "CPU min", "tau_int of chi_2: flow", "HMC"]
    shown = list(NAMES)[:3]
    head += [f"{NAMES[name]}: {kind}" for name in shown for kind in ("flow", "HMC")]
    lines = [head, ["---"] * len(head)]
    for key, claim in in_order(found):
        taus = [claim[kind]["susceptibility"] for kind in ("flow", "hmc")]
        row = [key, f"{claim['lambda']:g}", f"{claim['acceptance']:.3f}", bracketed(claim["ess"], claim["ess_error"])]
        row += [f"{claim['training_cpu_minutes']:.1f}"] + [bracketed(t["tau_int"], t["tau_int_error"]) for t in taus]
        for name in shown:
            row += [bracketed(claim[kind][name]["value"], claim[kind][name]["error"]) for kind in ("flow", "hmc")]
        lines.append(row)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(found: dict) -> Figure:
    """Acceptance and tau_int of chi_2 against L, and m_p L of both."""
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    rates, times, masses = figure.subplots(1, 3)
    found = dict(in_order(found))
    extents = [int(key) for key in found]
    rates.plot(extents, [claim["acceptance"] for claim in found.values()], "o-", label="acceptance")
    spread = [claim["ess_error"] for claim in found.values()]
    rates.errorbar(extents, [claim["ess"] for claim in found.values()], spread, fmt="s--", label="ESS")
    rates.set(xlabel="L", ylim=(0, 1.03), title="affine flow")
    rates.legend()
    for kind, style, shift in (("flow", "o-", -0.08), ("hmc", "s--", 0.08)):
        taus = [claim[kind]["susceptibility"] for claim in found.values()]
        label = {"flow": "flow", "hmc": "HMC"}[kind]
        at = [extent + shift for extent in extents]
        bars = [[entry[key] for entry in taus] for key in ("tau_int", "tau_int_error")]
        times.errorbar(at, *bars, fmt=style, ms=4, label=label)
        entries = [(extent, claim[kind]["pole_mass"]) for extent, claim in zip(extents, found.values(), strict=True)]
        bars = [[extent * entry[key] for extent, entry in entries] for key in ("value", "error")]
        masses.errorbar(at, *bars, fmt=style, ms=4, label=label)
    times.set(xlabel="L", ylabel="tau_int of chi_2 in updates", ylim=(0, None))
    masses.set(xlabel="L", ylabel="m_p L", ylim=(3.8, 4.2))
    for axes in (rates, times, masses):
        axes.set_xticks(extents)
    masses.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extents", default=",".join(map(str, LAMBDAS)))
    parser.add_argument("--runs", default="runs/phi4", help="beginning of the names of the folders (%(default)s)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--commands", action="store_true", help="print the commands and do nothing")
    parser.add_argument("--figure", action="store_true", help="draw and write the contents of expected.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.figure:
        found = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
        draw(found).savefig(HERE / "figure.png", dpi=120, metadata={"Software": ""})
        write_table(HERE, table(found))
        return
    for extent in map(int, arguments.extents.split(",")):
        for command in commands(extent, arguments.runs):
            print("lattice-flows", shlex.join(command), flush=True)
            if not arguments.commands and (code := lattice_flows(command)):
                sys.exit(code)
        if not arguments.commands:
            claim = evaluate(extent, arguments.runs)
            print(json.dumps(claim, indent=1), flush=True)
            if arguments.out is not None:
                record(arguments.out, str(extent), claim)


if __name__ == "__main__":
    main()
