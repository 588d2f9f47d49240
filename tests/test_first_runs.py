"""The configs of experiments/first_runs: every group, dimension and shape trains from the command line."""

import json
from pathlib import Path

import pytest

from lattice_flows import cli
from lattice_flows.config import load

FOLDER = Path(__file__).parents[1] / "experiments" / "first_runs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_thirty_steps_lower_the_loss(name, tmp_path, capsys):
    """In units of the scatter of the loss from step to step."""
    overrides = ["training.steps=30"] + (["training.batch=32"] if load(FOLDER / f"{name}.toml").training.batch > 64 else [])
    assert cli.main(["train", str(FOLDER / f"{name}.toml"), "--out", str(tmp_path / name), *overrides]) == 0
    loss = [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert len(loss) == 30
    first, last = loss[:5], loss[-10:]
    mean = sum(last) / 10
    scatter = (sum((x - mean) ** 2 for x in last) / 9) ** 0.5
    assert mean < sum(first) / 5 - 3 * scatter
    assert "trained for 30 steps" in capsys.readouterr().out
