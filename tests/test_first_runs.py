"""The configs of experiments/: all load, and every group, dimension and shape trains from the command line."""

import json
from pathlib import Path

import pytest

from lattice_flows import cli
from lattice_flows.config import load
from lattice_flows.models import build_action, build_run
from lattice_flows.planar.exact import exact_value
from lattice_flows.reports.words import bracketed

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ALL = sorted(EXPERIMENTS.rglob("*.toml"))
FOLDER = EXPERIMENTS / "first_runs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_every_config_builds_its_flow(path):
    """No key of a config belongs to another architecture or update."""
    config, flow, action = build_run(load(path), str(path))
    assert flow.space == action.space
    assert action.space.lattice.extents == config.lattice.extents


@pytest.mark.parametrize("name", CONFIGS)
def test_thirty_steps_lower_the_loss(name, tmp_path, capsys):
    """In units of the scatter of the loss from step to step."""
    large = load(FOLDER / f"{name}.toml").training.batch > 64
    overrides = ["training.steps=30", *(["training.batch=32"] if large else [])]
    assert cli.main(["train", str(FOLDER / f"{name}.toml"), "--out", str(tmp_path / name), *overrides]) == 0
    loss = [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert len(loss) == 30
    first, last = loss[:5], loss[-10:]
    mean = sum(last) / 10
    scatter = (sum((x - mean) ** 2 for x in last) / 9) ** 0.5
    assert mean < sum(first) / 5 - 3 * scatter
    assert "trained for 30 steps" in capsys.readouterr().out


def test_recorded_results_are_those_of_the_readme_and_agree_with_the_exact_values():
    expected = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, report in expected.items():
        config, action = build_action(load(FOLDER / f"{name}.toml"), name)
        assert report["n"] > config.sampling.n
        for observable in ("plaquette", "wilson_loop_2x2"):
            entry = report["observables"][observable]
            exact = exact_value(observable, action)
            assert abs(entry["value"] - exact) < 4 * entry["error"]
            assert bracketed(entry["value"], entry["error"]) in readme
        assert bracketed(report["ess"], report["ess_error"]) in readme
