"""Trained models: a file gives back the model that was written, and runs begin from it bit for bit."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lattice_flows
from lattice_flows import SU, GaugeField, ScalarField, models, runs
from lattice_flows.config import Config, load
from lattice_flows.distributed import World
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile, load_checkpoint, load_weights, read_about, read_metrics, save_weights
from lattice_flows.models import store
from lattice_flows.reports.report import log_weights
from lattice_flows.runs import measure as results
from lattice_flows.runs import models as exchange
from lattice_flows.runs.folder import load_model, trained_model
from lattice_flows.statistics import ess
from lattice_flows.streams import keyed

CONFIG = Config.of(
    lattice={"group": "U(1)", "extents": (4, 4)},
    action={"beta": 1.0},
    flow={"architecture": "hierarchical", "levels": ("cab", "c"), "hidden": (4,), "bins": 4},
    training={
        "steps": 6, "level_steps": 4, "level_batch": 32, "batch": 16, "learning_rate": 0.01, "checkpoint_every": 3,
        "seed": 3, "device": "cpu",
    },
    sampling={"n": 200, "batch": 50, "seed": 5},
)  # fmt: skip
SHORT = CONFIG.having(training={"level_steps": 0})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained run and the model of it; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    runs.train_run(CONFIG, folder / "run")
    exchange.export_run(folder / "run", folder / "tiny.safetensors", proposals=1000)
    return folder


@pytest.fixture
def file(trained, tmp_path):
    return shutil.copy(trained / "tiny.safetensors", tmp_path)


def same(flow, other):
    one, two = flow.state_dict(), other.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def rewritten(file, **about):
    """The file with other words in its header; None leaves a word out."""
    words = {key: text for key, text in (read_about(file) | about).items() if text is not None}
    save_weights(file, load_weights(file), words)
    return file


def test_round_trip(trained, file):
    run, model = trained_model(trained / "run"), lattice_flows.load(file)
    assert same(model.flow, run.flow)
    assert not model.flow.training
    assert model.config == CONFIG
    assert (model.name, str(model.action)) == ("tiny", "Wilson(GaugeField(U(1), 4x4), beta=1)")
    metrics = read_metrics(trained / "run" / "metrics.jsonl")
    minutes = sum(record["cpu_seconds"] for record in metrics) / 60
    assert model.facts.step == len(metrics) > 6
    assert model.facts.training_cpu_minutes == pytest.approx(minutes)
    assert (model.facts.version, model.facts.begun_from) == (lattice_flows.__version__, None)
    assert models.read_header(models.find(file)) == (model.name, model.config, model.facts)


def test_effective_sample_size_is_that_of_fresh_proposals(file):
    model = lattice_flows.load(file)
    stream, weights = keyed(model.config.sampling.seed, "export"), []
    for n in [model.config.sampling.batch] * 20:
        links, log_q = model.flow.sample(n, generator=stream)
        weights.append(-model.action(links).double() - log_q.double())
    assert model.facts.proposals == 1000
    assert model.facts.ess == pytest.approx(ess(torch.cat(weights)[:1000]).item(), rel=1e-4)


def test_runs_of_earlier_versions_have_a_cost_too(trained, tmp_path):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    records = [{**record, "seconds": 30.0} for record in read_metrics(run / "metrics.jsonl")]
    for record in records:
        del record["cpu_seconds"]
    extra = [*records, records[-1]]  # that a killed process wrote after the checkpoint
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in extra))
    assert trained_model(run).facts.training_cpu_minutes == len(records) / 2


def test_one_line_loads_a_run_too(trained, file):
    assert same(lattice_flows.load(trained / "run").flow, lattice_flows.load(file).flow)
    before = torch.get_rng_state()
    assert lattice_flows.load(str(trained / "run")).name == "run"
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    with pytest.raises(InvalidInput, match=r"unknown model 'u1', available: none; or the path of a file that ends in"):
        lattice_flows.load("u1")
    for name in ("su3_b", "su2_a"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(InvalidInput, match="unknown model 'u1', available: su2_a, su3_b; or the path"):
        lattice_flows.load("u1")


def test_files_dropped_into_the_package_are_there_by_name(file, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED", Path(file).parent)
    assert models.available() == ["tiny"]
    assert same(lattice_flows.load("tiny").flow, lattice_flows.load(file).flow)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"format": None}, "a model of lattice_flows is expected, this file is from another program"),
        ({"format_version": "1"}, "a model of version 2 is expected, got version 1: use the lattice_flows that"),
        ({"facts": None, "name": None}, "the header of the model has no facts, name"),
        ({"config": "[lattice"}, "a config must be TOML"),
        (
            {"config": '[lattice]\ngroup = "U(1)"\nextents = [4, 4]\n[action]\nbeta = -1.0\n'},
            "beta must be > 0, got -1.0",
        ),
        ({"config": '[lattice]\ngroup = "E(8)"\nextents = [4, 4]\n[action]\nbeta = 1.0\n'}, "unknown group 'E(8)'"),
        ({"facts": "{"}, "the facts of the model must be a JSON object"),
        ({"facts": "[]"}, "the facts of the model must be a JSON object, got []"),
        ({"facts": '{"step": -1}'}, "step must be >= 0, got -1"),
        ({"facts": '{"step": 1, "version": "0.1.0"}'}, "training_cpu_minutes is missing"),
    ],
)
def test_broken_headers(file, about, words):
    with pytest.raises(InvalidInput) as error:
        lattice_flows.load(rewritten(file, **about))
    assert words in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_modules_that_a_config_names_are_not_imported(file, tmp_path, monkeypatch):
    (tmp_path / "named_by_a_model.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = 'imports = ["named_by_a_model"]\n' + read_about(file)["config"]
    model = lattice_flows.load(rewritten(file, config=text))
    assert model.config.imports == ("named_by_a_model",)
    runs.start_run(file, tmp_path / "run")
    assert runs.load_run(tmp_path / "run").imports == ()
    assert "named_by_a_model" not in sys.modules


@pytest.mark.parametrize(("old", "new"), [("bins = 4", "bins = 5"), ("extents = [4, 4]", "extents = [4, 8]")])
def test_weights_that_do_not_fit_the_config(file, old, new):
    text = read_about(file)["config"]
    assert old in text
    with pytest.raises(InvalidInput, match=r"the weights do not fit the config of the model: .* \(.*tiny") as error:
        lattice_flows.load(rewritten(file, config=text.replace(old, new)))
    assert "\n" not in str(error.value)


def test_weights_that_are_not_finite(file):
    weights = load_weights(file)
    next(iter(weights.values())).fill_(torch.nan)
    save_weights(file, weights, read_about(file))
    with pytest.raises(InvalidInput, match=r"the weights of the model are not finite \(.*tiny.safetensors\)"):
        lattice_flows.load(file)


def chain(folder):
    ensemble = ChainFile(folder / "ensemble.h5")
    return log_weights(ensemble), torch.cat(list(ensemble.configurations()))


def test_chains_of_a_model_go_on_bit_for_bit(trained, file, tmp_path):
    """And they are those of the run that it was made from."""
    for lengths in ((150, 200), (200,)):
        folder = tmp_path / str(len(lengths))
        for n in lengths:
            exchange.start_run(file, folder)
            runs.sample_run(folder, [f"sampling.n={n}"])
    run = shutil.copytree(trained / "run", tmp_path / "run")
    runs.sample_run(run)
    for other in (tmp_path / "1", run):
        for one, two in zip(chain(tmp_path / "2"), chain(other), strict=True):
            np.testing.assert_array_equal(one, two)
    assert sorted(os.listdir(tmp_path / "1")) == [
        ".lock", "config.toml", "ensemble.h5", "model.safetensors", "sampling.jsonl",
    ]  # fmt: skip
    assert load(tmp_path / "1" / "config.toml") == CONFIG
    assert results.measure_run(tmp_path / "1")["n"] == 200


def test_a_model_on_other_extents(file, tmp_path):
    model = lattice_flows.load(file)
    exchange.start_run(file, tmp_path / "run", lattice=(8, 6))
    there = trained_model(tmp_path / "run")
    assert there.config.lattice.extents == there.flow.lattice.extents == (8, 6)
    assert same(there.flow, model.flow.on((8, 6)))
    assert (there.facts.ess, there.facts.begun_from) == (None, "tiny")
    settings = ['updates=["flow", "heatbath"]', "chains=8", "thermalise=10"]
    runs.sample_run(tmp_path / "run", [f"sampling.{setting}" for setting in settings])
    with pytest.raises(InvalidInput, match=r"lattice.extents was \(8, 6\) and is now \(4, 4\); lattice-flows sample"):
        exchange.start_run(file, tmp_path / "run")
    report = results.measure_run(tmp_path / "run")
    assert abs(report["observables"]["plaquette"]["pull"]) < 5


def test_transformed_chains_begin_where_the_flow_proposes(tmp_path):
    """At a large coupling no trajectory from Haar links would be accepted."""
    exchange.start_run("u1_2d_L16_beta6", tmp_path / "run", lattice=(4, 4))
    settings = ["updates=['transformed']", "chains=8", "n=5", "thermalise=0", "hmc_steps=3"]
    runs.sample_run(tmp_path / "run", [f"sampling.{setting}" for setting in settings])
    assert results.measure_run(tmp_path / "run")["acceptance"] > 0.5


def test_a_folder_of_a_model_is_trained_further(file, tmp_path):
    folder = tmp_path / "run"
    exchange.start_run(file, folder)
    runs.sample_run(folder)
    runs.train_run(CONFIG, folder)
    runs.train_run(CONFIG, tmp_path / "from", begin=file)
    model = trained_model(folder)
    assert same(model.flow, trained_model(tmp_path / "from").flow)
    assert not same(model.flow, lattice_flows.load(file).flow)
    with pytest.raises(InvalidInput, match=r"made with weights of step \d+, not \d+: --new keeps it as ensemble.1.h5"):
        runs.sample_run(folder)
    with pytest.raises(InvalidInput, match="another run than that of the model: it was trained further"):
        exchange.start_run(file, folder)


def test_training_from_a_model_goes_on_bit_for_bit(file, tmp_path, monkeypatch):
    """After a kill before the first checkpoint and after a later one, with --from and without it."""
    settings = SHORT.having(lattice={"extents": (6, 4)}, action={"beta": 1.5})
    runs.train_run(settings, tmp_path / "once", begin=file)
    for steps, again in ((1, file), (1, None), (5, file), (5, None)):
        folder = tmp_path / f"{steps}-{again is None}"
        with monkeypatch.context() as patch:
            patch.setattr(runs.train.training, "train", stopping_at(steps, runs.train.training.train))
            with pytest.raises(KeyboardInterrupt):
                runs.train_run(settings, folder, begin=file)
        assert (folder / "checkpoint.pt").exists() == (steps > 3)
        assert runs.train_run(settings, folder, begin=again) == 6
        one, two = (load_checkpoint(path / "checkpoint.pt")["training"] for path in (folder, tmp_path / "once"))
        assert all(torch.equal(one["flow"][name], two["flow"][name]) for name in two["flow"])
        losses = [
            [record["loss"] for record in read_metrics(path / "metrics.jsonl")] for path in (folder, tmp_path / "once")
        ]
        assert losses[0] == losses[1]


def stopping_at(steps, train):
    def training(*arguments):
        for record in train(*arguments):
            if record.step > steps:
                raise KeyboardInterrupt
            yield record

    return training


def test_training_from_a_run(trained, tmp_path):
    runs.train_run(SHORT, tmp_path / "run", begin=trained / "run")
    model, first = trained_model(tmp_path / "run"), trained_model(trained / "run")
    assert (model.name, model.facts.begun_from) == ("run", "run")
    assert model.facts.step == first.facts.step + 6
    assert model.facts.training_cpu_minutes > first.facts.training_cpu_minutes
    with pytest.raises(InvalidInput, match="holds a run that began from other weights"):
        runs.train_run(SHORT, tmp_path / "run", begin=tmp_path / "run")
    for name in ("model.safetensors", "checkpoint.pt"):
        (tmp_path / "run" / name).unlink()
    with pytest.raises(InvalidInput, match="nothing is trained yet"):
        load_model(tmp_path / "run")


def test_the_precision_is_that_of_the_config(file, tmp_path):
    double = SHORT.having(training={"dtype": "float64", "steps": 1})
    for extents in ((4, 4), (8, 4)):
        settings = double.having(lattice={"extents": extents})
        runs.train_run(settings, tmp_path / str(extents[0]), begin=file)
        assert next(trained_model(tmp_path / str(extents[0])).flow.parameters()).dtype == torch.float64


def test_other_designs_than_those_of_the_config(tmp_path):
    """Levels of up to 32 plaquettes have none to be carried from on 4x4 but those of 16, of another design."""
    levels = ("cab", "ca", "c", "c", "ca")
    settings = CONFIG.having(flow={"levels": levels}, training={"steps": 1, "level_steps": 0, "batch": 4})
    runs.train_run(settings, tmp_path / "run")
    exchange.export_run(tmp_path / "run", tmp_path / "u1.safetensors", proposals=100)
    exchange.start_run(tmp_path / "u1.safetensors", tmp_path / "large", lattice=(8, 8))
    assert runs.sample_run(tmp_path / "large", ["sampling.n=10", "sampling.batch=5"]) == 10
    large = settings.having(lattice={"extents": (8, 8)})
    for use in (
        lambda: exchange.export_run(tmp_path / "large", tmp_path / "large.safetensors"),
        lambda: load_model(tmp_path / "large"),
        lambda: runs.train_run(large, tmp_path / "large"),
        lambda: runs.train_run(large, tmp_path / "new", begin=tmp_path / "u1.safetensors"),
        lambda: runs.sample_run(tmp_path / "large", ["sampling.n=20"], world=TwoRanks()),
    ):
        with pytest.raises(InvalidInput, match="levels of other designs than its config gives"):
            use()
    assert not (tmp_path / "new").exists()


class TwoRanks(World):
    """The first of two ranks, alone."""

    size = 2


def test_export_where_no_update_has_a_batch(tmp_path):
    runs.train_run(SHORT.having(sampling={"updates": ["transformed"]}), tmp_path / "run")
    model = exchange.export_run(tmp_path / "run", tmp_path / "u1.safetensors", proposals=100)
    assert 0 < model.facts.ess <= 1


STRIPES = Config.of(
    lattice={"group": "SU(2)", "extents": (4, 4)}, action={"beta": 2.0}, flow={"layers": 4, "hidden": (4,), "bins": 4}
)


def untrained(config):
    config, flow, action = models.build_run(config, "test")
    return models.Model(flow, action, config, "x", models.Facts(version="0", step=0, training_cpu_minutes=0.0))


def test_models_of_stripes_are_carried_too():
    """Their parameters do not depend on the volume."""
    model = untrained(STRIPES)
    config = STRIPES.having(lattice={"extents": (8, 4)})
    flow = models.carried(model, config, "test")
    assert flow.lattice.extents == config.lattice.extents == (8, 4)
    assert same(flow, model.flow)
    assert flow.sample(2).links.shape == (2, 2, 8, 4, 2, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lattice": {"group": "SU(3)"}}, "lattice.group is SU(3) and not SU(2)"),
        ({"flow": {"bins": 5}}, "flow.bins is 5 and not 4"),
        ({"flow": {"bins": 5, "layers": 8}}, "flow.layers is 8 and not 4; flow.bins is 5 and not 4"),
    ],
)
def test_configs_that_do_not_fit_the_weights(changes, words):
    config = STRIPES.having(**changes)
    with pytest.raises(InvalidInput) as error:
        models.carried(untrained(STRIPES), config, "run.toml")
    assert str(error.value) == f"the config does not fit the weights of x: {words} (run.toml)"


def test_another_architecture_does_not_fit_the_weights():
    config = STRIPES.having(flow={"architecture": "hierarchical"})
    with pytest.raises(InvalidInput, match=r"flow\.architecture is hierarchical and not stripes"):
        models.carried(untrained(STRIPES), config, "run.toml")


@pytest.mark.parametrize("extents", [(4, 1), (4,), (2, 2, 2, 2, 2)])
def test_extents_that_no_lattice_has(extents, file, tmp_path):
    with pytest.raises(InvalidInput, match=r"a lattice has 2, 3 or 4 integer extents >= 2, got .* \(command line\)"):
        exchange.start_run(file, tmp_path / "run", lattice=extents)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("lattice", "flow", "words"),
    [
        ({"group": "E(8)", "extents": (4, 4)}, {}, "unknown group 'E(8)'"),
        ({"group": "U(1)", "extents": (4, 4, 4)}, {"architecture": "stripes"}, "(x.toml: lattice, flow)"),
        ({"group": "U(1)", "extents": (4, 4, 4)}, {"architecture": "hierarchical"}, "(x.toml: lattice, flow)"),
        ({"field": "scalar", "extents": (4, 4)}, {"architecture": "stripes"}, "a space of links is needed"),
        ({"field": "scalar", "extents": (4, 4)}, {"architecture": "stripes"}, "(x.toml: action)"),
    ],
)
def test_theories_that_cannot_be_built(lattice, flow, words):
    """Errors name the config and the section."""
    with pytest.raises(InvalidInput) as error:
        models.build_run(Config.of(lattice=lattice, action={"name": "wilson", "beta": 1.0}, flow=flow), "x.toml")
    assert words in str(error.value)
    assert "(x.toml: " in str(error.value)
    assert "\n" not in str(error.value)


def test_spaces_of_configs():
    """The group has its own name in the config; a scalar field has none."""
    gauge = Config.of(lattice={"group": "SU3", "extents": (4, 6)}, action={"beta": 6.0})
    assert models.build_space(gauge) == GaugeField(SU(3), (4, 6))
    config, action = models.build_action(gauge, "x.toml")
    assert (config, action.space, action.beta) == (gauge, GaugeField(SU(3), (4, 6)), 6.0)
    scalar = Config.of(
        lattice={"field": "scalar", "extents": (4, 6)},
        action={"name": "wilson", "beta": 1.0},
        sampling={"updates": ["hmc"]},
    )
    assert models.build_space(scalar) == ScalarField((4, 6))


@pytest.mark.parametrize("extents", [(4, 4), (8, 4)])
def test_a_carried_flow_is_asked_for_the_coupling_of_the_config(extents):
    config = CONFIG.having(flow={"beta_range": (0.5, 2.0)})
    model = untrained(config)
    flow = models.carried(model, config.having(lattice={"extents": extents}, action={"beta": 1.5}), "run.toml")
    assert (flow.beta_input.beta.item(), model.flow.beta_input.beta.item()) == (1.5, 1.0)
    with pytest.raises(
        InvalidInput, match=r"beta must be from 0.5 to 2.0 for this flow, got 3.0 \(run.toml: lattice, "
    ):
        models.carried(model, config.having(lattice={"extents": extents}, action={"beta": 3.0}), "run.toml")
