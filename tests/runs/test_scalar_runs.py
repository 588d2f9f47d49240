"""Runs of a scalar field: the same commands, files and reports as those of links."""

import json
import math
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command_line import fails, out

import lattice_flows
from lattice_flows import runs
from lattice_flows.config import Config, load
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile

FREE = """
[lattice]
field = "scalar"
extents = [4, 6]
[action]
name = "phi4"
m2 = 0.5
lambda = 0.0
[training]
steps = 4
batch = 64
device = "cpu"
[sampling]
updates = {updates}
chains = {chains}
n = {n}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(updates, chains=1, n=400, more=""):
    Path("free.toml").write_text(FREE.format(updates=json.dumps(updates), chains=chains, n=n) + more)


def phi_squared_of_free_field(extents=(4, 6), m2=0.5):
    """The mean over momenta of 1 / (2 (m2 + 4 sum sin^2(p / 2))): S = phi (m2 - Laplacian) phi without a half."""
    momenta = np.meshgrid(*(2 * math.pi * np.arange(extent) / extent for extent in extents), indexing="ij")
    return float(np.mean(1 / (2 * (m2 + sum(4 * np.sin(p / 2) ** 2 for p in momenta)))))


@pytest.mark.parametrize("updates", [["hmc"], ["metropolis*2"]], ids=str)
def test_free_field(updates, here, capsys):
    """Without training; the exact value is that of the Gaussian integral."""
    write(updates, chains=8, n=200, more="thermalise = 100\n")
    out(capsys, "sample", "free.toml", "--out", "run")
    text = out(capsys, "measure", "run")
    theory = "scalar field, 4x6 sites, phi4 action at m2 = 0.5, lambda = 0"
    assert text.startswith(f"{theory}: 1600 configurations of 8 chains by ")
    assert "|magnetisation|" in text  # the label
    report = json.loads(Path("run/report.json").read_text())
    entry = report["observables"]["phi_squared"]
    assert abs(entry["value"] - phi_squared_of_free_field()) < 4 * entry["error"]
    assert "plaquette" not in report["observables"]
    assert {"history.png", "autocorrelation.png"} <= set(os.listdir("run/figures"))
    (row,) = json.loads(out(capsys, "compare", "run", "--json"))
    assert row["theory"] == theory
    with h5py.File("run/ensemble.h5") as file:
        assert file["scalars"].shape[1:] == (4, 6)
        facts = {name: file.attrs[name] for name in ("field", "action", "m2", "lambda")}
        assert facts == {"field": "scalar", "action": "phi4", "m2": 0.5, "lambda": 0.0}
        assert list(file.attrs["extents"]) == [4, 6]
        assert not {"group", "beta", "sites"} & set(file.attrs)


def test_flow_of_a_scalar_field(here, capsys):
    """Trained, sampled, measured, gone on with, exported, and carried to another lattice."""
    write(["flow"], n=300)
    out(capsys, "train", "free.toml", "--out", "run")
    out(capsys, "sample", "run")
    out(capsys, "measure", "run")
    report = json.loads(Path("run/report.json").read_text())
    assert 0 < report["ess"] <= 1
    file = ChainFile("run/ensemble.h5")
    assert file.proposals == 1
    log_w, action = (file.series(f"proposals/{name}").ravel() for name in ("log_w", "action"))
    weights = np.exp(log_w - action - (log_w - action).max())
    assert report["ess"] == pytest.approx(weights.sum() ** 2 / (len(weights) * (weights**2).sum()))
    shown = out(capsys, "show", "run")
    assert "4 of 4 steps" in shown
    assert "scalar field on 4x6" in shown
    once = torch.cat(list(file.configurations()))
    os.unlink("run/ensemble.h5")
    for n in (120, 300):
        out(capsys, "sample", "run", "-n", str(n))
    assert torch.equal(torch.cat(list(ChainFile("run/ensemble.h5").configurations())), once)
    out(capsys, "export", "run", "free.safetensors", "-n", "500")
    assert lattice_flows.load("free.safetensors").flow.space == lattice_flows.ScalarField((4, 6))
    for option in ("extents", "sites"):
        out(capsys, "sample", "--model", "free.safetensors", f"--{option}", "6,8", "--out", option, "-n", "50")
        assert load(f"{option}/config.toml").lattice.extents == (6, 8)
        assert ChainFile(f"{option}/ensemble.h5").read(np.arange(1)).shape == (1, 6, 8)


def test_links_alone_have_loops(here, capsys):
    write(["hmc"], chains=4, n=20, more="thermalise = 5\n")
    out(capsys, "sample", "free.toml", "--out", "run")
    before = sorted(os.listdir("run"))
    for arguments, words in {
        ("measure", "run", "--loops", "2,2"): "Wilson loops are measured on links, the run is of scalar field on 4x6",
        ("measure", "run/ensemble.h5", "--wilson-flow", "0.5"): "densities along the Wilson flow are measured on links",
        ("export", "run", "lat", "--format", "nersc"): "gauge files hold links, the run is of scalar field",
    }.items():
        assert words in fails(capsys, *arguments), arguments
    assert sorted({*os.listdir("run")} - {"measurements.h5"}) == before
    write(["heatbath"])
    assert "a space of links is needed" in fails(capsys, "sample", "free.toml", "--out", "new")
    assert not os.path.exists("new")


def test_a_start_of_links(here):
    from lattice_flows import SU
    from lattice_flows.io import write_configuration

    write_configuration("lat", SU(2).identity(4, 2, 2, 2, 2), "nersc")
    write(["hmc"], more='start = "lat"\n')
    words = r"the run is of scalar field on 4x6, the configuration to start from of SU\(2\) on 2x2x2x2"
    with pytest.raises(InvalidInput, match=words):
        runs.sample_run("run", config=load("free.toml"))


def test_theory_in_words():
    from lattice_flows.reports.words import system

    config = Config.of(
        lattice={"field": "scalar", "extents": (8, 8)}, action={"name": "phi4", "m2": -4, "lambda_": 6.975}
    )
    assert system(config) == "scalar field, 8x8 sites, phi4 action at m2 = -4, lambda = 6.975"
