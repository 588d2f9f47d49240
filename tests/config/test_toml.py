"""Configs as text: every config goes through TOML, and only files are allowed to import."""

import itertools
import sys

import pytest
from entries import add_others, copy_registries, couplings

from lattice_flows.config import (
    ACTIONS,
    ARCHITECTURES,
    SAMPLERS,
    Config,
    import_modules,
    load,
    loads,
    resume_conflicts,
    to_toml,
)
from lattice_flows.errors import InvalidInput

THEORY = {"lattice": {"group": "SU(3)", "extents": (8, 6)}, "action": {"beta": 2.0}}


@pytest.fixture
def registries(monkeypatch):
    copy_registries(monkeypatch)


@pytest.fixture
def others(monkeypatch):
    add_others(monkeypatch)


@pytest.mark.parametrize("architecture", ["auto", *ARCHITECTURES])
def test_round_trip_of_every_combination(architecture):
    """Architectures, with all pairs of updates and all actions."""
    cycles = [list(pair) for pair in itertools.product(SAMPLERS, repeat=2) if set(pair) != {"overrelaxation"}]
    for updates, action in itertools.product([["flow"], *cycles, ["hmc*2", *SAMPLERS]], ACTIONS):
        config = Config.of(
            lattice=THEORY["lattice"],
            action=couplings(action),
            flow={"architecture": architecture},
            sampling={"updates": updates},
        )
        text = to_toml(config)
        assert loads(text, "text") == config
        assert to_toml(loads(text, "text")) == text


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"beta_start": 0.5, "anneal_steps": 10, "learning_rate": 1e-5}},
        {
            "flow": {"architecture": "hierarchical", "levels": ("crab", "ca", "c"), "beta_range": (1, 3)},
            "training": {"level_steps": 7, "steps": 0},
        },
        {"imports": ("my_action", "a.b")},
        {"sampling": {"start": 'a "b" \\ \n\r\t\b\x01\x1f\x7f\x85\u2028 é 😀 = ['}},
        {"flow": {"architecture": "hierarchical", "levels": ('a",\n"', "\x7f, ", " ")}},
        {"sampling": {"updates": ["hmc"], "trajectory": 1e-300, "seed": 2**63 - 1}},
    ],
)
def test_round_trip(sections):
    config = Config.of(**THEORY, **sections)
    assert loads(to_toml(config), "text") == config
    assert loads(to_toml(config, {"version": "1", "commit": 'a"\\b\n', "odd key": "\x7f"}), "text") == config


def test_round_trip_of_others(others):
    config = Config.of(
        lattice={"field": "scalar", "extents": (4, 4)},
        action={"kappa": 0.2, "lambda": 2},
        sampling={"updates": ["leapfrog*3", "hmc"], "leap": 0.5},
    )
    assert "\nlambda = 2.0\n" in to_toml(config)
    assert "group" not in to_toml(config)
    assert loads(to_toml(config), "text") == config


def test_lists_stand_on_one_line():
    assert 'extents = [8, 6]\n\n[action]\nname = "wilson"\nbeta = 2.0\n' in to_toml(Config.of(**THEORY))


MODULE = """
from dataclasses import dataclass
from typing import NamedTuple
from lattice_flows.config import ACTIONS, Settings
@dataclass(frozen=True, kw_only=True)
class Own(Settings):
    theta: float = 0.0
class Entry(NamedTuple):
    settings: type = Own
ACTIONS.register("theta", Entry())
"""
TEXT = 'imports = ["{}"]\n[lattice]\ngroup = "U1"\nextents = [4, 4]\n[action]\nname = "theta"\ntheta = 0.5\n'


@pytest.fixture
def module(tmp_path, registries, monkeypatch):
    """The name of a module in a folder of its own, and a config there that imports it."""
    name = f"theta_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / f"{name}.py").write_text(MODULE)
    (folder / "config.toml").write_text(TEXT.format(name))
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_file_imports(module, tmp_path):
    path = list(sys.path)
    config = load(tmp_path / "configs" / "config.toml")
    assert sys.path == path
    assert (config.imports, config.action.theta) == ((module,), 0.5)
    assert to_toml(config).startswith(f'imports = ["{module}"]\n\n[lattice]\n')
    # what a run folder and a model keep is understood where the module is imported already
    assert loads(to_toml(config), "model") == config
    assert resume_conflicts(config, Config.of(**config.tables())) == []


def test_text_from_elsewhere_does_not_import(module, tmp_path, monkeypatch):
    """It says which modules it needs; imported by name, from the current folder, they are there."""
    with pytest.raises(InvalidInput) as error:
        loads(TEXT.format(module), "model.safetensors")
    assert str(error.value).startswith("unknown action 'theta'; available: wilson, ")
    assert str(error.value).endswith(
        f"(model.safetensors: action.name); the config imports {module}: name it by --import {module}, or import it in "
        "Python first"
    )
    assert module not in sys.modules
    with pytest.raises(InvalidInput, match=rf"cannot import {module}: .*\(command line: --import\)"):
        import_modules([module], "command line: --import")
    monkeypatch.chdir(tmp_path / "configs")
    import_modules([module], "command line: --import")
    assert loads(TEXT.format(module), "model.safetensors").action.theta == 0.5


def test_a_file_in_another_folder(module, tmp_path, monkeypatch):
    """As the config of a run: its modules are looked for in the current folder too."""
    text = (tmp_path / "configs" / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidInput) as error:
        load(tmp_path / "config.toml")
    assert str(error.value).startswith(
        f"cannot import {module}: No module named '{module}' ({tmp_path}/config.toml: im"
    )
    monkeypatch.chdir(tmp_path / "configs")
    assert load(tmp_path / "config.toml").action.theta == 0.5


def test_a_folder_from_somebody_else_brings_no_modules(module, tmp_path):
    """The config of a run folder may name modules, but they come from elsewhere."""
    with pytest.raises(InvalidInput, match=f"cannot import {module}"):
        load(tmp_path / "configs" / "config.toml", beside=False)
    assert module not in sys.modules


def test_imports_of_the_command_line(module, tmp_path, monkeypatch):
    """They are kept in the config, as if the file had named them."""
    path = tmp_path / "plain.toml"
    path.write_text(TEXT.partition("\n")[2])
    monkeypatch.chdir(tmp_path / "configs")
    assert load(path, imports=[module]).imports == (module,)


def test_what_resuming_may_change():
    old = Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0})

    def conflicts(**sections):
        return resume_conflicts(old, old.having(**sections))

    assert conflicts(training={"steps": 2000, "device": "cuda", "checkpoint_every": 7, "max_bad_steps": 3}) == []
    assert conflicts(training={"steps": 999}) == ["training.steps was 1000 and is now 999"]
    assert conflicts(training={"seed": 5, "dtype": "float64"}) == [
        "training.dtype was float32 and is now float64",
        "training.seed was 0 and is now 5",
    ]
    assert conflicts(training={"beta_start": 1.0, "anneal_steps": 2}) == [
        "training.anneal_steps was 0 and is now 2",
        "training.beta_start was None and is now 1.0",
    ]
    assert conflicts(sampling={"n": 3, "batch": 2, "seed": 9}) == conflicts(sampling={"updates": ["hmc"]}) == []
    assert conflicts(lattice={"group": "SU2", "sites": (4, 8)}, flow={"layers": 3}) == [
        "flow.layers was 16 and is now 3",
        "lattice.extents was (8, 8) and is now (4, 8)",
        "lattice.group was U(1) and is now SU(2)",
    ]
    # where the architecture changes, keys that come and go with it are not told one by one
    assert conflicts(flow={"architecture": "hierarchical", "bins": 5}) == [
        "flow.architecture was stripes and is now hierarchical",
        "flow.bins was 8 and is now 5",
    ]
    old = old.having(flow={"architecture": "hierarchical"})
    assert conflicts(training={"level_steps": 9}) == ["training.level_steps was 0 and is now 9"]
    assert conflicts(flow={"levels": ("c",)}) == ["flow.levels was ('cab', 'c') and is now ('c',)"]
