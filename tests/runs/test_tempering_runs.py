"""Replica exchange from the command line: exact chains, stopped and gone on with, its report, and wrong settings."""

import json

import numpy as np
import pytest
import torch
from command_line import fails, out
from test_sampling_runs import After

from lattice_flows import U1, GaugeField, cli, runs
from lattice_flows.actions import Wilson
from lattice_flows.config import Config
from lattice_flows.errors import Interrupted
from lattice_flows.io import ChainFile
from lattice_flows.reports.tempering import round_trips
from lattice_flows.sampling import HeatBath, ReplicaExchange, Streams, Tempered, start

TOML = """
[lattice]
group = "SU(2)"
extents = [4, 4]
[action]
beta = 2.0
[sampling]
updates = ["heatbath"]
n = 300
thermalise = 10
[tempering]
betas = [1.0, 1.5, 2.0]
"""


def config(betas=(1.0, 1.5, 2.0), **sampling):
    """The measured coupling is neither the first nor the last one."""
    return Config.of(
        lattice={"group": "SU(2)", "extents": (4, 4)},
        action={"beta": 1.5},
        training={"device": "cpu"},
        sampling=sampling,
        tempering={"betas": betas},
    )


@pytest.mark.slow
def test_a_run_has_its_exact_value_and_says_how_couplings_swap(tmp_path, capsys):
    runs.sample_run(tmp_path / "run", config=config(updates=("heatbath",), chains=4, n=200, thermalise=20))
    report = runs.measure_run(tmp_path / "run")
    assert abs(report["observables"]["plaquette"]["pull"]) < 4
    found, stored = report["tempering"], ChainFile(tmp_path / "run" / "ensemble.h5")
    assert found["betas"] == [1.0, 1.5, 2.0]
    for own, accepted in zip(found["swaps"], np.moveaxis(stored.series("swaps/accepted"), 2, 0), strict=True):
        assert 0.3 < own["value"] < 0.9
        assert abs(accepted.mean() - own["value"]) < 4 * (0.25 / accepted.size) ** 0.5
    assert found["round_trips"] > 20
    text = out(capsys, "measure", str(tmp_path / "run"))
    assert "heat bath, replica exchange with 3 couplings" in text
    assert f"round trips       {found['round_trips']}\n" in text
    assert "hardly swap" not in text


def test_stopped_and_gone_on_at_any_moment(tmp_path):
    """While HMC is tuned too: the same chains at all couplings, and the same swaps, bit for bit."""
    settings = config(updates=("hmc", "overrelaxation"), chains=2, n=12, thermalise=20)
    runs.sample_run(tmp_path / "once", config=settings)
    for looks in (4, 9, 13):
        with pytest.raises(Interrupted):
            runs.sample_run(tmp_path / "parts", config=settings, stop=After(looks))
    assert runs.sample_run(tmp_path / "parts", config=settings) == 12
    once, parts = (ChainFile(tmp_path / name / "ensemble.h5") for name in ("once", "parts"))
    for name in ("action", "swaps/accepted", "swaps/probability"):
        np.testing.assert_array_equal(once.series(name), parts.series(name))
    (one, streams), (two, others) = once.end(), parts.end()
    assert torch.equal(streams, others)
    for name in ("x", "action", "others", "other_actions"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_chains_at_a_coupling_are_those_of_the_exchange():
    space, chains = GaugeField(U1(), (4, 4)), 2
    exchange = ReplicaExchange([HeatBath(Wilson(space, beta)) for beta in (0.5, 1.0, 1.5, 2.0)])
    tempered, streams, own = Tempered(exchange, measured=1), Streams(0, chains), Streams(0, chains)
    x = start(space, streams)
    assert torch.equal(x, start(space, own))
    state, packed, trips, swaps = exchange.init(x), tempered.init(x), 0, []
    for _ in range(60):
        state, info = exchange.step(state, streams)
        packed, _ = tempered.step(packed, own)
        trips += int(info.round_trips.sum())
        swaps.append(info.swapped)
    assert torch.equal(packed.x, state.states[1].x)
    assert torch.equal(packed.others, torch.stack([state.states[i].x for i in (0, 2, 3)], 1))
    assert round_trips(torch.stack(swaps).numpy()) == trips > 0


def test_couplings_far_apart_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far.toml").write_text(TOML.replace("[1.0, 1.5, 2.0]", "[2.0, 16.0]"))
    advice = "beta = 2 and 16 hardly swap ("
    assert advice in out(capsys, "sample", "far.toml", "--out", "far", "sampling.n=3")
    assert cli.main(["sample", "far", "-n", "300"]) == 0
    assert advice in out(capsys, "measure", "far")
    report = json.loads((tmp_path / "far" / "report.json").read_text())
    assert report["tempering"]["round_trips"] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["tempering.betas=[2.0, 1.0]"], "betas must be 2 to 100 couplings > 0 that rise, got [2.0, 1.0]"),
        (["tempering.betas=[2.0]"], "betas must be 2 to 100 couplings > 0 that rise, got [2.0]"),
        (["action.beta=1.7"], "tempering.betas must hold action.beta = 1.7, whose chain is measured, got [1.0, 1.5, 2"),
        (['sampling.updates=["heatbath", "flow"]'], "tempering needs updates for every coupling, such as heatbath"),
        (["tempering.maps=1"], "unknown key 'maps', valid keys: betas"),
    ],
)
def test_wrong_settings_are_named_in_a_line(settings, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(TOML)
    assert words in fails(capsys, "sample", "own.toml", "--out", "run", *settings)
    assert not (tmp_path / "run").exists()


def test_an_action_without_beta_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scalar = TOML.replace('group = "SU(2)"', 'field = "scalar"').replace("beta = 2.0", "m2 = 1.0\nlambda = 0.5")
    (tmp_path / "own.toml").write_text(scalar.replace("heatbath", "hmc"))
    said = fails(capsys, "sample", "own.toml", "--out", "run")
    assert "tempering changes the coupling beta, which the action phi4 has not" in said


def test_couplings_of_a_run_stay(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(TOML)
    assert cli.main(["sample", "own.toml", "--out", "run", "sampling.n=3"]) == 0
    capsys.readouterr()
    said = fails(capsys, "sample", "own.toml", "--out", "run", "tempering.betas=[1.0, 2.0]")
    assert "tempering.betas was (1.0, 1.5, 2.0) and is now (1.0, 2.0)" in said
