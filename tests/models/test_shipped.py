"""The shipped models: small, loadable, what their names say, and with the densities that they were shipped with."""

import json
import re
from pathlib import Path

import pytest
import torch

import lattice_flows
from lattice_flows import models

ROOT = Path(__file__).parents[2]
# of `configurations`, in float64, by the code that trained the models
EXPECTED = json.loads(Path(__file__).with_name("shipped.json").read_text())


def configurations(space):
    """A rough and a smooth configuration, by arithmetic: no random numbers, no decomposition."""
    start = space.cold(2, dtype=torch.float64)
    components = space.components(torch.zeros_like(start))
    k = torch.arange(components[0].numel(), dtype=torch.float64)
    rough, smooth = 3.0 * torch.sin(1 + 0.7 * k + 1e-3 * k**2), 0.3 * torch.sin(2 + 0.6 * k)
    return space.move(start, space.directions(start, torch.stack([rough, smooth]).reshape(components.shape)))


@pytest.mark.parametrize("name", models.available())
def test_densities(name):
    model = lattice_flows.load(name)
    flow = model.flow.double()
    x = configurations(flow.space)
    with torch.no_grad():
        y, logdet = flow(x)
        found = {
            "logdet": logdet,
            "log_q": flow.log_prob(y),
            "action": model.action(y),
            "log_q_of_field": flow.log_prob(x),
            "action_of_field": model.action(x),
        }
    assert found.keys() == EXPECTED[name].keys()
    for quantity, values in found.items():
        expected = torch.tensor(EXPECTED[name][quantity], dtype=torch.float64)
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=0, msg=lambda text, q=quantity: f"{q}: {text}")


def test_all_densities_belong_to_a_model():
    assert EXPECTED.keys() == set(models.available())


@pytest.mark.parametrize("name", models.available())
def test_shipped_models(name):
    """They are small, load, are of the group, extents and coupling that their names say, and give finite weights."""
    assert models.find(name).stat().st_size < 1e6
    model = lattice_flows.load(name)
    assert model.name == name
    group, _, extent, beta = re.fullmatch(r"(u1|su\d+)_(\d)d_L(\d+)_beta(\d+(?:\.\d+)?)", name).groups()
    config = model.config
    assert config.lattice.group.replace("(", "").replace(")", "").lower() == group
    assert set(config.lattice.extents) == {int(extent)}
    assert config.action.beta == float(beta)
    assert 0 < model.facts.ess_error < model.facts.ess <= 1
    assert model.facts.training_cpu_minutes > 0
    x, log_q = model.flow.sample(2, generator=torch.Generator().manual_seed(0))
    assert (-model.action(x) - log_q).isfinite().all()


def test_size_of_all_shipped_models():
    assert sum(models.find(name).stat().st_size for name in models.available()) < 20e6


def test_models_named_in_the_readme_are_shipped():
    names = set(re.findall(r"\b(?:u1|su\d+)_\dd_L\d+_beta[\d.]*\d", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert names
    if models.available():
        assert names <= set(models.available())
