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
    begin = time.monotonic()
    train_run(config, folder, "demo.toml")
    trained = time.monotonic()
    sample_run(folder)
    sampled = time.monotonic()
    measure_run(folder)
    measured = time.monotonic()
    seconds = (
        f"training {trained - begin:.0f} s, sampling {sampled - trained:.0f} s, measuring {measured - sampled:.0f} s"
    )
    text = (Path(folder) / "report.txt").read_text(encoding="utf-8")
    return f"{text}\n{seconds}; everything is in {folder}\n"
