"""The claims of experiments/exact_2d: every sampler finds the exact values in both precisions."""

import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "experiments" / "exact_2d"
sys.path.insert(0, str(FOLDER))

import exact  # noqa: E402
from tables import with_table  # noqa: E402

from lattice_flows import SU  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
LOG_Z = {name: entry["log_z"] for name, entry in FOUND.items() if "log_z" in entry}


def test_every_sampler_was_run_at_every_point():
    assert FOUND.keys() == {f"{name} {point}" for name in exact.SAMPLERS for point in exact.points()}


@pytest.mark.parametrize("name", FOUND)
def test_plaquettes_are_exact(name):
    entry = FOUND[name]
    assert abs(entry["value"] - entry["exact"]) < 4 * entry["error"]
    assert entry["error"] < 0.02
    assert entry["pull"] == round((entry["value"] - entry["exact"]) / entry["error"], 2)


@pytest.mark.parametrize("name", LOG_Z)
def test_partition_functions_are_exact(name):
    value, error, right = LOG_Z[name]
    assert abs(value - right) < 4 * error


def test_errors_are_neither_too_small_nor_too_large():
    """The mean square of the pulls is 1 within four of its standard errors."""
    pulls = [entry["pull"] for entry in FOUND.values()]
    assert abs(sum(pull**2 for pull in pulls) / len(pulls) - 1) < 4 * (2 / len(pulls)) ** 0.5


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{exact.table(FOUND)}\n")


@pytest.mark.parametrize("name", ["heat_bath", "resampled"])
def test_a_sampler_that_is_run_anew(name):
    entry = exact.run(name, exact.Point(SU(2), 2.2, torch.float32), seed=100)
    assert abs(entry["pull"]) < 4
