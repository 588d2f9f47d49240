"""The claims of experiments/topology: what chains found that are long enough is exact, and flows do not slow down."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "topology"
sys.path.insert(0, str(FOLDER))

import topology  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


def test_every_sampler_was_run_at_every_coupling():
    assert FOUND.keys() == {f"{kind} beta={beta}" for kind in topology.SAMPLERS for beta in topology.BETAS}


@pytest.mark.parametrize("name", [name for name, entry in FOUND.items() if entry["reliable"]])
@pytest.mark.parametrize("observable", ["charge_squared", "plaquette"])
def test_resolved_series_agree_with_the_exact_values(name, observable):
    value, error, exact = FOUND[name][observable]
    assert abs(value - exact) < 4 * error


@pytest.mark.parametrize("beta", topology.BETAS)
@pytest.mark.parametrize("kind", ["flow", "cycle"])
def test_flows_make_independent_charges(kind, beta):
    entry = FOUND[f"{kind} beta={beta}"]
    assert abs(entry["tau_int"] - 0.5) < 4 * entry["tau_int_error"]


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{topology.table(FOUND)}\n")


def test_a_chain_that_is_run_anew():
    """A few updates of the cheapest sampler give what is written down."""
    entry = topology.run("heat bath", beta=1, updates=100)
    value, error, exact = entry["plaquette"]
    assert abs(value - exact) < 4 * error
    claim = FOUND["heat bath beta=1"]
    assert abs(entry["tau_int"] - claim["tau_int"]) < 4 * (entry["tau_int_error"] + claim["tau_int_error"])
