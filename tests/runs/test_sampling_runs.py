"""Chains of every sampler from the command line: from a config, from a file, side by side, out again, measured."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import fails, out

from lattice_flows import SU, U1, GaugeField, cli, runs
from lattice_flows.actions import Wilson
from lattice_flows.config import Config, load
from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.io import ChainFile, ChainWriter, files, read_configuration, read_metrics, write_configuration
from lattice_flows.models import build_action
from lattice_flows.observables import action_density, clover_charge, flow_observables, wilson_flow
from lattice_flows.planar.exact import exact_value
from lattice_flows.reports.words import bracketed
from lattice_flows.runs import measure
from lattice_flows.runs.samplers import Chains
from lattice_flows.sampling import Streams
from lattice_flows.signals import Stop
from lattice_flows.statistics import t0, w0

SMALL = """
[lattice]
group = "SU(3)"
extents = [2, 2, 2, 2]
[action]
beta = 4.0
[sampling]
updates = ["heatbath", "overrelaxation*2"]
chains = 2
n = 8
every = 3
thermalise = 2
"""


def printed_near(value, text):
    """Whether a text holds a number that rounds to this value."""
    return any(abs(float(number) - value) < 2e-6 for number in re.findall(r"\d\.\d{5,}", text))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    return tmp_path


def config(group="U(1)", extents=(4, 4), beta=1.0, **sampling):
    return Config.of(
        lattice={"group": str(group), "extents": extents},
        action={"beta": beta},
        training={"device": "cpu"},
        sampling=sampling,
    )


@pytest.mark.parametrize(
    ("group", "updates"),
    [
        (U1(), ("heatbath", "overrelaxation*2")),
        (U1(), ("hmc",)),
        (SU(2), ("metropolis",)),
        (SU(2), ("hmc", "metropolis*2")),
    ],
    ids=str,
)
def test_exact_plaquette(group, updates, tmp_path):
    """Without training, in one call, from hot links and untuned steps."""
    settings = config(group, beta=1.5, updates=updates, chains=8, n=100, thermalise=30)
    assert runs.sample_run(tmp_path, config=settings) == 100
    report = runs.measure_run(tmp_path)
    assert report["n"] == 8 * 100
    assert (report["ess"], report["pareto_k"]) == (None, None)
    entry = report["observables"]["plaquette"]
    assert entry["exact"] == exact_value("plaquette", Wilson(GaugeField(group, (4, 4)), 1.5))
    assert abs(entry["pull"]) < 4
    assert entry["r_hat"] < 1.1


def test_steps_are_tuned_while_chains_thermalise_and_written_down(tmp_path):
    settings = config(SU(2), beta=2.0, updates=("hmc", "metropolis"), chains=4, n=100, thermalise=20)
    runs.sample_run(tmp_path, config=settings)
    file = ChainFile(tmp_path / "ensemble.h5")
    tuned = {name: value for name, value in file.attributes.items() if name.startswith("tuned_")}
    names = {"hmc": ("steps", "trajectory", "asked", "reached"), "metropolis": ("spread", "asked", "reached")}
    assert tuned.keys() == {f"tuned_{name}_{key}" for name, keys in names.items() for key in keys}
    assert tuned["tuned_metropolis_spread"] != 0.5
    assert abs(file.series("acceptance").mean() - (0.8 + 0.5) / 2) < 0.15  # of the two targets
    other = Chains(settings, build_action(settings, "x")[1], tuned={"hmc": {"steps": 3}})
    assert other.samplers["hmc"].steps == 3
    fixed = config(SU(2), beta=2.0, updates=("hmc",), hmc_steps=7, thermalise=0)
    plain = Chains(fixed, build_action(fixed, "x")[1])
    plain.begin(Streams(0, 1), tmp_path)
    assert (plain.tuned, plain.samplers["hmc"].steps) == ({}, 7)


def test_acceptance_of_a_cycle_is_that_of_the_steps_that_can_reject(tmp_path):
    settings = config(beta=1.0, updates=("heatbath", "hmc*2", "overrelaxation"), hmc_steps=1, chains=3, thermalise=0)
    chains, streams = Chains(settings, build_action(settings, "x")[1]), Streams(0, 3)
    state = chains.begin(streams, tmp_path)
    for _ in range(5):
        state, info = chains.sampler.step(state, streams)
        outcome = chains.outcome(info)
        assert outcome.keys() == {"acceptance"}
        assert torch.equal(outcome["acceptance"], (info.steps[1].acceptance.double() + info.steps[2].acceptance) / 2)
    alone = config(beta=1.0, updates=("heatbath",), thermalise=0)
    chains = Chains(alone, build_action(alone, "x")[1])
    _, info = chains.sampler.step(chains.begin(Streams(0, 1), tmp_path), Streams(0, 1))
    assert chains.outcome(info)["acceptance"] == 1


def test_chains_are_the_same_whichever_run_beside_them(tmp_path):
    for number in (1, 3):
        settings = config(updates=("heatbath", "hmc"), hmc_steps=3, chains=number, n=6, every=2, thermalise=3)
        runs.sample_run(tmp_path / str(number), config=settings)
    one, three = (ChainFile(tmp_path / number / "ensemble.h5") for number in "13")
    np.testing.assert_array_equal(one.series("action")[:, 0], three.series("action")[:, 0])
    assert (len(three), three.n_distinct) == (12, 18)


def test_thermalisation_is_dropped(tmp_path):
    long = config(updates=("heatbath",), thermalise=0, n=10)
    cut = config(updates=("heatbath",), thermalise=4, n=6)
    for name, settings in (("long", long), ("cut", cut)):
        runs.sample_run(tmp_path / name, config=settings)
    one, two = (ChainFile(tmp_path / name / "ensemble.h5").series("action") for name in ("long", "cut"))
    np.testing.assert_array_equal(one[4:], two)


def test_cold_start(tmp_path):
    settings = config(beta=50.0, updates=("metropolis",), start="cold", thermalise=0, n=5)
    runs.sample_run(tmp_path, config=settings)
    assert ChainFile(tmp_path / "ensemble.h5").series("action")[0] < -0.7 * 50 * 16


def test_frozen_is_said_instead_of_a_number(tmp_path, capsys):
    runs.sample_run(tmp_path, config=config(beta=60.0, updates=("heatbath",), start="cold", n=30, chains=2))
    table = out(capsys, "measure", str(tmp_path))
    assert re.search(r"topological charge Q +0 +0 +- +frozen +- +-\n", table)
    assert "not reliable, frozen: no chain moves: topological charge Q, <Q^2>" in table
    entry = json.loads((tmp_path / "report.json").read_text())["observables"]["topological_charge"]
    assert (entry["frozen"], entry["reason"], entry["reliable"]) == ([0, 1], "frozen: no chain moves", False)
    assert {entry[name] for name in ("error", "tau_int", "tau_int_error", "n_eff", "pull")} == {None}
    comparison = json.loads(out(capsys, "compare", str(tmp_path), "--json"))
    assert comparison[0]["observables"]["topological_charge"]["cpu_seconds_per_independent"] is None


def test_from_a_config_to_files_of_others_and_back(here, capsys):
    """Four dimensions, no training: sampled, gone on with, exported, imported, measured, compared."""
    line = "{} configurations; next: lattice-flows measure run\n"
    assert out(capsys, "sample", "small.toml", "--out", "run") == line.format(8)
    assert out(capsys, "sample", "small.toml", "--out", "run", "-n", "10") == line.format(10)
    assert out(capsys, "sample", "run", "-n", "12") == line.format(12)
    assert load("run/config.toml").sampling.n == 10
    table = out(capsys, "measure", "run")
    assert "24 configurations of 2 chains by heat bath, 2 over-relaxation" in table
    assert "R-hat" in table
    assert "tau_int in updates, 1.5 where they are independent; n_eff = 3 n / (2 tau_int)" in table
    assert out(capsys, "measure", "run/ensemble.h5") == table
    shown = out(capsys, "show", "run")
    assert "updates: heat bath, 2 over-relaxation\nensemble: 12 configurations of each of 2 chains\n" in shown
    assert "training" not in shown

    stored = ChainFile("run/ensemble.h5")
    for form, chain, update in (("nersc", 0, None), ("ildg", 1, 9), ("nersc-short", 1, 3)):
        arguments = ["--format", form, "--chain", str(chain), *(["--update", str(update)] if update else [])]
        assert re.fullmatch(rf"{form}: [\d,]+ bytes\n", out(capsys, "export", "run", form, *arguments))
        links, _ = read_configuration(form)
        wanted = stored.read(stored.rows(chain)[0])[(update or 36) // 3 - 1]
        torch.testing.assert_close(links, wanted, atol=1e-6 if form == "nersc-short" else 0, rtol=0)
    words = "24 configurations, every chain after each stored update"
    assert out(capsys, "export", "run", "all.npy", "--all") == f"all.npy: {words}\n"
    assert out(capsys, "export", "run", "all", "--all", "--format", "ildg") == f"all: {words}\n"
    array = np.load("all.npy", mmap_mode="r")
    assert array.shape == (12, 2, 4, 2, 2, 2, 2, 3, 3)
    assert len(os.listdir("all")) == 24
    for chain in (0, 1):
        for t in (0, 11):
            assert np.array_equal(array[t, chain], stored.configuration(chain, 3 * (t + 1)))
            assert np.array_equal(array[t, chain], read_configuration(f"all/{chain}.{3 * (t + 1)}")[0])
    rows = out(capsys, "measure", "nersc", "ildg").splitlines()
    assert [row.split()[0] for row in rows] == ["file", "nersc", "ildg"]
    plaquette = read_configuration("ildg")[1]["plaquette"]
    assert printed_near(plaquette, rows[2])

    printed = out(capsys, "import", "ildg", "--out", "other", "action.beta=4.0", "sampling.thermalise=1")
    assert printed.startswith("SU(3), 2x2x2x2 sites, wilson action at beta = 4; next: ")
    assert sorted(os.listdir("other")) == [".lock", "config.toml", "start.ildg"]
    settings = {"wilson": "heatbath", "iwasaki": "hmc"}
    for action, update in settings.items():
        out(capsys, "import", "ildg", "--out", action, "action.beta=4.0", f"action.name={action}")
        assert f'updates = ["{update}"' in Path(action, "config.toml").read_text()
    os.unlink("ildg")
    assert printed_near(plaquette, out(capsys, "measure", "other"))
    assert "nothing is sampled yet" in fails(capsys, "measure", "other", "--loops", "2,2")
    assert out(capsys, "sample", "other", "-n", "6", "sampling.seed=4").startswith("6 configurations")
    assert "6 configurations by heat bath, 4 over-relaxation" in out(capsys, "measure", "other")
    text = out(capsys, "compare", "run", "other")
    assert re.search(r"run +SU\(3\), .* heat bath, 2 over-relaxation +2 x 36 +1\.000 +\S+ +0\n", text)
    assert "CPU s/independent" in text


def test_cost_of_independent_configurations(here, capsys):
    runs.sample_run("run", config=load("small.toml", ["sampling.n=30"]))
    (row,) = json.loads(out(capsys, "compare", "run", "--json"))
    report = runs.measure_run("run")
    first, *rest = read_metrics(Path("run", "sampling.jsonl"))
    assert (first["updates"], first["made"]) == (0, 2)
    spent = sum(record["cpu_seconds"] for record in rest)
    own, entry = row["observables"]["plaquette"], report["observables"]["plaquette"]
    assert row["cpu_seconds_per_update"] == pytest.approx(spent / (2 * 90))
    assert own["tau_int"] == entry["tau_int"]
    assert entry["n_eff"] == pytest.approx(report["n"] * 3 / (2 * entry["tau_int"]))
    assert own["cpu_seconds_per_independent"] == pytest.approx(spent / entry["n_eff"])
    everything = (spent + first["cpu_seconds"]) / entry["n_eff"]
    assert own["cpu_seconds_per_independent_all_included"] == pytest.approx(everything)


def test_compared_is_the_ensemble_that_is_there(here, capsys):
    """A report of another one, of as many updates, is none of it."""
    for seed in (1, 2):
        Path("run", "ensemble.h5").unlink(missing_ok=True)
        runs.sample_run("run", config=load("small.toml", [f"sampling.seed={seed}"]))
        (row,) = json.loads(out(capsys, "compare", "run", "--json"))
        assert row["observables"]["plaquette"]["value"] == runs.measure_run("run")["observables"]["plaquette"]["value"]


@pytest.mark.parametrize("moment", ["thermalisation", "ensemble"])
def test_chains_go_on_with_their_own_settings(tmp_path, moment):
    """Also where somebody has edited the config in the folder."""
    settings = config(updates=("heatbath",), n=3, thermalise=3)
    stop = Stop()
    if moment == "thermalisation":
        stop.asked = True
        with pytest.raises(Interrupted):
            runs.sample_run(tmp_path, config=settings, stop=stop)
    else:
        runs.sample_run(tmp_path, config=settings)
    path = tmp_path / "config.toml"
    text = path.read_text()
    for old, new in (("beta = 1.0", "beta = 2.0"), ('dtype = "float32"', 'dtype = "float64"')):
        path.write_text(text.replace(old, new))
        key = old.partition(" ")[0]
        with pytest.raises(
            InvalidInput,
            match=rf"made with other settings: \w+\.{key} was .*put that back in config.toml to go on, or --new",
        ):
            runs.sample_run(tmp_path, ["sampling.n=5"])
    path.write_text(text)
    assert runs.sample_run(tmp_path, ["sampling.n=5"]) == 5


def test_potential_where_loops_are_measured(tmp_path, capsys):
    """In two dimensions, where it is linear: the area law in infinite volume, V = -R log <P>."""
    settings = config(extents=(6, 6), beta=1.0, updates=("heatbath", "overrelaxation"), chains=10, n=100, thermalise=20)
    runs.sample_run(tmp_path, config=settings)
    text = out(capsys, "measure", str(tmp_path), "--loops", "2,3")
    assert all(words in text for words in ("W(R, T)", "V(R, T) = ", "Creutz ratios"))
    loops = json.loads((tmp_path / "report.json").read_text())["loops"]
    for name, shape in (("wilson_loops", (2, 3)), ("potential", (2, 2)), ("creutz_ratios", (2, 3))):
        assert np.shape(loops[name]["value"]) == np.shape(loops[name]["error"]) == shape
    value, error = (np.array(loops["wilson_loops"][key]) for key in ("value", "error"))
    action = Wilson(GaugeField(U1(), (6, 6)), 1.0)
    exact = [[exact_value(f"wilson_loop_{r}x{t}", action) for t in (1, 2, 3)] for r in (1, 2)]
    assert (np.abs(value - exact) < 4 * error).all()
    potential = np.array(loops["potential"]["value"])[:, 0]
    assert np.abs(potential - np.log(exact)[:, 0] + np.log(exact)[:, 1]).max() < 4 * loops["potential"]["error"][1][0]
    assert (tmp_path / "figures" / "potential.png").exists()


def test_wilson_flow(tmp_path, capsys):
    """Of every configuration, beside its integration on its own; where it begins, beside the exact plaquette."""
    settings = config(extents=(6, 6), beta=2.0, updates=("heatbath", "overrelaxation"), chains=10, n=50, thermalise=20)
    runs.sample_run(tmp_path, config=settings)
    text = out(capsys, "measure", str(tmp_path), "--wilson-flow", "0.5")
    assert all(words in text for words in ("Wilson flow", "t^2 E, clover", "Q^2"))
    assert "t0" not in text  # a scale of four dimensions
    flow = json.loads((tmp_path / "report.json").read_text())["flow"]
    assert (flow["times"][0], flow["times"][-1]) == (0, 0.5)
    links = torch.cat(list(ChainFile(tmp_path / "ensemble.h5").configurations()))  # a heat bath makes no copies
    space = GaugeField(U1(), (6, 6))
    flowed = wilson_flow(links, space, time=0.5, step=0.01)
    for name, observable in flow_observables(space).items():
        assert flow[name]["value"][-1] == pytest.approx(observable(flowed).mean().item(), rel=1e-4, abs=1e-6)
    exact = {
        "plaquette_density": 1 - exact_value("plaquette", Wilson(space, 2.0)),
        "topological_charge_squared": exact_value("topological_charge_squared", Wilson(space, 2.0)),
    }
    for name, right in exact.items():
        value, error = (flow[name][key][0] for key in ("value", "error"))
        assert abs(value - right) < 4 * error
    assert {"flow.png", "flowed_charge.png"} <= set(os.listdir(tmp_path / "figures"))


def test_scales_of_the_wilson_flow(tmp_path, capsys):
    settings = config(SU(2), (4, 4, 4, 4), beta=1.0, updates=("heatbath",), chains=4, n=20, thermalise=5)
    runs.sample_run(tmp_path, config=settings)
    text = out(capsys, "measure", str(tmp_path), "--wilson-flow", "0.8")
    flow = json.loads((tmp_path / "report.json").read_text())["flow"]
    for name, scale in (("t0", t0), ("w0", w0)):
        assert flow[name]["value"] == pytest.approx(scale(flow["times"], flow["action_density"]["value"]))
    assert flow["t0"]["error"] > 0
    assert f"t0 = {bracketed(**flow['t0'])}" in text
    text = out(capsys, "measure", str(tmp_path), "--flow", "0.1")
    assert "t0: t^2 <E> must rise through 0.3" in text


def test_wilson_flow_of_files(here, capsys):
    """Of an ensemble file as of its run; of single configurations as of their links."""
    settings = config(SU(2), (2, 2, 2, 2), beta=1.0, updates=("heatbath",), n=20, thermalise=0)
    runs.sample_run("run", config=settings)
    whole = out(capsys, "measure", "run", "--flow", "0.3")
    assert out(capsys, "measure", "run/ensemble.h5", "--wilson-flow", "0.3") == whole
    links = ChainFile("run/ensemble.h5").configuration(0)
    write_configuration("lat", links, "nersc")
    space = GaugeField(SU(2), (2, 2, 2, 2))
    flowed = wilson_flow(links, space, time=0.3, step=0.02)
    expected = (0.3**2 * action_density(space)(flowed), clover_charge(space)(flowed))
    header, row = out(capsys, "measure", "lat", "--wilson-flow", "0.3").splitlines()
    assert header.endswith("t^2 E at t = 0.3  Q at t = 0.3")
    assert [float(word) for word in row.split()[-2:]] == pytest.approx([float(x) for x in expected], abs=1e-6)


def test_a_start_of_another_theory(tmp_path):
    write_configuration(tmp_path / "lat", SU(2).identity(4, 2, 2, 2, 2), "nersc")
    settings = config(SU(3), (2, 2, 2, 2), updates=("heatbath",), start=str(tmp_path / "lat"))
    with pytest.raises(InvalidInput, match=r"the run is of SU\(3\) on .*, the configuration to start from of SU\(2\)"):
        runs.sample_run(tmp_path / "run", config=settings)


def test_bad_input_is_one_line(here, capsys):
    assert cli.main(["sample", "small.toml", "--out", "run"]) == 0
    Path("text").write_text("no configuration")
    capsys.readouterr()
    before = sorted(os.listdir())
    sample = ("sample", "small.toml", "--out")
    cases = {
        (*sample, "new", 'sampling.updates=["flow"]'): "nothing is trained yet",
        (
            *sample,
            "new",
            'sampling.updates=["fly"]',
        ): "unknown update 'fly'; available: flow, heatbath, overrelaxation, hmc",
        (*sample, "new", 'sampling.updates=["hmc*0"]'): "updates must be a list of",
        (*sample, "new", 'sampling.updates=["overrelaxation"]'): "over-relaxation keeps the action",
        (*sample, "new", "action.name=iwasaki", "lattice.extents=[2,4]"): "need extents >= 3, got 2x4: use hmc",
        (*sample, "run", "action.beta=5"): "run holds a run with other settings: action.beta was 4.0 and is now 5.0",
        (*sample, "run", "sampling.seed=5"): "the chain was made with seed 1, not 5",
        (*sample, "new", "lattice.group=E8"): "unknown group 'E8'",
        ("sample", "run", "action.beta=5"): "only [sampling] and training.device can change",
        ("measure", "none"): "a folder made by lattice-flows train or sample is expected",
        ("measure", "run", "--loops", "2,2"): "2 x 2 Wilson loops need larger extents",
        ("measure", "text"): "a gauge file is expected",
        ("measure", "text", "--loops", "1,2"): "--export need the ensemble of a run",
        ("measure", "run/ensemble.h5", "text"): "this HDF5 file is an ensemble: measure it alone",
        ("measure", "run", "text"): "one run at a time, or several configurations; compare shows runs side by side",
        ("export", "run", "lat", "--format", "ildg", "--update", "4"): "a multiple of 3 from 3 to 24, got 4",
        ("export", "run", "lat", "--format", "ildg", "--chain", "2"): "chain must be from 0 to 1, got 2",
        ("export", "run", "all", "--all"): "one array of all configurations ends in .npy, got all",
        ("export", "run", "all.npy", "--all", "--chain", "1"): "leave -n, --chain and --update out",
        ("import", "text", "--out", "new", "action.beta=4"): "a gauge file is expected",
        ("import", "none", "--out", "new", "action.beta=4"): "cannot read the configuration",
    }
    for arguments, words in cases.items():
        assert words in fails(capsys, *arguments), arguments
        assert sorted(os.listdir()) == before
    write_configuration("lat", SU(2).identity(4, 2, 2, 2, 2), "nersc")
    assert "beta is missing" in fails(capsys, "import", "lat", "--out", "new")
    for other in ("lattice.group=SU(3)", "lattice.extents=[2, 2, 2, 4]"):
        words = "group and extents are those of the file, SU(2) on (2, 2, 2, 2)"
        assert words in fails(capsys, "import", "lat", "--out", "new", "action.beta=4", other)
    assert "run holds another run: lattice-flows sample run goes on" in fails(
        capsys, "import", "lat", "--out", "run", "action.beta=4"
    )
    assert not os.path.exists("new")


class After(Stop):
    """Asked to stop when it has been looked at some times."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def asked(self):
        self.looks -= 1
        return self.looks < 0


def test_chains_that_go_on_are_measured_as_they_are(tmp_path, monkeypatch, capsys):
    """Beside a job, which holds the folder; and the table says that there is more to come."""
    monkeypatch.chdir(tmp_path)
    settings = config(updates=("heatbath",), n=20, thermalise=2)
    line = "the chains {}: {} updates were committed when this was read, {}"
    with pytest.raises(Interrupted):
        runs.sample_run("run", config=settings, stop=After(8))
    n = len(ChainFile("run/ensemble.h5"))
    assert 1 < n < 20
    path = Path("run", "ensemble.h5")
    with files.locked(Path("run")):
        for source in ("run", "run/ensemble.h5"):
            assert line.format("are to go on", n, "20 are asked for\n") in out(capsys, "measure", source)
    real = measure.observe

    def meanwhile(chains, *arguments):
        state, streams = chains.end()
        with ChainWriter(path) as writer:
            writer.append(state, torch.zeros(len(state.x)))
            writer.commit(streams)
        return real(chains, *arguments)

    monkeypatch.setattr(measure, "observe", meanwhile)
    report = runs.measure_run("run")
    assert report["chains_go_on"] == line.format("go on", n, f"{n + 1} are by now")
    assert report["updates"] == n


def test_stopped_and_gone_on_at_any_moment(tmp_path):
    """While it thermalises too, in a window of the tuning and after it: the same chains, bit for bit."""
    settings = config(SU(2), beta=1.5, updates=("hmc", "metropolis"), chains=3, n=20, thermalise=30)
    runs.sample_run(tmp_path / "once", config=settings)
    for looks, written in (
        (4, "5 of 30 updates of the thermalisation"),
        (7, "13 of 30"),
        (9, "23 of 30"),
        (14, r"[1-9] of 20 updates"),
    ):
        with pytest.raises(Interrupted, match=f"asked to stop: {written}.* written; the same command goes on"):
            runs.sample_run(tmp_path / "parts", config=settings, stop=After(looks))
    assert runs.sample_run(tmp_path / "parts", config=settings) == 20
    once, parts = (ChainFile(tmp_path / name / "ensemble.h5") for name in ("once", "parts"))
    np.testing.assert_array_equal(once.series("action"), parts.series("action"))
    assert torch.equal(once.end()[0].x, parts.end()[0].x)
    assert torch.equal(once.end()[1], parts.end()[1])
    names = [name for name in once.attributes if name.startswith("tuned_")]
    assert {name: parts.attributes[name] for name in names} == {name: once.attributes[name] for name in names}
    assert not (tmp_path / "parts" / "thermalisation.pt").exists()
    made = [
        sum(record["made"] for record in read_metrics(tmp_path / name / "sampling.jsonl")) for name in ("once", "parts")
    ]
    assert made == [50, 50]
