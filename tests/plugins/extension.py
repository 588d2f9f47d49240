"""An action, a sampler, an architecture and an observable of somebody else's, each in one place."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from lattice_flows.actions import ActionEntry, BetaSettings, OperatorAction
from lattice_flows.config.registry import ACTIONS, ARCHITECTURES, OBSERVABLES, SAMPLERS
from lattice_flows.config.rules import Settings
from lattice_flows.flows import stripes
from lattice_flows.flows.recipe import Recipe
from lattice_flows.observables import average_plaquette
from lattice_flows.observables.base import ObservableEntry, of_links
from lattice_flows.operators import plaquettes
from lattice_flows.sampling.base import ChainState, SamplerEntry, stand_at


@dataclass(frozen=True, kw_only=True)
class MixedSettings(BetaSettings):
    """A second coupling, which stays as it is."""

    gamma: float = 0.5


class Mixed(OperatorAction):
    """S = -(beta + gamma) sum of plaquettes + 7."""

    def __init__(self, space, beta, gamma):
        super().__init__(space, beta)
        self.gamma = gamma

    def terms(self):
        return [(-self.beta, plaquettes(self.space)), (-self.gamma, plaquettes(self.space))]

    def forward(self, x):
        return super().forward(x) + 7.0


ACTIONS.register("mixed", ActionEntry(MixedSettings, lambda space, own: Mixed(space, own.beta, own.gamma)))


class Turned(NamedTuple):
    """The outcome of a turn."""

    acceptance: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class ConjugationSettings(Settings):
    """How often links are conjugated in one update."""

    turns: int = 1


class Conjugation:
    """Charge conjugation, which leaves the action as it is."""

    def __init__(self, action, turns):
        self.action, self.turns = action, turns

    def init(self, x):
        return stand_at(x, self.action)

    def step(self, state, streams):
        x = state.x
        for _ in range(self.turns):
            x = x.conj().resolve_conj() if x.is_complex() else self.action.space.group.inverse(x)
        return ChainState(x, self.action(x), None, state.offered), Turned(torch.ones_like(state.action))


SAMPLERS.register(
    "conjugation",
    SamplerEntry(
        "charge conjugation",
        ConjugationSettings,
        lambda action, settings, context: Conjugation(action, settings.turns),
        rejects=False,
    ),
)


@dataclass(frozen=True, kw_only=True)
class ShortSettings(Settings):
    """The number of rounds of couplings."""

    rounds: int = 1


def short(space, settings, action, *, seed, dtype):
    """Eight couplings a round, of few parameters."""
    return stripes(space.group, space.lattice, layers=8 * settings.rounds, bins=4, hidden=(4,), seed=seed, dtype=dtype)


ARCHITECTURES.register("short", Recipe(ShortSettings, short, suits=lambda field, dim: False))


def squared(space):
    """The square of the average plaquette."""
    plaquette = average_plaquette(space)
    return lambda links: plaquette(links).square()


OBSERVABLES.register(
    "plaquette_squared", ObservableEntry("plaquette squared", of_links(squared), exact=lambda action: 0.25)
)
