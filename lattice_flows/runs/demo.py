"""The demonstration: a run from training to its report in less than a minute."""

import time
from importlib import resources
from pathlib import Path

from lattice_flows.config import loads
from lattice_flows.runs.measure import measure_run
from lattice_flows.runs.sample import sample_run
from lattice_flows.runs.train import train_run


def demo(folder: str | Path) -> str:
    """Train, sample and measure U(1) on 8x8 at beta = 2 in a folder; return the report, with exact values."""
    source = resources.files("lattice_flows.runs") / "demo.toml"
    config = loads(source.read_text(encoding="utf-8"), "demo.toml")
    stages = {
        "training": lambda: train_run(config, folder, "demo.toml"),
        "sampling": lambda: sample_run(folder),
        "measuring": lambda: measure_run(folder),
    }
    seconds = []
    for name, stage in stages.items():
        start = time.monotonic()
        stage()
        seconds.append(f"{name} {time.monotonic() - start:.0f} s")
    text = (Path(folder) / "report.txt").read_text(encoding="utf-8")
    return f"{text}\n{', '.join(seconds)}; everything is in {folder}\n"
