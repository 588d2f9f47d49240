"""phi^4 through the commands: cycles of flow, HMC and Metropolis, and trainings that are stopped or carried."""

import json
import os
from pathlib import Path

import pytest
import torch
from command_line import fails, out

import lattice_flows
from lattice_flows.config import load
from lattice_flows.errors import Interrupted
from lattice_flows.io import ChainFile, read_metrics
from lattice_flows.runs import train_run, trained_model
from lattice_flows.signals import Stop

CONFIG = """
[lattice]
field = "scalar"
extents = [4, 4]
[action]
name = "phi4"
m2 = -4.0
lambda = 8.0
[flow]
layers = 4
hidden = [8]
kernel_size = 3
[training]
optimizer = "soap"
steps = 20
batch = 64
learning_rate = 0.02
device = "cpu"
[sampling]
n = 60
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("phi4.toml").write_text(CONFIG)
    return tmp_path


def test_train_sample_measure(here, capsys):
    out(capsys, "train", "phi4.toml", "--out", "run")
    steps = read_metrics("run/metrics.jsonl")
    assert [step["step"] for step in steps] == list(range(1, 21))
    assert {step["beta"] for step in steps} == {None}
    assert steps[-1]["loss"] < steps[0]["loss"] - 5
    out(capsys, "sample", "run")
    text = out(capsys, "measure", "run")
    assert text.startswith("scalar field, 4x4 sites, phi4 action at m2 = -4, lambda = 8: 60 configurations")
    report = json.loads(Path("run/report.json").read_text())
    assert list(report["observables"]) == ["magnetisation", "phi_squared", "susceptibility", "ising_energy"]
    rows = torch.cat(list(ChainFile("run/ensemble.h5").configurations()))
    assert rows.shape[1:] == (4, 4)
    assert "4 layers" not in text
    assert "AffineCoupling" in repr(trained_model("run").flow)


class StopAfter(Stop):
    """A stop that is asked for at the n-th time of asking."""

    def __init__(self, n):
        self.left = n

    @property
    def asked(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
def test_a_stopped_training_goes_on(optimizer, here, capsys):
    """To the weights of a training that never stopped, bit for bit."""
    chosen = f"training.optimizer={optimizer}"
    out(capsys, "train", "phi4.toml", "--out", "whole", chosen)
    for n in (3, 9):
        with pytest.raises(Interrupted):
            train_run(load("phi4.toml", [chosen]), "parts", stop=StopAfter(n))
    out(capsys, "train", "phi4.toml", "--out", "parts", chosen)
    assert [step["step"] for step in read_metrics("parts/metrics.jsonl")] == list(range(1, 21))
    whole, parts = trained_model("whole").flow.state_dict(), trained_model("parts").flow.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("updates", [["flow", "hmc", "metropolis*2"], ["transformed", "metropolis"]], ids=str)
def test_cycles(updates, here, capsys):
    """They go on from a stop, bit for bit."""
    out(capsys, "train", "phi4.toml", "--out", "run")
    arguments = [f"sampling.updates={json.dumps(updates)}", "sampling.chains=2", "sampling.thermalise=10"]
    out(capsys, "sample", "run", *arguments, "-n", "30")
    once = torch.cat(list(ChainFile("run/ensemble.h5").configurations()))
    os.unlink("run/ensemble.h5")
    for n in (12, 30):
        out(capsys, "sample", "run", *arguments, "-n", str(n))
    again = torch.cat(list(ChainFile("run/ensemble.h5").configurations()))
    assert torch.equal(once.sort(0).values, again.sort(0).values)
    assert 0 < ChainFile("run/ensemble.h5").series("acceptance").mean() <= 1


def test_a_training_begins_from_another_lattice(here, capsys):
    """The flow of 4 x 4 begins better on 6 x 6 than an untrained one."""
    out(capsys, "train", "phi4.toml", "--out", "small", "training.steps=60")
    larger = ["lattice.extents=[6,6]", "training.steps=1"]
    out(capsys, "train", "phi4.toml", *larger, "--from", "small", "--out", "carried")
    out(capsys, "train", "phi4.toml", *larger, "--out", "fresh")
    carried, fresh = (read_metrics(f"{name}/metrics.jsonl")[0] for name in ("carried", "fresh"))
    assert carried["loss"] < fresh["loss"] - 10
    assert trained_model("carried").flow.space == lattice_flows.ScalarField((6, 6))


def test_refusals(here, capsys):
    for arguments, words in {
        ("action.beta=1.0",): "beta belongs to wilson",
        ("flow.bins=4",): "bins belongs to",
        ("flow.architecture=stripes", "flow.hidden=[8]"): "a space of links is needed",
        ("training.beta_start=0.5", "training.anneal_steps=5"): "leave beta_start out",
    }.items():
        assert words in fails(capsys, "train", "phi4.toml", "--out", "run", *arguments), arguments
        assert not os.path.exists("run")
