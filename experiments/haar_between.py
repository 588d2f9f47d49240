"""Writes down what annealings from Haar's measure claim, with heat bath between the layers, beside heat bath alone.

    python experiments/haar_between.py RUN ... [--out FILE]
    python experiments/haar_between.py --table FOLDER

A run is that of `lattice-flows anneal`; the folders' between.md have the commands. With --table that of a folder gets
the table of what its expected_between.json holds.
"""

from pathlib import Path

import torch
from haar_plain import CHAINS, heat_bath, thermodynamic_log_z
from tables import markdown, measuring_program, theory

from lattice_flows.io import read_report
from lattice_flows.models import build_action
from lattice_flows.observables import standard_observables
from lattice_flows.reports.words import bracketed
from lattice_flows.runs import load_run
from lattice_flows.sampling import Streams
from lattice_flows.statistics import estimate


def measure(folder: str, seed: int = 7) -> tuple[str, dict]:
    """The theory and the stages of one run, and its claims."""
    config, action = build_action(load_run(Path(folder)), folder)
    report, settings = read_report(Path(folder) / "report.json"), config.sampling
    series, _ = heat_bath(action, Streams(seed, CHAINS), report["paths"] // CHAINS, torch.float64)
    bath = estimate(series(standard_observables(action.space)["plaquette"]))
    exact, exact_error = thermodynamic_log_z(action, seed)
    found = {"log_z": report["log_z_ratio"], "plaquette": report["reweighted"]["plaquette"]}
    return f"{theory(action)}, {settings.stages} stages", {
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
    """The rows of a README."""
    pairs = {
        "log Z": "log_z", "integrated": "log_z_integrated",
        "plaquette": "plaquette", "heat bath": "plaquette_heat_bath",
    }  # fmt: skip
    return markdown(
        [
            {
                "theory": name,
                "ESS": bracketed(own["ess"], own["ess_error"]),
                "expected": f"{own['predicted_ess']:.4f}",
                **{head: bracketed(own[key], own[f"{key}_error"]) for head, key in pairs.items()},
                "ms a sample": f"{own['milliseconds']:.3g}",
            }
            for name, own in found.items()
        ]
    )


if __name__ == "__main__":
    measuring_program(__doc__, measure, table, "between.md", "expected_between.json")
