"""The claims of experiments/thermal: two algorithms find the same plaquettes."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "thermal"
sys.path.insert(0, str(FOLDER))

import agreement  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FOUND)
def test_two_algorithms_agree(name):
    one, other = FOUND[name]["heat_bath"], FOUND[name]["hmc"]
    error = (one["error"] ** 2 + other["error"] ** 2) ** 0.5
    assert abs(one["value"] - other["value"]) < 4 * error
    assert error < 0.002
    assert FOUND[name]["pull"] == round((one["value"] - other["value"]) / error, 2)


def test_pulls_are_of_the_size_of_errors():
    """Their mean square is 1 within four of its standard errors."""
    pulls = [entry["pull"] for entry in FOUND.values()]
    assert abs(sum(pull**2 for pull in pulls) / len(pulls) - 1) < 4 * (2 / len(pulls)) ** 0.5


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{agreement.table(FOUND)}\n")
