"""Trained models: what goes into a file comes out of it, runs begin from it bit for bit, and shipped ones are small."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lattice_flows
from lattice_flows import exchange, flows, models, results, runs
from lattice_flows.config import ActionConfig, Config, FlowConfig, LatticeConfig, SamplingConfig, TrainingConfig, load
from lattice_flows.errors import InvalidInput
from lattice_flows.folders import load_model, trained_model
from lattice_flows.io import ChainFile, load_checkpoint, load_weights, read_about, read_metrics, save_weights
from lattice_flows.models import store
from lattice_flows.report import log_weights

ROOT = Path(__file__).parents[1]
CONFIG = Config(
    lattice=LatticeConfig(group="U(1)", sites=(4, 4)),
    action=ActionConfig(beta=1.0),
    flow=FlowConfig(architecture="hierarchical", levels=("cab", "c"), hidden=(4,), bins=4),
    training=TrainingConfig(
        steps=6, level_steps=4, level_batch=32, batch=16, learning_rate=0.01, checkpoint_every=3, seed=3, device="cpu"
    ),
    sampling=SamplingConfig(n=200, batch=50, seed=5),
)
SHORT = replace(CONFIG, training=replace(CONFIG.training, level_steps=0))


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
    assert (model.name, str(model.action)) == ("tiny", "Wilson(U(1), beta=1)")
    metrics = read_metrics(trained / "run" / "metrics.jsonl")
    minutes = sum(record["cpu_seconds"] for record in metrics) / 60
    assert model.facts.step == len(metrics) > 6
    assert model.facts.training_cpu_minutes == pytest.approx(minutes)
    assert (model.facts.version, model.facts.begun_from) == (lattice_flows.__version__, None)
    assert models.read_header(models.find(file)) == (model.name, model.config, model.facts)


def test_effective_sample_size_is_that_of_fresh_proposals(file):
    model = lattice_flows.load(file)
    links, log_q = model.flow.sample(20_000, generator=torch.Generator().manual_seed(1))
    log_w = -model.action(links) - log_q
    assert model.facts.proposals == 1000
    measured = lattice_flows.measurement.ess(log_w).item()
    assert abs(measured - model.facts.ess) < 4 * model.facts.ess_error


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
        ({"format_version": "2"}, "a model of version 1 is expected, got version 2: use the lattice_flows that"),
        ({"facts": None, "name": None}, "the header of the model has no facts, name"),
        ({"config": "[lattice"}, "a config must be TOML"),
        (
            {"config": '[lattice]\ngroup = "U(1)"\nsites = [4, 4]\n[action]\nbeta = -1.0\n'},
            "beta must be > 0, got -1.0",
        ),
        ({"config": '[lattice]\ngroup = "E(8)"\nsites = [4, 4]\n[action]\nbeta = 1.0\n'}, "unknown group 'E(8)'"),
        ({"facts": "{"}, "the facts of the model must be a JSON object"),
        ({"facts": "[]"}, "the facts of the model must be a JSON object: not an object"),
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


@pytest.mark.parametrize(("old", "new"), [("bins = 4", "bins = 5"), ("sites = [4, 4]", "sites = [4, 8]")])
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
    return log_weights(ensemble), torch.cat(list(ensemble.links()))


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
    exchange.start_run(file, tmp_path / "run", sites=(8, 6))
    there = trained_model(tmp_path / "run")
    assert there.config.lattice.sites == there.flow.sites == (8, 6)
    assert same(there.flow, flows.transfer(model.flow, (8, 6)))
    assert (there.facts.ess, there.facts.begun_from) == (None, "tiny")
    runs.sample_run(tmp_path / "run", ["sampling.n=10000"])
    with pytest.raises(InvalidInput, match=r"lattice.sites was \(8, 6\) and is now \(4, 4\); lattice-flows sample"):
        exchange.start_run(file, tmp_path / "run")
    report = results.measure_run(tmp_path / "run")
    assert abs(report["observables"]["plaquette"]["pull"]) < 5


def test_transformed_chains_begin_where_the_flow_proposes(tmp_path):
    """At a large coupling no trajectory from Haar links would be accepted."""
    exchange.start_run("u1_2d_L16_beta6", tmp_path / "run", sites=(4, 4))
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
    with pytest.raises(InvalidInput, match=r"chain was made with step \d+, not \d+: .* move the file away"):
        runs.sample_run(folder)
    with pytest.raises(InvalidInput, match="another run than that of the model: it was trained further"):
        exchange.start_run(file, folder)


def test_training_from_a_model_goes_on_bit_for_bit(file, tmp_path, monkeypatch):
    """After a kill before the first checkpoint and after a later one, with --from and without it."""
    settings = replace(SHORT, lattice=LatticeConfig(group="U(1)", sites=(6, 4)), action=ActionConfig(beta=1.5))
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
    double = replace(SHORT, training=replace(SHORT.training, dtype="float64", steps=1))
    for sites in ((4, 4), (8, 4)):
        settings = replace(double, lattice=LatticeConfig(group="U(1)", sites=sites))
        runs.train_run(settings, tmp_path / str(sites[0]), begin=file)
        assert next(trained_model(tmp_path / str(sites[0])).flow.parameters()).dtype == torch.float64


def test_other_designs_than_those_of_the_config(tmp_path):
    """Levels of up to 32 plaquettes have none to be carried from on 4x4 but those of 16, of another design."""
    levels = ("cab", "ca", "c", "c", "ca")
    settings = replace(CONFIG, flow=replace(CONFIG.flow, levels=levels), training=TrainingConfig(steps=1, batch=4))
    runs.train_run(settings, tmp_path / "run")
    exchange.export_run(tmp_path / "run", tmp_path / "u1.safetensors", proposals=100)
    exchange.start_run(tmp_path / "u1.safetensors", tmp_path / "large", sites=(8, 8))
    assert runs.sample_run(tmp_path / "large", ["sampling.n=10", "sampling.batch=5"]) == 10
    for use in (
        lambda: exchange.export_run(tmp_path / "large", tmp_path / "large.safetensors"),
        lambda: load_model(tmp_path / "large"),
    ):
        with pytest.raises(InvalidInput, match="levels of other designs than its config gives"):
            use()


@pytest.mark.parametrize("name", models.available())
def test_shipped_models(name):
    """They are small, load, are of the group, extents and coupling that their names say, and give finite weights."""
    assert models.find(name).stat().st_size < 1e6
    model = lattice_flows.load(name)
    assert model.name == name
    group, _, extent, beta = re.fullmatch(r"(u1|su\d+)_(\d)d_L(\d+)_beta(\d+(?:\.\d+)?)", name).groups()
    config = model.config
    assert config.lattice.group.replace("(", "").replace(")", "").lower() == group
    assert set(config.lattice.sites) == {int(extent)}
    assert config.action.beta == float(beta)
    assert 0 < model.facts.ess_error < model.facts.ess <= 1
    assert model.facts.training_cpu_minutes > 0
    links, log_q = model.flow.sample(2, generator=torch.Generator().manual_seed(0))
    assert (-model.action(links) - log_q).isfinite().all()


def test_size_of_all_shipped_models():
    assert sum(models.find(name).stat().st_size for name in models.available()) < 20e6


def test_models_named_in_the_readme_are_shipped():
    names = set(re.findall(r"\b(?:u1|su\d+)_\dd_L\d+_beta[\d.]*\d", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert names
    if models.available():
        assert names <= set(models.available())
