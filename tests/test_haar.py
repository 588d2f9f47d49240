"""The claims of experiments/haar_3d and haar_4d: flows from Haar's measure find log Z and the plaquette."""

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import haar_between  # noqa: E402
import haar_plain  # noqa: E402
from tables import with_table  # noqa: E402

FOLDERS = [EXPERIMENTS / "haar_3d", EXPERIMENTS / "haar_4d"]
LEAST = {
    "SU(2) 4x4x4, beta = 1": 0.97, "SU(2) 4x4x4, beta = 1.5": 0.72, "SU(2) 4x4x4, beta = 2": 0.08,
    "SU(3) 4x4x4, beta = 2": 0.99, "SU(3) 4x4x4, beta = 3": 0.91,
    "SU(3) 4x4x4x4, beta = 1": 0.995, "SU(3) 4x4x4x4, beta = 2": 0.88,
}  # fmt: skip
"""The effective sample size is at least so much."""
LEAST_BETWEEN = {
    "SU(2) 4x4x4, beta = 1": 0.97, "SU(2) 4x4x4, beta = 1.5": 0.72, "SU(2) 4x4x4, beta = 2": 0.20,
    "SU(3) 4x4x4, beta = 2": 0.99, "SU(3) 4x4x4, beta = 3": 0.98, "SU(3) 4x4x4, beta = 4": 0.95,
    "SU(3) 4x4x4x4, beta = 1": 0.999, "SU(3) 4x4x4x4, beta = 2": 0.97, "SU(3) 4x4x4x4, beta = 3": 0.85,
}  # fmt: skip
"""The same with updates between layers."""


def claims(file):
    return [
        pytest.param(name, own, id=name)
        for folder in FOLDERS
        for name, own in json.loads((folder / file).read_text(encoding="utf-8")).items()
    ]


def agree(own, one, other):
    error = (own[f"{one}_error"] ** 2 + own[f"{other}_error"] ** 2) ** 0.5
    return abs(own[one] - own[other]) < 4 * error


@pytest.mark.parametrize(("name", "own"), claims("expected.json"))
def test_weights_find_log_z_and_the_plaquette(name, own):
    assert agree(own, "log_z", "log_z_integrated")
    assert agree(own, "plaquette", "plaquette_heat_bath")
    assert agree(own, "ess", "forward_ess")
    assert own["samples"] >= 4096
    assert abs(own["integrator_shift"]) < 0.01
    assert own["ess"] >= LEAST[name]


@pytest.mark.parametrize(("name", "own"), claims("expected_between.json"))
def test_paths_find_log_z_and_the_plaquette(name, own):
    assert agree(own, "log_z", "log_z_integrated")
    assert agree(own, "plaquette", "plaquette_heat_bath")
    assert own["samples"] >= 4096
    theory, _, stages = name.rpartition(", ")
    assert stages == f"{own['stages']} stages"
    assert own["ess"] >= LEAST_BETWEEN[theory]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize(
    ("program", "readme", "file"),
    [(haar_plain, "README.md", "expected.json"), (haar_between, "between.md", "expected_between.json")],
    ids=["plain", "between"],
)
def test_tables_are_those_of_the_recorded_results(folder, program, readme, file):
    text, found = (folder / readme).read_text(encoding="utf-8"), json.loads((folder / file).read_text(encoding="utf-8"))
    assert text == with_table(text, program.table(found))
