"""Samplers that tune themselves reach what was asked for, from every start, and say so."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, out

from lattice_flows import SU, U1, runs
from lattice_flows.config import Config
from lattice_flows.io import ChainFile, write_configuration
from lattice_flows.models import build_action
from lattice_flows.reports.tuning import tuning_in_words, tuning_of, tuning_warnings
from lattice_flows.runs import keeper
from lattice_flows.runs.samplers import Chains
from lattice_flows.sampling import HMC, Metropolis, Streams
from lattice_flows.sampling.tuning import windows

THEORIES = [
    *((U1(), beta, (4, 4, 4)[:dim] if dim < 4 else (3,) * 4) for dim, beta in ((2, 2.0), (3, 1.5), (4, 1.0))),
    *((SU(2), beta, (4, 4, 4)[:dim] if dim < 4 else (3,) * 4) for dim, beta in ((2, 2.0), (3, 2.0), (4, 2.3))),
    *((SU(3), beta, (4, 4, 4)[:dim] if dim < 4 else (3,) * 4) for dim, beta in ((2, 6.0), (3, 6.0), (4, 6.0))),
]
SCALAR = {"lattice": {"field": "scalar", "extents": (6, 6)}, "action": {"name": "phi4", "m2": -4.0, "lambda": 6.0}}


def config(group="U(1)", beta=2.0, extents=(4, 4), action="wilson", **sampling):
    return Config.of(
        lattice={"group": str(group), "extents": extents},
        action={"beta": beta, "name": action},
        flow={"architecture": "stripes", "layers": 2, "hidden": [4]},
        training={"device": "cpu", "steps": 1, "batch": 4},
        sampling={"chains": 12, "n": 50, "thermalise": 120, **sampling},
    )


def sampled(folder, settings):
    """The chains of a run, and what its samplers reached."""
    runs.sample_run(folder, config=settings)
    chains = ChainFile(Path(folder, "ensemble.h5"))
    return chains, tuning_of(settings, chains)


@pytest.mark.parametrize("start", ["hot", "cold"])
@pytest.mark.parametrize("theory", THEORIES, ids=str)
def test_acceptance_of_hmc(theory, start, tmp_path):
    chains, tuned = sampled(tmp_path, config(*theory, updates=("hmc",), start=start))
    own = tuned["hmc"]
    assert own.keys() == {"steps", "trajectory", "asked", "reached"}
    assert own["asked"] == 0.8
    assert own["reached"] == chains.series("acceptance").mean()
    assert 0.7 < own["reached"] < 0.9
    assert not tuning_warnings(tuned)


@pytest.mark.parametrize("start", ["hot", "cold"])
@pytest.mark.parametrize(
    ("group", "beta", "extents"), [(U1(), 8.0, (4, 4)), (SU(3), 6.0, (4, 4)), (SU(2), 40.0, (3, 3, 3))], ids=str
)
def test_acceptance_of_metropolis(group, beta, extents, start, tmp_path):
    _, tuned = sampled(tmp_path, config(group, beta, extents, updates=("metropolis",), start=start))
    assert 0.4 < tuned["metropolis"]["reached"] < 0.6


@pytest.mark.parametrize("start", ["hot", "cold"])
def test_acceptance_where_an_action_has_no_local_updates(start, tmp_path):
    """HMC alone leads to equilibrium."""
    settings = config(SU(2), 2.0, action="iwasaki", updates=("hmc",), start=start)
    _, tuned = sampled(tmp_path, settings)
    assert 0.7 < tuned["hmc"]["reached"] < 0.9


@pytest.mark.parametrize("start", ["hot", "cold"])
@pytest.mark.parametrize("trajectory", [None, 2.0])
def test_acceptance_of_a_scalar_field(trajectory, start, tmp_path):
    """A trajectory that is set keeps its length; one step more or less then changes the acceptance much."""
    sampling = {"updates": ("hmc",), "chains": 12, "n": 50, "thermalise": 120, "start": start}
    lengths = {} if trajectory is None else {"trajectory": trajectory}
    _, tuned = sampled(tmp_path, Config.of(**SCALAR, sampling={**sampling, **lengths}))
    low, high = (0.7, 0.9) if trajectory is None else (0.6, 0.97)
    assert low < tuned["hmc"]["reached"] < high
    assert ("trajectory" in tuned["hmc"]) == (trajectory is None)


def test_acceptance_of_latent_hmc(tmp_path):
    """Of a flow that is hardly trained."""
    settings = config(updates=("transformed",), chains=8, thermalise=60, n=30)
    runs.train_run(settings, tmp_path)
    _, tuned = sampled(tmp_path, settings)
    assert 0.65 < tuned["transformed"]["reached"] < 0.95  # of few updates


def test_samplers_of_a_cycle_are_tuned_each_to_its_own(tmp_path):
    _, tuned = sampled(tmp_path, config(SU(2), updates=("metropolis", "heatbath", "hmc*2")))
    assert {name: own["asked"] for name, own in tuned.items()} == {"metropolis": 0.5, "hmc": 0.8}
    assert not tuning_warnings(tuned)


def test_nothing_is_tuned_after_the_thermalisation(tmp_path):
    """The last quarter of it confirms, and chains that go on keep every number."""
    settings = config(updates=("hmc", "metropolis"), thermalise=40)
    chains, streams = Chains(settings, build_action(settings, "x")[1]), Streams(1, 12)
    steady = []
    for _ in chains.thermalise(chains.begin(streams, tmp_path), streams):
        steady.append({name: sampler.tuned for name, sampler in chains.samplers.items()})
    assert len(steady) == 40
    assert steady[28] != steady[29] == steady[-1]
    assert steady[0] == steady[9] != steady[10]  # local updates
    before, _ = sampled(tmp_path, settings)
    runs.sample_run(tmp_path, ["sampling.n=60"])
    after = ChainFile(tmp_path / "ensemble.h5")
    names = [name for name in before.attributes if name.startswith("tuned")]
    assert len(names) == 7
    assert all(after.attributes[name] == before.attributes[name] for name in names)


@pytest.mark.parametrize("updates", [1, 2, 3, 5, 100])
def test_windows_are_whole(updates):
    found = windows(7, 7 + updates)
    assert (found[0].begin, found[-1].end) == (7, 7 + updates)
    assert all(one.end == other.begin for one, other in itertools.pairwise(found))
    assert all(one.gain > other.gain for one, other in itertools.pairwise(found))
    assert windows(3, 3) == []


@pytest.mark.parametrize("sampler", [lambda a: HMC(a, about=1.0), HMC, Metropolis], ids=["free", "fixed", "local"])
def test_a_sampler_is_adapted_in_the_right_direction(sampler):
    action = build_action(config(), "x")[1]
    begun = sampler(action)
    size = {
        name: own.spread if isinstance(own, Metropolis) else own.trajectory / own.steps
        for name, own in {rate: begun.adapted(rate, 0.6, 1.0) for rate in (0.0, 0.3, 0.9, 1.0)}.items()
    }
    now = begun.spread if isinstance(begun, Metropolis) else begun.trajectory / begun.steps
    assert size[0.0] <= size[0.3] < now < size[0.9] <= size[1.0]


def test_what_was_reached_is_told(tmp_path, monkeypatch, capsys):
    """In the output of sample, in the report, and with a remedy in sample, measure and compare where it is not near."""
    monkeypatch.chdir(tmp_path)
    Path("u1.toml").write_text('[lattice]\ngroup = "U(1)"\nextents = [4, 4]\n[action]\nbeta = 2.0\n')
    sample = ("sample", "u1.toml", 'sampling.updates=["hmc"]', "sampling.chains=4", "-n", "50", "--out")
    printed = out(capsys, *sample, "good")
    assert printed.startswith("hmc is tuned to steps = ")
    assert ", asked for 0.8\n50 configurations; next: " in printed
    out(capsys, "measure", "good")
    report = json.loads(Path("good/report.json").read_text())
    own = report["tuning"]["hmc"]
    assert (own["asked"], own["reached"]) == (0.8, report["acceptance"])
    words = "hmc: acceptance 0.00, not the 0.8 that was asked for: tune it longer, with a larger sampling.thermalise; "
    words += "is the force that of the action?\n"
    assert words in out(capsys, *sample, "bad", "sampling.thermalise=0", "action.beta=300.0")
    assert words in out(capsys, "measure", "bad")
    compared = out(capsys, "compare", "good", "bad")
    assert f"bad: {words}" in compared
    assert "good: hmc" not in compared
    rows = json.loads(out(capsys, "compare", "good", "bad", "--json"))
    assert [row["tuning"]["hmc"]["asked"] for row in rows] == [0.8, 0.8]


def test_warnings():
    own = {"asked": 0.8, "reached": 0.97}
    assert "a longer sampling.trajectory costs nothing" in tuning_warnings({"hmc": {"steps": 1, **own}})[0]
    assert "leave out sampling.trajectory" in tuning_warnings({"hmc": {"steps": 2, **own}})[0]
    assert tuning_warnings({"metropolis": {"spread": np.pi, "asked": 0.5, "reached": 0.9}}) == []
    assert tuning_warnings({"hmc": {"steps": 8}}) == []
    assert tuning_in_words({"hmc": {"steps": 8}}) == ["hmc is tuned to steps = 8"]


def test_ensembles_that_do_not_know_what_was_asked(tmp_path, monkeypatch):
    """As older versions made them: they are measured and prolonged."""
    steps_alone = lambda tuned: {f"tuned_{name}_steps": own["steps"] for name, own in tuned.items()}  # noqa: E731
    monkeypatch.setattr(keeper, "tuned_attributes", steps_alone)
    runs.sample_run(tmp_path, config=config(updates=("hmc",), trajectory=1.0))
    assert runs.sample_run(tmp_path, ["sampling.n=60"]) == 60
    assert runs.measure_run(tmp_path)["tuning"]["hmc"].keys() == {"steps", "reached"}


def test_a_start_that_cannot_be_read_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("u1.toml").write_text('[lattice]\ngroup = "SU(2)"\nextents = [2, 2, 2, 2]\n[action]\nbeta = 2.0\n')
    Path("text").write_text("no configuration")
    write_configuration("other", SU(3).identity(4, 2, 2, 2, 2), "nersc")
    before = sorted(os.listdir())
    for start, words in {"none": "cannot read", "text": "is expected", "other": "to start from of SU(3)"}.items():
        arguments = ('sampling.updates=["hmc"]', f"sampling.start={start}")
        assert words in fails(capsys, "sample", "u1.toml", "--out", "run", *arguments)
        assert sorted(os.listdir()) == before
