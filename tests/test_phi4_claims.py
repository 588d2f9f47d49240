"""The claims of experiments/phi4: flow and HMC agree, the flow is accepted often enough, and its training is cheap."""

import json
import sys
from pathlib import Path

import pytest

from lattice_flows.config import load

FOLDER = Path(__file__).parents[1] / "experiments" / "phi4"
sys.path.insert(0, str(FOLDER))

import phi4  # noqa: E402
from tables import with_table  # noqa: E402

FOUND = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
CLAIMS = phi4.in_order(FOUND)


def test_every_lattice_is_there():
    assert [int(extent) for extent, _ in CLAIMS] == list(phi4.LAMBDAS)
    assert {int(extent): claim["lambda"] for extent, claim in CLAIMS} == phi4.LAMBDAS


@pytest.mark.parametrize(("extent", "claim"), CLAIMS, ids=list(phi4.LAMBDAS))
@pytest.mark.parametrize("name", phi4.NAMES)
def test_flow_and_hmc_agree(extent, claim, name):
    """Within four errors, which both are known; the error of the flow is small enough to mean something."""
    one, other = claim["flow"][name], claim["hmc"][name]
    assert one["reliable"]
    assert other["reliable"]
    assert abs(phi4.pull(claim, name)) < 4
    assert claim["pulls"][name] == round(phi4.pull(claim, name), 2)
    assert one["error"] < 0.05 * one["value"]


def test_pulls_are_of_the_size_of_errors():
    """The mean square over lattices is 1 within four standard errors, for each observable."""
    for name in phi4.NAMES:
        squares = [phi4.pull(claim, name) ** 2 for _, claim in CLAIMS]
        assert sum(squares) / len(squares) < 1 + 4 * (2 / len(squares)) ** 0.5


@pytest.mark.parametrize(("extent", "claim"), CLAIMS, ids=list(phi4.LAMBDAS))
def test_acceptance_and_cost(extent, claim):
    least = {6: 0.8, 14: 0.6}
    assert claim["acceptance"] >= least.get(int(extent), 0.6)
    first = 0.0 if int(extent) == phi4.FIRST else FOUND[str(phi4.FIRST)]["training_cpu_minutes"]
    assert claim["training_cpu_minutes"] + first <= 20


@pytest.mark.parametrize(("extent", "claim"), CLAIMS, ids=list(phi4.LAMBDAS))
def test_correlation_length(extent, claim):
    """The couplings were chosen for m_p L near 4."""
    mass = claim["hmc"]["pole_mass"]
    assert abs(int(extent) * mass["value"] - 4) < 0.1 + 4 * int(extent) * mass["error"]


def test_commands_fit_the_config():
    """Settings of the commands are those of the file; all but the first training begin from the first."""
    for extent in phi4.LAMBDAS:
        train, _, hmc = phi4.commands(extent, "runs/phi4")
        config = load(FOLDER / "config.toml", [word for word in train if "." in word and "=" in word])
        assert config.lattice.extents == (extent, extent)
        assert config.action.lambda_ == phi4.LAMBDAS[extent]
        assert config.training.steps == FOUND[str(extent)]["steps"]
        assert ("--from" in train) == (extent != phi4.FIRST)
        reference = load(FOLDER / "config.toml", [word for word in hmc if "." in word and "=" in word])
        assert reference.sampling.updates == ("hmc",)


def test_the_table_is_that_of_the_recorded_results():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(readme, phi4.table(FOUND))
