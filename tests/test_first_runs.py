"""The configs of experiments/first_runs: every group, dimension and shape trains from the command line."""

import json
from pathlib import Path

import pytest

from lattice_flows import cli
from lattice_flows.config import load
from lattice_flows.groups import from_name
from lattice_flows.measurement import exact_value
from lattice_flows.report import bracketed

FOLDER = Path(__file__).parents[1] / "experiments" / "first_runs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.toml"))


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
        config = load(FOLDER / f"{name}.toml")
        assert report["n"] > config.sampling.n
        for observable in ("plaquette", "wilson_loop_2x2"):
            entry = report["observables"][observable]
            exact = exact_value(
                observable,
                from_name(config.lattice.group),
                config.action.beta,
                config.lattice.sites,
                config.action.name,
            )
            assert abs(entry["value"] - exact) < 4 * entry["error"]
            assert bracketed(entry["value"], entry["error"]) in readme
        assert bracketed(report["ess"], report["ess_error"]) in readme
