"""The claims of experiments/haar_4d: gradient flows from Haar's measure find log Z and the plaquette."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "haar_4d"
sys.path.insert(0, str(FOLDER))

import between  # noqa: E402
import measure  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
LEAST = {1: 0.995, 2: 0.88}
"""The effective sample size is at least so much."""


@pytest.mark.parametrize("name", FOUND)
def test_weights_find_log_z_and_the_plaquette(name):
    own = FOUND[name]
    for one, other in (("log_z", "log_z_integrated"), ("plaquette", "plaquette_heat_bath")):
        error = (own[f"{one}_error"] ** 2 + own[f"{other}_error"] ** 2) ** 0.5
        assert abs(own[one] - own[other]) < 4 * error
    assert abs(own["ess"] - own["forward_ess"]) < 4 * (own["ess_error"] ** 2 + own["forward_ess_error"] ** 2) ** 0.5
    assert own["samples"] >= 4096
    assert abs(own["integrator_shift"]) < 0.01
    assert own["ess"] >= LEAST[own["beta"]]


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, f"{measure.table(FOUND)}\n")


BETWEEN = json.loads(between.FILE.read_text(encoding="utf-8"))
LEAST_BETWEEN = {
    "SU(3) 4x4x4x4, beta = 1": 0.999, "SU(3) 4x4x4x4, beta = 2": 0.97, "SU(3) 4x4x4x4, beta = 3": 0.85,
    "SU(3) 4x4x4, beta = 2": 0.99,
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN)
def test_paths_find_log_z_and_the_plaquette(name):
    own = BETWEEN[name]
    for one, other in (("log_z", "log_z_integrated"), ("plaquette", "plaquette_heat_bath")):
        assert abs(own[one] - own[other]) < 4 * (own[f"{one}_error"] ** 2 + own[f"{other}_error"] ** 2) ** 0.5
    assert own["samples"] >= 4096
    assert own["ess"] >= LEAST_BETWEEN[name]


def test_the_table_of_paths_is_that_of_the_recorded_results():
    readme = between.README.read_text(encoding="utf-8")
    assert readme == with_table(readme, between.table(BETWEEN))
