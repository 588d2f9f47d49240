"""Entries of somebody else's, for the time of one test."""

from dataclasses import MISSING, dataclass, fields
from typing import NamedTuple

from lattice_flows.config import ACTIONS, ARCHITECTURES, OBSERVABLES, SAMPLERS, Settings
from lattice_flows.config.rules import Count, Positive


@dataclass(frozen=True, kw_only=True)
class ScalarCouplings(Settings):
    kappa: Positive
    lambda_: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Tower(Settings):
    floors: Count = 3
    bins: Count = 5


@dataclass(frozen=True, kw_only=True)
class TowerTraining(Settings):
    floor_steps: int = 0
    step_keys = ("floor_steps",)

    def check(self, config):
        assert config.flow.architecture == "tower"
        super().check(config)


@dataclass(frozen=True, kw_only=True)
class Leaps(Settings):
    leap: Positive = 0.1


class Entry(NamedTuple):
    settings: type[Settings]
    training: type[Settings] | None = None
    uses_flow: bool = False
    suits: object = lambda field, dim: field == "scalar"


def couplings(action):
    """Values for the keys of `[action]` that have no default."""
    required = (field for field in fields(ACTIONS[action].settings) if field.default is MISSING)
    return {"name": action, **{field.name.removesuffix("_"): 0.5 for field in required}}


def copy_registries(monkeypatch):
    """Make what a test registers disappear after it."""
    for registry in (ACTIONS, ARCHITECTURES, SAMPLERS, OBSERVABLES):
        list(registry)  # finds entry points now, not in the copy
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def add_others(monkeypatch):
    """Register an update, and the only action and architecture of scalar fields."""
    copy_registries(monkeypatch)
    ARCHITECTURES._entries.pop("affine", None)
    ACTIONS._entries["phi4"] = Entry(ScalarCouplings)
    ARCHITECTURES.register("tower", Entry(Tower, TowerTraining))
    SAMPLERS.register("leapfrog", Entry(Leaps))
