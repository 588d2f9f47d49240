"""The claims of experiments/field_transformation: transformed HMC is exact, and takes more time than HMC."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "field_transformation"
sys.path.insert(0, str(FOLDER))

import transformed  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
MAPPED = [name for name in FOUND if not name.endswith(": HMC")]


def plain(name):
    """The entry of HMC for the same theory."""
    return FOUND[f"{name.partition(': ')[0]}: HMC"]


@pytest.mark.parametrize("name", MAPPED)
def test_means_are_those_of_hmc(name):
    for key in ("plaquette", "E"):
        one, other = FOUND[name]["observables"][key], plain(name)["observables"][key]
        assert abs(one["value"] - other["value"]) < 4 * (one["error"] ** 2 + other["error"] ** 2) ** 0.5
    assert FOUND[name]["steps_std"] < 0.01


@pytest.mark.parametrize("name", MAPPED)
def test_time_is_lost(name):
    ratio, error = transformed.against(FOUND[name], plain(name), "E")
    assert ratio - 2 * error > 10


def test_both_orders_were_run_for_both_theories():
    for theory in transformed.THEORIES:
        assert {f"{theory}: {kind}" for kind in ("HMC", "LO, 1", "NLO, 1", "LO, 2", "NLO, 2")} <= FOUND.keys()


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{transformed.table(FOUND)}\n")


@pytest.mark.slow
def test_a_chain_that_is_run_anew():
    name = "SU(2), 8^3, beta = 6"
    entry, claim = transformed.run(name, "HMC", seconds=0.5), FOUND[f"{name}: HMC"]
    one, other = entry["observables"]["plaquette"], claim["observables"]["plaquette"]
    assert abs(one["value"] - other["value"]) < 4 * (one["error"] ** 2 + other["error"] ** 2) ** 0.5
