"""Configs: what is accepted, what is refused and in which words."""

import dataclasses
import json
import pickle
from typing import get_args, get_type_hints

import pytest
from entries import add_others, copy_registries, couplings

from lattice_flows.config import (
    ACTIONS,
    ARCHITECTURES,
    SAMPLERS,
    ActionConfig,
    Config,
    FlowConfig,
    LatticeConfig,
    SamplingConfig,
    TrainingConfig,
    load,
    loads,
)
from lattice_flows.config.rules import keys
from lattice_flows.errors import InvalidInput

LATTICE = '[lattice]\ngroup = "SU(3)"\nextents = [8, 6]\n'
MINIMAL = LATTICE + "[action]\nbeta = 2\n"
SCALAR = '[lattice]\nfield = "scalar"\nextents = [4, 4]\n[action]\nkappa = 0.2\n'
THEORY = {"lattice": {"group": "SU(3)", "extents": (8, 6)}, "action": {"beta": 2.0}}


@pytest.fixture
def registries(monkeypatch):
    copy_registries(monkeypatch)


@pytest.fixture
def others(monkeypatch):
    add_others(monkeypatch)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL)
    return path


def refused(text, *overrides):
    with pytest.raises(InvalidInput) as error:
        loads(text, "place", overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_and_conversions(path):
    config = load(path)
    assert config.action.beta == 2.0
    assert isinstance(config.action.beta, float)
    assert config.lattice.extents == (8, 6)
    assert (config.lattice.field, config.action.name, config.flow.architecture) == ("gauge", "wilson", "stripes")
    assert load(path, ["lattice.extents=[4, 4, 4]"]).flow.architecture == "checkerboard"


def test_overrides(path):
    overrides = [
        "training.steps=500",
        "lattice.group=U1",
        "training.device=cuda:1",
        "flow.hidden=[8]",
        "training.steps=7",
    ]
    config = load(path, overrides)
    assert config.training.steps == 7
    assert config.lattice.group == "U(1)"
    assert config.training.device == "cuda:1"
    assert config.flow.hidden == (8,)
    levels = load(path, ["flow.architecture=hierarchical", "training.steps=0", "training.level_steps=7"])
    assert (levels.training.steps, levels.training.level_steps) == (0, 7)


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
        (
            "action.name=villain",
            f"unknown action 'villain'; available: {', '.join(ACTIONS)} (command line: action.name)",
        ),
        ("action.name=3", "name must be a string, got 3 (command line: action.name)"),
        (
            "flow.architecture=tree",
            f"unknown architecture 'tree'; available: {', '.join(ARCHITECTURES)} (command line: flow.architecture)",
        ),
        ("flow.architecture=[]", "architecture must be a string, got []"),
        ("lattice.group=3", "group must be a string, got 3"),
        ("lattice.field=spinor", "field must be one of gauge, scalar, got 'spinor'"),
        ("lattice.field=scalar", 'group belongs to field = "gauge": leave it out for a scalar field (command line: la'),
        ("lattice.extents=8", "extents must be a list of integers, got 8"),
        ("lattice.extents=8,8", "extents must be a list of integers, got '8,8'"),
        ("lattice.extents=[8, 8.0]", "extents must be a list of integers"),
        ("lattice.extents=[8]", "extents must be 2 to 4 extents, each >= 2, got [8]"),
        ("lattice.sites=[8, 1]", "extents must be 2 to 4 extents, each >= 2, got [8, 1] (command line: lattice.sites)"),
        ("lattice.dim=2", "unknown key 'dim', valid keys: field, group, extents (command line: lattice.dim)"),
        ("flow.layers=0", "layers must be >= 1, got 0"),
        ("flow.kernel_size=2", "kernel_size must be odd and >= 1, got 2"),
        ("flow.hidden=[0]", "hidden must be widths, each >= 1"),
        ("flow.hidden=[true]", "hidden must be a list of integers, got [True]"),
        ("training.steps=0", "steps must not be 0 (command line: training)"),
        ("flow.archtecture=stripes", "unknown key 'archtecture', valid keys: architecture, layers, bins, hidden, kern"),
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
        ("sampling.updates=hmc", "updates must be a list of strings, got 'hmc'"),
        ("sampling.updates=[]", "updates must be a list of updates, each alone or as heatbath*4, got []"),
        ('sampling.updates=["hmc*0"]', "each alone or as heatbath*4, got ['hmc*0']"),
        (
            'sampling.updates=["hmc", "gibbs*2"]',
            f"unknown update 'gibbs'; available: {', '.join(SAMPLERS)} (command line: sampling.updates)",
        ),
        ('sampling.updates=["overrelaxation*2"]', "over-relaxation keeps the action and needs another update"),
        ("model.layers=3", "unknown section 'model', valid sections: lattice, action, flow, training, sampling"),
        ("steps=3", "an override is section.key=value, got 'steps=3'"),
        ("training.steps", "an override is section.key=value, got 'training.steps'"),
    ],
)
def test_refused_override(override, words):
    error = refused(MINIMAL, override)
    assert words in error
    assert "command line" in error


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("flow.levels=[]", 'levels must be designs of levels, such as ["crab", "c"], got []'),
        ('flow.levels=["cab", ""]', "levels must be designs of levels, such as [\"crab\", \"c\"], got ['cab', '']"),
        ("flow.levels=cab", "levels must be a list of strings, got 'cab'"),
        ("flow.levels=[1]", "levels must be a list of strings, got [1]"),
        ("flow.beta_range=[3.0, 1.0]", "beta_range must be two couplings, 0 < low < high"),
        ("flow.beta_range=[1.0]", "beta_range must be two couplings"),
        ('flow.beta_range=["a", "b"]', "beta_range must be a list of numbers"),
        ("training.level_steps=-1", "level_steps must be >= 0, got -1"),
        ("training.level_batch=0", "level_batch must be >= 1, got 0"),
        ("training.level_learning_rate=0", "level_learning_rate must be > 0, got 0"),
        ("training.steps=0", "steps and level_steps must not both be 0"),
        ("sampling.trajectory=0", "trajectory must be > 0, got 0"),
        ("sampling.hmc_steps=-1", "hmc_steps must be >= 0, got -1"),
    ],
)
def test_refused_override_of_an_entry(override, words):
    text = MINIMAL + '[flow]\narchitecture = "hierarchical"\n[sampling]\nupdates = ["hmc"]\n'
    assert words in refused(text, override)


def entry_keys(section):
    """Pairs of an entry and a key that it adds to a section."""
    classes = {
        "action": {name: entry.settings for name, entry in ACTIONS.items()},
        "flow": {name: recipe.settings for name, recipe in ARCHITECTURES.items()},
        "training": {name: recipe.training for name, recipe in ARCHITECTURES.items()},
        "sampling": {name: entry.settings for name, entry in SAMPLERS.items()},
    }[section]
    return {name: set(keys(kind)) for name, kind in classes.items()}


NAMED = {
    "action": lambda name: {"action": {"name": name}},
    "flow": lambda name: {"flow": {"architecture": name}},
    "training": lambda name: {"flow": {"architecture": name}},
    "sampling": lambda name: {"sampling": {"updates": [name, "heatbath"]}},
}


@pytest.mark.parametrize("section", NAMED)
def test_every_key_is_refused_where_it_does_not_belong(section, others):
    """And the error says to which entries it belongs, and the keys that are valid instead."""
    by_entry = entry_keys(section)
    foreign = [(name, key) for name in by_entry for key in set().union(*by_entry.values()) - by_entry[name]]
    for name, key in foreign:
        tables = {**THEORY, **NAMED[section](name)}
        if section == "action":
            tables["action"] = couplings(name)
        tables[section] = {**tables.get(section, {}), key: 1}
        with pytest.raises(InvalidInput) as error:
            Config.of(**tables)
        owners = ", ".join(owner for owner in by_entry if key in by_entry[owner])
        assert str(error.value).startswith(f"{key} belongs to {owners}, not to {name}"), (section, name, key)
        assert f"; valid keys: {NAMED_KEY[section]}" in str(error.value)
        assert str(error.value).endswith(f"({section}.{key})")
    assert foreign or section == "training"


NAMED_KEY = {"action": "name, ", "flow": "architecture, ", "training": "steps, ", "sampling": "updates, "}


def test_keys_of_another_entry():
    """Those of a file are left out only where the command line names another entry; those of overrides never are."""
    stripes = MINIMAL + '[flow]\narchitecture = "stripes"\nlayers = 4\nbins = 5\n'
    config = loads(stripes, "place", ["flow.architecture=hierarchical"])
    assert (config.flow.architecture, config.flow.bins, config.flow.levels) == ("hierarchical", 5, ("cab", "c"))
    assert not hasattr(config.flow, "layers")
    words = "layers belongs to stripes, checkerboard, "
    rest = "not to hierarchical; valid keys: architecture, levels, beta_range, bins, hidden "
    for text, overrides, place in (
        (stripes, ["flow.architecture=hierarchical", "flow.layers=3"], "command line: flow.layers"),
        (stripes.replace("stripes", "hierarchical"), [], "place: flow.layers"),
        (stripes.replace("stripes", "hierarchical"), ["flow.architecture=hierarchical"], "place: flow.layers"),
        (stripes.replace("stripes", "hierarchical"), ["lattice.extents=[4, 4]"], "place: flow.layers"),
    ):
        error = refused(text, *overrides)
        assert error.startswith(words)
        assert error.endswith(f"{rest}({place})")
    # that which belongs to no entry is not forgotten either
    assert "unknown key 'layer'" in refused(stripes.replace("layers", "layer"), "flow.architecture=hierarchical")

    levels = MINIMAL + '[flow]\narchitecture = "hierarchical"\n[training]\nlevel_steps = 5\nsteps = 3\n'
    assert loads(levels, "place", ["flow.architecture=stripes"]).training.steps == 3
    assert "level_steps belongs to hierarchical, not to stripes" in refused(MINIMAL, "training.level_steps=2")
    # auto is another architecture in another dimension
    three = ["lattice.extents=[4, 4, 4]"]
    assert loads(stripes.replace('"stripes"', '"auto"'), "place", three).flow.architecture == "checkerboard"

    flow = MINIMAL + "[sampling]\nbatch = 7\nn = 3\n"
    sampling = loads(flow, "place", ['sampling.updates=["heatbath", "hmc"]']).sampling
    assert (sampling.n, sampling.trajectory, hasattr(sampling, "batch")) == (3, 1.0, False)
    assert loads(flow, "place", ['sampling.updates=["hmc", "flow"]']).sampling.batch == 7
    error = refused(flow.replace("n = 3", 'updates = ["heatbath", "overrelaxation*4"]'))
    assert error.startswith("batch belongs to flow, not to heatbath, overrelaxation; valid keys: updates, chains, n, ")
    assert "batch belongs to flow" in refused(flow, 'sampling.updates=["hmc"]', "sampling.batch=3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL.replace("2\n", "-2\n"), "beta must be > 0, got -2 (place: action.beta)"),
        (MINIMAL + "[training]\nstep = 3\n", "unknown key 'step', valid keys: steps, batch, learning_rate"),
        (LATTICE + "[action]\n", "beta is missing (place: action.beta)"),
        (LATTICE, "beta is missing (place: action.beta)"),
        (MINIMAL.replace("extents = [8, 6]\n", ""), "extents is missing (place: lattice.extents)"),
        (MINIMAL.replace('group = "SU(3)"\n', ""), 'group is missing: a gauge field needs one, such as "SU(3)" (place'),
        ("training = 3\n" + MINIMAL, "training must be a section [training], got 3 (place: training)"),
        (MINIMAL.replace("extents", "sites = [8, 6]\nextents"), "sites and extents of [lattice] are the same"),
        (MINIMAL.replace("extents", "sites").replace("6", "1"), "got [8, 1] (place: lattice.sites)"),
        ("beta = \n", "a config must be TOML"),
        ("imports = 3\n" + MINIMAL, 'imports must be a list of modules, such as ["my_action"], got 3 (place: imports)'),
        ('imports = ["a/b"]\n' + MINIMAL, "imports must be a list of modules"),
        (
            MINIMAL + '[flow]\narchitecture = "hierarchical"\nbeta_range = [1, 3]\n[training]\nbeta_start = 1\n'
            "anneal_steps = 5\n",
            "trained at all its couplings: it cannot be annealed as well (place)",
        ),
    ],
)
def test_refused_text(text, words):
    assert words in refused(text)


def test_refused_path(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, words in (("none.toml", "No such file"), ("", "Is a directory"), ("binary.toml", "UTF-8")):
        with pytest.raises(InvalidInput, match=words):
            load(tmp_path / name)


def test_sites_are_extents():
    """In files, in overrides of either by the other, and in Python."""
    old = MINIMAL.replace("extents", "sites")
    assert loads(old, "old") == loads(MINIMAL, "new")
    for text in (old, MINIMAL):
        for name in ("sites", "extents"):
            assert loads(text, "place", [f"lattice.{name}=[4, 2]"]).lattice.extents == (4, 2)
    assert Config.of(lattice={"group": "U1", "sites": (4, 4)}, action={"beta": 1}).lattice.extents == (4, 4)


def test_configs_in_python():
    config = Config.of(**THEORY, training={"steps": 5}, sampling={"updates": ["hmc"], "hmc_steps": 3})
    assert config == loads(MINIMAL + '[training]\nsteps = 5\n[sampling]\nupdates = ["hmc"]\nhmc_steps = 3\n', "place")
    assert Config.of(lattice=config.lattice, action=config.action, flow=config.flow) == Config.of(**THEORY)
    assert Config.of(**THEORY, training=TrainingConfig(steps=3)).training.steps == 3
    for tables, words in (
        ({"action": {"beta": -1.0}}, "beta must be > 0, got -1.0 (action.beta)"),
        ({"flow": {"layer": 3}}, "unknown key 'layer', valid keys: architecture, layers, bins"),
        ({"lattice": {"group": "U(1)"}}, "extents is missing (lattice.extents)"),
    ):
        with pytest.raises(InvalidInput) as error:
            Config.of(**{**THEORY, **tables})
        assert words in str(error.value)


def test_other_values_of_a_config():
    config = Config.of(**THEORY, flow={"layers": 4, "bins": 5}, sampling={"batch": 7, "n": 3})
    other = config.having(flow={"architecture": "hierarchical"}, sampling={"updates": ["hmc"]}, lattice={"group": "U1"})
    assert (other.flow.bins, other.flow.levels, other.sampling.n) == (5, ("cab", "c"), 3)
    assert (other.lattice.group, other.lattice.extents, other.action) == ("U(1)", (8, 6), config.action)
    assert other.having(flow={"architecture": "stripes", "layers": 4}, sampling=config.sampling) == config.having(
        lattice={"group": "U1"}
    )
    with pytest.raises(InvalidInput, match="layers belongs to stripes, checkerboard"):
        other.having(flow={"layers": 3})
    changed = dataclasses.replace(config, lattice=dataclasses.replace(config.lattice, extents=(4, 4)))
    assert changed == config.having(lattice={"extents": [4, 4]})


def test_a_change_hides_no_mistake(path):
    """A key that did not belong before an override is refused after it, too."""
    path.write_text(path.read_text() + '\n[sampling]\nupdates = ["heatbath"]\nhmc_steps = 5\n')
    for updates in (["metropolis"], ["heatbath", "overrelaxation"]):
        with pytest.raises(InvalidInput, match=r"hmc_steps belongs to hmc, transformed, .*toml: sampling.hmc_steps"):
            load(path, [f"sampling.updates={updates}"])


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("flow", {"architecture": "hierarchical"}),
        ("sampling", {"updates": ("hmc",)}),
    ],
)
def test_sections_that_do_not_have_their_keys(section, change):
    """By the constructor or `replace` nobody gets a config whose sections are of other entries than they name."""
    config = Config.of(**THEORY)
    wrong = dataclasses.replace(getattr(config, section), **change)
    with pytest.raises(InvalidInput, match=r"make the config with Config.of, or from another with config.having"):
        dataclasses.replace(config, **{section: wrong})
    for section in ("flow", "action", "sampling"):
        own = {"flow": FlowConfig(), "action": ActionConfig(name="wilson"), "sampling": SamplingConfig()}[section]
        with pytest.raises(InvalidInput, match=rf"\[{section}\] has not the keys of"):
            dataclasses.replace(config, **{section: own})


def test_pickle():
    """As MPI sends them to other ranks."""
    for sampling in ({}, {"updates": ["flow", "hmc", "overrelaxation*2"]}):
        for name in ("stripes", "hierarchical"):
            config = Config.of(**THEORY, flow={"architecture": name}, sampling=sampling, imports=["my_action"])
            again = pickle.loads(pickle.dumps(config))
            assert again == config
            assert repr(again) == repr(config)
            assert again.having(action={"beta": 3}) != config


def test_scalar_fields(others):
    """The field of a config decides on its default action and on "auto"; `lambda` is a key although it is no name."""
    config = loads(SCALAR + "lambda = 2\n[sampling]\nleap = 0.5\nupdates = ['leapfrog*3']\n", "place")
    assert (config.lattice.group, config.action.name, config.action.lambda_) == (None, "phi4", 2.0)
    assert (config.flow.architecture, config.flow.floors, config.training.floor_steps) == ("tower", 3, 0)
    assert (config.sampling.cycle, config.sampling.leap) == ((("leapfrog", 3),), 0.5)
    assert not config.sampling.uses_flow
    assert config.action.table()["lambda"] == 2.0
    made = Config.of(
        lattice={"field": "scalar", "extents": (4, 4)},
        action={"kappa": 0.2, "lambda_": 2},
        sampling={"updates": ["leapfrog*3"], "leap": 0.5},
    )
    assert made == config
    assert made == made.having(action={"lambda": 2})
    assert "beta belongs to wilson, symanzik, iwasaki, dbw2, not to phi4" in refused(SCALAR, "action.beta=1")
    assert "kappa belongs to phi4, not to wilson" in refused(MINIMAL, "action.kappa=1")
    assert "steps and floor_steps must not both be 0" in refused(SCALAR, "training.steps=0")
    assert loads(SCALAR, "place", ["training.steps=0", "training.floor_steps=2"]).training.steps == 0
    gauge = loads(SCALAR, "place", ["lattice.field=gauge", "lattice.group=U1", "action.beta=2"])
    assert (gauge.action.name, gauge.flow.architecture) == ("wilson", "stripes")


def test_no_default_action(registries):
    ACTIONS._entries.pop("phi4", None)
    assert refused(SCALAR) == "name is missing: a scalar field has no default action (place: action.name)"


def test_no_architecture_suits(others):
    """A run without a flow needs none."""
    del ARCHITECTURES._entries["tower"]
    error = refused(SCALAR)
    assert "no architecture suits a scalar field in 2 dimensions: name one, or take updates without a flow" in error
    config = loads(SCALAR, "place", ['sampling.updates=["hmc"]'])
    assert config.flow == FlowConfig(architecture="auto")
    assert "layers belongs to stripes, checkerboard, not to any of them; valid keys: architecture (" in refused(
        SCALAR, 'sampling.updates=["hmc"]', "flow.layers=2"
    )


def test_a_broken_entry_of_others_is_no_matter(registries):
    """Of those that do not name it."""
    for registry, name in ((ACTIONS, "broken"), (SAMPLERS, "broken"), (ARCHITECTURES, "broken")):
        registry._entries[name] = "nowhere:ENTRY"
    assert loads(MINIMAL, "place").flow.architecture == "stripes"
    for override in ("action.b=1", "sampling.b=1", "flow.b=1", "training.b=1"):
        assert "unknown key 'b'" in refused(MINIMAL, override)
    assert "the action 'broken' is not at nowhere:ENTRY" in refused(MINIMAL, "action.name=broken")


def test_sections_are_checked_in_python_too():
    with pytest.raises(InvalidInput, match="steps must be an integer, got 'x'"):
        TrainingConfig(steps="x")
    with pytest.raises(InvalidInput, match="group is missing"):
        LatticeConfig(extents=(4, 4))


def test_choices_are_those_of_training():
    from lattice_flows.training import ESTIMATORS

    assert set(get_args(get_type_hints(TrainingConfig)["estimator"])) == set(ESTIMATORS)


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
    assert (config.sampling.cycle, config.sampling.uses_flow, config.sampling.dropped) == (cycle, uses_flow, dropped)
