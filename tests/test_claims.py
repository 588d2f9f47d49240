"""The claims of experiments/: shipped models still have the effective sample size that was written down for them."""

import json
import sys
from pathlib import Path

import pytest
import torch

import lattice_flows
from lattice_flows import models
from lattice_flows.observables import standard_observables
from lattice_flows.planar.exact import exact_value
from lattice_flows.statistics import ess, ess_error

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import tables  # noqa: E402

CLAIMS = {
    name: claim
    for folder in tables.FOLDERS
    for name, claim in json.loads((EXPERIMENTS / folder / "expected.json").read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize("name", models.available())
def test_a_shipped_model_is_as_good_as_its_claim(name):
    """On fresh samples: the ESS within five errors, the reweighted plaquette within four of the exact value."""
    model, claim = lattice_flows.load(name), CLAIMS[name]
    links, log_q = model.flow.sample(512, generator=torch.Generator().manual_seed(11))
    log_w = (-model.action(links) - log_q).double()
    error = max(ess_error(log_w, blocks=32).item(), (1 - claim["ess"]) * (2 / len(log_w)) ** 0.5)
    assert abs(ess(log_w).item() - claim["ess"]) < 5 * (error + claim["ess_error"])
    weights = log_w.softmax(0)
    plaquette = standard_observables(model.action.space)["plaquette"](links).double()
    mean = (weights * plaquette).sum()
    scatter = (weights**2 * (plaquette - mean) ** 2).sum().sqrt()
    exact = exact_value("plaquette", model.action)
    assert abs(mean - exact) < 4 * scatter


@pytest.mark.parametrize("name", CLAIMS)
def test_recorded_observables_agree_with_the_exact_values(name):
    for observable, entry in CLAIMS[name]["observables"].items():
        assert abs(entry["value"] - entry["exact"]) < 4 * entry["error"], observable


@pytest.mark.parametrize("name", [name for name in CLAIMS if "forward_ess" in CLAIMS[name]])
def test_nothing_of_the_target_is_left_out(name):
    """The effective sample size is the same on samples of the model and on exact configurations."""
    claim = CLAIMS[name]
    error = (claim["ess_error"] ** 2 + claim["forward_ess_error"] ** 2) ** 0.5
    assert abs(claim["ess"] - claim["forward_ess"]) < 4 * error


def test_tables_are_those_of_the_recorded_results():
    for folder in tables.FOLDERS:
        readme = (EXPERIMENTS / folder / "README.md").read_text(encoding="utf-8")
        assert readme == tables.with_table(readme, tables.markdown(tables.rows(folder)))
    readme = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    assert readme == tables.with_table(readme, tables.markdown(tables.index()))
