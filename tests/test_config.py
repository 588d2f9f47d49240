"""Settings: what is accepted, what is refused and in which words, and what a resumed run may change."""

import json
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from lattice_flows.actions import ACTIONS
from lattice_flows.config import (
    UPDATES,
    ActionConfig,
    Config,
    FlowConfig,
    LatticeConfig,
    SamplingConfig,
    TrainingConfig,
    load,
    loads,
    resume_conflicts,
    to_toml,
)
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.builders import ARCHITECTURES
from lattice_flows.report import SAMPLERS
from lattice_flows.training import ESTIMATORS

MINIMAL = '[lattice]\ngroup = "SU(3)"\nsites = [8, 6]\n[action]\nbeta = 2\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL)
    return path


def test_defaults_and_conversions(path):
    config = load(path)
    assert config.action.beta == 2.0
    assert isinstance(config.action.beta, float)
    assert config.lattice.sites == (8, 6)
    assert config.flow.architecture == "stripes"
    assert load(path, ["lattice.sites=[4, 4, 4]"]).flow.architecture == "checkerboard"


def test_overrides(path):
    overrides = [
        "training.steps=500",
        "lattice.group=U1",
        "training.device=cuda:1",
        "flow.hidden=[8]",
        "training.steps=7",
    ]
    config = load(path, overrides)
    assert load(path, ["training.steps=0", "training.level_steps=7"]).training.steps == 0
    assert config.training.steps == 7
    assert config.lattice.group == "U(1)"
    assert config.training.device == "cuda:1"
    assert config.flow.hidden == (8,)


def test_round_trip(path):
    annealed = ["training.beta_start=0.5", "training.anneal_steps=10", "training.learning_rate=1e-5"]
    levels = ["flow.architecture=hierarchical", 'flow.levels=["crab", "ca", "c"]', "training.level_steps=7"]
    for overrides in ([], annealed, levels):
        config = load(path, overrides)
        assert loads(to_toml(config), "text") == config
        assert loads(to_toml(config, {"version": "1", "commit": 'a"\\b'}), "text") == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("action.beta=-1.0", "beta must be > 0, got -1.0 (command line: action.beta)"),
        ("action.beta=0", "beta must be > 0, got 0"),
        ("action.beta=nan", "beta must be finite, got nan"),
        ("action.beta=inf", "beta must be finite, got inf"),
        ("action.beta=1" + "0" * 400, "beta must be a number"),
        ("action.beta=true", "beta must be a number, got True"),
        ("action.beta=strong", "beta must be a number, got 'strong'"),
        ("action.name=villain", "name must be one of wilson, symanzik, iwasaki, dbw2, got 'villain'"),
        ("lattice.group=3", "group must be a string, got 3"),
        ("lattice.sites=8", "sites must be a list of integers, got 8"),
        ("lattice.sites=[8, 8.0]", "sites must be a list of integers"),
        ("lattice.sites=[8]", "sites must be 2 to 4 extents, each >= 2, got [8]"),
        ("lattice.sites=[8, 1]", "sites must be 2 to 4 extents, each >= 2, got [8, 1]"),
        ("flow.layers=0", "layers must be >= 1, got 0"),
        ("flow.kernel_size=2", "kernel_size must be odd and >= 1, got 2"),
        ("flow.hidden=[0]", "hidden must be widths, each >= 1"),
        ("flow.levels=[]", 'levels must be designs of levels, such as ["crab", "c"], got []'),
        ('flow.levels=["cab", ""]', "levels must be designs of levels, such as [\"crab\", \"c\"], got ['cab', '']"),
        ("flow.levels=cab", "levels must be a list of strings, got 'cab'"),
        ("flow.levels=[1]", "levels must be a list of strings, got [1]"),
        ("flow.hidden=[true]", "hidden must be a list of integers, got [True]"),
        ("training.level_steps=-1", "level_steps must be >= 0, got -1"),
        ("training.level_batch=0", "level_batch must be >= 1, got 0"),
        ("training.level_learning_rate=0", "level_learning_rate must be > 0, got 0"),
        ("training.steps=0", "steps and level_steps must not both be 0"),
        (
            "flow.archtecture=stripes",
            "unknown key 'archtecture', valid keys: architecture, layers, levels, beta_range, bins, hidden",
        ),
        ("training.steps=1.5", "steps must be an integer, got 1.5"),
        ("training.steps=", "steps must be an integer, got ''"),
        ("training.steps=true", "steps must be an integer, got True"),
        ("training.steps=1\nx = 2", "steps must be an integer, got '1\\nx = 2'"),
        ("training.clip=0", "clip must be > 0"),
        ("training.dtype=float16", "dtype must be one of float32, float64"),
        ("training.device=gpu", "device must be auto, cpu, cuda or cuda:k, got 'gpu'"),
        ("training.estimator=forward", "estimator must be one of reparametrisation, path, reinforce"),
        ("training.beta_start=1", "annealing needs both beta_start and anneal_steps >= 1"),
        ("training.seed=-1", "seed must be from 0 to 2^63 - 1, got -1"),
        ("sampling.n=0", "n must be >= 1, got 0"),
        ("sampling.chains=0", "chains must be >= 1, got 0"),
        ("sampling.every=0", "every must be >= 1, got 0"),
        ("sampling.thermalise=-1", "thermalise must be >= 0, got -1"),
        ("sampling.trajectory=0", "trajectory must be > 0, got 0"),
        ("sampling.updates=hmc", "updates must be a list of strings, got 'hmc'"),
        (
            "sampling.updates=[]",
            "updates must be a list of flow, heatbath, overrelaxation, hmc, metropolis, transformed",
        ),
        ('sampling.updates=["hmc*0"]', "each alone or as heatbath*4, got ['hmc*0']"),
        ('sampling.updates=["overrelaxation*2"]', "over-relaxation keeps the action and needs another update"),
        ("model.layers=3", "unknown section 'model', valid sections: lattice, action, flow, training, sampling"),
        ("steps=3", "an override is section.key=value, got 'steps=3'"),
        ("training.steps", "an override is section.key=value, got 'training.steps'"),
    ],
)
def test_refused_override(path, override, words):
    with pytest.raises(InvalidInput) as error:
        load(path, [override])
    assert words in str(error.value)
    assert "command line" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL.replace("2\n", "-2\n"), "beta must be > 0, got -2 ({path}: action.beta)"),
        (MINIMAL + "[training]\nstep = 3\n", "unknown key 'step', valid keys: steps, level_steps, level_batch"),
        (MINIMAL.replace("beta = 2\n", ""), "beta is missing ({path}: action.beta)"),
        (MINIMAL.partition("[action]")[0], "beta is missing ({path}: action.beta)"),
        ("training = 3\n" + MINIMAL, "training must be a section [training], got 3 ({path}: training)"),
        ("beta = \n", "a config must be TOML"),
    ],
)
def test_refused_file(path, text, words):
    path.write_text(text)
    with pytest.raises(InvalidInput) as error:
        load(path)
    assert words.format(path=path) in str(error.value)
    assert str(path) in str(error.value)


def test_refused_path(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, words in (("none.toml", "No such file"), ("", "Is a directory"), ("binary.toml", "UTF-8")):
        with pytest.raises(InvalidInput, match=words):
            load(tmp_path / name)


def test_sections_are_checked_in_python_too():
    with pytest.raises(InvalidInput, match="beta must be > 0, got -1"):
        ActionConfig(beta=-1.0)


def test_choices_are_the_registries():
    def choices(section, name):
        return set(get_args(get_type_hints(section)[name]))

    assert choices(ActionConfig, "name") == set(ACTIONS)
    assert choices(TrainingConfig, "estimator") == set(ESTIMATORS)
    assert choices(FlowConfig, "architecture") == {*ARCHITECTURES, "auto"}


def test_what_resuming_may_change():
    old = Config(lattice=LatticeConfig(group="U(1)", sites=(8, 8)), action=ActionConfig(beta=2.0))

    def conflicts(**training):
        return resume_conflicts(old, replace(old, training=replace(old.training, **training)))

    assert conflicts(steps=2000, device="cuda", checkpoint_every=7, max_bad_steps=3) == []
    assert conflicts(steps=999) == ["training.steps was 1000 and is now 999"]
    assert conflicts(seed=5, dtype="float64") == [
        "training.dtype was float32 and is now float64",
        "training.seed was 0 and is now 5",
    ]
    assert resume_conflicts(old, replace(old, sampling=replace(old.sampling, n=3, batch=2, seed=9))) == []
    other = replace(old, lattice=LatticeConfig(group="SU(2)", sites=(8, 8)), flow=replace(old.flow, layers=3))
    assert resume_conflicts(old, other) == [
        "flow.layers was 16 and is now 3",
        "lattice.group was U(1) and is now SU(2)",
    ]
    assert conflicts(level_steps=9) == ["training.level_steps was 0 and is now 9"]
    assert resume_conflicts(old, replace(old, flow=replace(old.flow, levels=("c",)))) == [
        "flow.levels was ('cab', 'c') and is now ('c',)"
    ]


@pytest.mark.parametrize(
    ("updates", "cycle", "uses_flow", "dropped"),
    [
        (["flow"], (("flow", 1),), True, 0),
        (["flow*3"], (("flow", 3),), True, 0),
        (["flow", "overrelaxation*4", "heatbath"], (("flow", 1), ("overrelaxation", 4), ("heatbath", 1)), True, 200),
        (["transformed"], (("transformed", 1),), True, 200),
        (["hmc", "hmc"], (("hmc", 1), ("hmc", 1)), False, 200),
    ],
)
def test_updates(updates, cycle, uses_flow, dropped):
    sampling = SamplingConfig(updates=updates)
    assert (sampling.cycle, sampling.uses_flow, sampling.dropped) == (cycle, uses_flow, dropped)
    assert SamplingConfig(updates=updates, thermalise=7).dropped == 7
    config = loads(MINIMAL + f"[sampling]\nupdates = {json.dumps(updates)}\n", "config")
    assert config.sampling == sampling
    assert loads(to_toml(config), "text") == config


def test_names_of_updates_are_known():
    assert set(SAMPLERS) == set(UPDATES)


def test_range_of_couplings():
    """It goes through TOML, and is checked as any setting is."""
    text = MINIMAL + "[flow]\nbeta_range = [1, 3]\n"
    config = loads(text, "config")
    assert config.flow.beta_range == (1.0, 3.0)
    assert loads(to_toml(config), "config") == config
    for wrong in ("[3.0, 1.0]", "[1.0]", '["a", "b"]', "2.0"):
        with pytest.raises(InvalidInput, match="beta_range must be"):
            loads(text.replace("[1, 3]", wrong), "config")
