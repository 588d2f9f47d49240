"""The claims of experiments/control_variates: how much less plaquettes and correlators vary."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "control_variates"
sys.path.insert(0, str(FOLDER))

import gains  # noqa: E402
from tables import with_table  # noqa: E402

FOUND, CORRELATORS = gains.read("expected.json"), gains.read("expected_correlators.json")
SMEARED = gains.read("expected_smeared.json")["steps"]
LEAST = {"1.0": 3000, "2.0": 145, "3.0": 23, "6.0": 3.3, "6.5": 4.8}
"""At least so much is found."""


@pytest.mark.parametrize("beta", FOUND)
def test_plaquettes_gain(beta):
    """And the improved plaquette is that without control variates."""
    entry = FOUND[beta]
    assert entry["gain"] > LEAST[beta]
    assert abs(entry["plain"][0] - entry["improved"][0]) < 4 * entry["plain"][1]
    assert abs(entry["worst_pull"]) < 4


@pytest.mark.parametrize("beta", CORRELATORS)
def test_correlators_gain_on_both_sides(beta):
    """More than a slice, whose gain enters squared."""
    entry = CORRELATORS[beta]
    for gain, error in entry["gains"].values():
        assert gain > {"2.0": 1000, "5.7": 4, "6.0": 18}[beta]
        assert gain > entry["one_slice"] + 2 * error


@pytest.mark.parametrize("steps", SMEARED)
def test_correlators_of_smeared_slices_gain(steps):
    """The less, the more they are smeared."""
    entry = SMEARED[steps]
    gain, _ = entry["gains"]["t=2"]
    assert gain > {"2": 5, "5": 2, "10": 1.4}[steps]
    assert gain > entry["one_slice"]


def test_a_gain_that_is_measured_anew():
    entry, claim = gains.run(2.0, configurations=20), FOUND["2.0"]
    assert abs(entry["gain"] - claim["gain"]) < 4 * entry["gain_error"]
    error = (entry["improved"][1] ** 2 + claim["improved"][1] ** 2) ** 0.5
    assert abs(entry["improved"][0] - claim["improved"][0]) < 4 * error


def test_the_tables_are_those_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{gains.tables()}\n")
