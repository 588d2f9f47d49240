"""Settings: checked values, and classes that are put together from several."""

import dataclasses
import pickle
from dataclasses import dataclass
from typing import Literal

import pytest

from lattice_flows.config import Settings
from lattice_flows.config.rules import Count, Positive, combined
from lattice_flows.errors import InvalidInput


@dataclass(frozen=True, kw_only=True)
class Base(Settings):
    name: str = "x"
    fast: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.name == "bad":
            raise InvalidInput("a bad name")


@dataclass(frozen=True, kw_only=True)
class Beta(Settings):
    beta: Positive


@dataclass(frozen=True, kw_only=True)
class More(Beta):
    lambda_: float = 1.0
    kind: Literal["a", "b"] | None = None


@dataclass(frozen=True, kw_only=True)
class Same(Settings):
    beta: Count = 1


@dataclass(kw_only=True)
class Loose(Settings):
    x: int = 1


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    table: int = 1


def test_combined():
    """The keys of all, in order; the rules of all; equal arguments give the same class."""
    kind = combined(Base, Beta)
    assert combined(Base, None, Beta, Settings, Beta) is kind
    assert combined(Base) is combined(Base, None) is Base
    assert repr(kind(beta=2)) == "Base(name='x', fast=False, beta=2.0)"
    for wrong in ({"beta": -1}, {"beta": 1, "name": "bad"}, {"beta": 1, "fast": 1}, {"beta": 1, "name": 3}):
        with pytest.raises(InvalidInput):
            kind(**wrong)
    assert combined(Base, Beta, More) is combined(Base, More)  # More has the keys of Beta
    assert combined(Beta, More) is More


def test_combined_settings_pickle_and_compare():
    settings = combined(Base, More)(beta=2, name="y", kind="a")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(settings, protocol))
        assert again == settings
        assert type(again) is type(settings)
    assert dataclasses.replace(settings, beta=3) != settings
    assert hash(dataclasses.replace(settings)) == hash(settings)
    with pytest.raises(InvalidInput):
        dataclasses.replace(settings, beta=-3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.beta = 3


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Same, "Beta and Same both have a key 'beta': rename one"),
        (Loose, "settings must be a frozen dataclass that derives from config.Settings"),
        (Count, "settings must be a frozen dataclass that derives from config.Settings"),
        (Method, "a key cannot be called 'table'"),
    ],
)
def test_parts_that_do_not_go_together(part, words):
    with pytest.raises(InvalidInput) as error:
        combined(Base, Beta, part)
    assert words in str(error.value)


def test_tables():
    kind = combined(Base, More)
    settings = kind.from_table({"beta": 1, "lambda": 2, "kind": "b"}, lambda key: f"place {key}")
    assert (settings.lambda_, settings.kind) == (2.0, "b")
    assert settings.table() == {"name": "x", "fast": False, "beta": 1.0, "lambda": 2.0, "kind": "b"}
    assert "kind" not in kind(beta=1).table()
    cases = {
        ("lambda_", 1): "unknown key 'lambda_', valid keys: name, fast, beta, lambda, kind (place lambda_)",
        ("lambda", "x"): "lambda must be a number, got 'x' (place lambda)",
        ("fast", 1): "fast must be true or false, got 1 (place fast)",
        ("kind", "c"): "kind must be one of a, b, got 'c' (place kind)",
        ("name", "bad"): "a bad name (place )",
        ("name", "y"): "beta is missing (place beta)",
    }
    for (key, value), words in cases.items():
        table = {key: value} if words.startswith("beta is") else {"beta": 1, key: value}
        with pytest.raises(InvalidInput) as error:
            kind.from_table(table, lambda key: f"place {key}")
        assert str(error.value) == words


def test_other_types_are_a_mistake_of_the_author():
    @dataclass(frozen=True, kw_only=True)
    class Wrong(Settings):
        x: complex = 1j

    with pytest.raises(TypeError, match="settings are str, bool, int, float"):
        Wrong()
