"""Writes down what annealings from Haar's measure claim, with heat bath between the layers, beside heat bath alone.

    python experiments/haar_4d/between.py RUN ... [--out FILE]
    python experiments/haar_4d/between.py --table

A run is that of `lattice-flows anneal`; the README has the commands.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from lattice_flows.io import read_report
from lattice_flows.models import build_action
from lattice_flows.observables import standard_observables
from lattice_flows.reports.words import bracketed
from lattice_flows.runs import load_run
from lattice_flows.sampling import Streams
from lattice_flows.statistics import estimate

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from measure import CHAINS, heat_bath, thermodynamic_log_z  # noqa: E402
from tables import record, with_table  # noqa: E402

README, FILE = HERE / "between.md", HERE / "expected_between.json"


def measure(folder: str, seed: int = 7) -> dict:
    """The claims of one run."""
    config, action = build_action(load_run(Path(folder)), folder)
    report, settings = read_report(Path(folder) / "report.json"), config.sampling
    series, _ = heat_bath(action, Streams(seed, CHAINS), report["paths"] // CHAINS, torch.float64)
    bath = estimate(series(standard_observables(action.space)["plaquette"]))
    exact, exact_error = thermodynamic_log_z(action, seed)
    found = {"log_z": report["log_z_ratio"], "plaquette": report["reweighted"]["plaquette"]}
    return {
        "beta": action.beta, "extents": list(config.lattice.extents), "group": config.lattice.group,
        "stages": settings.stages, "layers": settings.layers, "updates": list(settings.between),
        "dtype": config.training.dtype, "samples": report["paths"],
        "ess": report["ess"], "ess_error": report["ess_error"], "predicted_ess": report["predicted_ess"],
        "variance": report["work"]["variance"], "predicted_work": report["work"]["predicted"],
        **{name: own["value"] for name, own in found.items()},
        **{f"{name}_error": own["error"] for name, own in found.items()},
        "log_z_integrated": exact, "log_z_integrated_error": exact_error,
        "plaquette_heat_bath": bath.value, "plaquette_heat_bath_error": bath.error,
        "steps_mean": report["steps"]["mean"], "steps_deviation": report["steps"]["deviation"],
        "milliseconds": 1e3 * report["cost"]["cpu_seconds"],
        "fit_cpu_seconds": report["cost"]["fit_cpu_seconds"],
    }  # fmt: skip


def table(found: dict) -> str:
    """The rows of the README."""
    head = ["theory", "stages", "ESS", "expected", "log Z", "integrated", "plaquette", "heat bath", "ms a sample"]
    pairs = ("log_z", "log_z_integrated", "plaquette", "plaquette_heat_bath")
    rows = [
        [
            name, str(own["stages"]), bracketed(own["ess"], own["ess_error"]), f"{own['predicted_ess']:.4f}",
            *(bracketed(own[pair], own[f"{pair}_error"]) for pair in pairs), f"{own['milliseconds']:.1f}",
        ]
        for name, own in found.items()
    ]  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--out", type=Path, help="JSON file that the claims are added to")
    parser.add_argument("--table", action="store_true", help=f"write what {FILE.name} holds to {README.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        text = with_table(README.read_text(encoding="utf-8"), table(json.loads(FILE.read_text(encoding="utf-8"))))
        README.write_text(text, encoding="utf-8")
    for folder in arguments.runs:
        claim = measure(folder)
        sites = "x".join(map(str, claim["extents"]))
        name = f"{claim['group']} {sites}, beta = {claim['beta']:g}"
        print(name, json.dumps(claim, indent=1))
        if arguments.out is not None:
            record(arguments.out, name, claim)


if __name__ == "__main__":
    main()
