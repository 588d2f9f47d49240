"""The laws of molecular dynamics."""

import math

import numpy as np
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.actions import Symanzik, Wilson
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.measurement import estimate
from lattice_flows.sampling import HMC, HeatBath, Streams, start

THEORIES = [(U1(), 2.0, (4, 3)), (SU(2), 2.2, (3, 4)), (SU(3), 5.0, (2, 3, 2))]
INTEGRATORS = ["omelyan", "leapfrog"]

by_theory = pytest.mark.parametrize("theory", THEORIES, ids=str)
by_integrator = pytest.mark.parametrize("integrator", INTEGRATORS)


def equilibrium(theory, chains, seed=0):
    """The action, chains in equilibrium, and their streams."""
    group, beta, sites = theory
    action, streams = Wilson(group, beta, dim=len(sites)), Streams(seed, chains)
    sampler = HeatBath(action)
    state = sampler.init(start(group, sites, streams, dtype=torch.float64))
    for _ in range(20):
        state, _ = sampler.step(state, streams)
    return action, state, streams


@by_theory
@by_integrator
def test_mean_of_exp_of_minus_delta_h(theory, integrator):
    """It is 1 in equilibrium, for steps of any size."""
    action, state, streams = equilibrium(theory, 200)
    sampler, changes = HMC(action, steps=1 if integrator == "omelyan" else 3, integrator=integrator), []
    for _ in range(10):
        state, info = sampler.step(state, streams)
        changes.append(info.delta_h)
    delta = torch.stack(changes, 1)
    assert delta.std() > 0.1
    measured = estimate((-delta).exp().numpy())
    assert abs(measured.value - 1) < 4 * measured.error


@by_theory
@by_integrator
def test_delta_h_is_of_second_order(theory, integrator):
    action, state, streams = equilibrium(theory, 50)
    at, steps, sizes = streams.get_state(), np.array([8, 12, 18]), []
    for n in steps:
        streams.set_state(at)
        _, info = HMC(action, 1.0, int(n), integrator).step(state, streams)
        sizes.append(info.delta_h.square().mean().sqrt().item())
    slope, _ = np.polyfit(np.log(1 / steps), np.log(sizes), 1)
    assert abs(slope - 2) < 0.1


@by_theory
@by_integrator
def test_reversibility(theory, integrator):
    action, state, streams = equilibrium(theory, 3)
    found = HMC(action, 2.0, 20, integrator).reversibility(state, streams)
    assert found.links.shape == found.energy.shape == (3,)
    assert found.links.max() < 1e-12
    assert found.energy.max() < 1e-10


def test_a_force_that_does_not_fit_is_not_reversible():
    """The diagnostic sees a force that changes from one call to the next."""

    class Drifting(Symanzik):
        calls = 0

        def force(self, links):
            self.calls += 1
            return super().force(links) * (1 + 1e-3 * self.calls)

    streams = Streams(0, 2)
    sampler = HMC(Drifting(U1(), 2.0), steps=5)
    state = sampler.init(start(U1(), (4, 4), streams, dtype=torch.float64))
    assert sampler.reversibility(state, streams).links.min() > 1e-4


@by_theory
@pytest.mark.parametrize("first", [1, 40])
def test_tuned_steps_reach_the_target(theory, first):
    action, state, streams = equilibrium(theory, 50)
    sampler = HMC(action, 1.5, first, "leapfrog").tune(state, streams, target=0.8)
    rate = 0.0
    for _ in range(10):
        state, info = sampler.step(state, streams)
        rate += info.acceptance.mean().item() / 10
    assert 0.72 < rate < 0.92
    assert sampler.trajectory == 1.5


@pytest.mark.parametrize("first", [1, 10, 40])
def test_tuning_does_not_end_where_nothing_is_accepted(first):
    """Wherever it begins: at this coupling a trajectory in few steps is unstable, and its acceptance is 0."""
    action, streams = Wilson(U1(), 40.0), Streams(2, 4)
    sampler = HMC(action, steps=40)
    state = sampler.init(start(U1(), (4, 4), streams, "cold"))
    for _ in range(5):
        state, _ = sampler.step(state, streams)
    tuned = HMC(action, steps=first).tune(state, streams)
    rates = [tuned.step(state, streams)[1].acceptance.mean() for _ in range(20)]
    assert sum(rates) / 20 > 0.6


def test_a_wrong_force_cannot_be_tuned(monkeypatch):
    class Wrong(Wilson):
        def force(self, links):
            return super().force(links) * math.inf

    monkeypatch.setattr("lattice_flows.sampling.hmc.MOST_STEPS", 40)
    action, streams = Wrong(U1(), 4.0), Streams(2, 2)
    sampler = HMC(action)
    with pytest.raises(NumericalFailure, match="is the force that of the action"):
        sampler.tune(sampler.init(start(U1(), (2, 2), streams, "cold")), streams, 0.9)


def test_what_is_not_finite_is_rejected():
    """A trajectory in steps so long that H overflows leaves the chain where it is."""

    class Broken(Wilson):
        def force(self, links):
            return super().force(links) * math.inf

    streams = Streams(0, 3)
    sampler = HMC(Broken(SU(2), 1.0))
    state = sampler.init(start(SU(2), (2, 2), streams))
    after, info = sampler.step(state, streams)
    assert not info.accepted.any()
    assert torch.equal(after.links, state.links)


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"trajectory": 0.0}, "trajectory"), ({"steps": 0}, "steps"), ({"integrator": "euler"}, "integrator")],
)
def test_bad_settings(settings, word):
    with pytest.raises(InvalidInput, match=word):
        HMC(Wilson(U1(), 1.0), **settings)
    with pytest.raises(InvalidInput, match="target"):
        HMC(Wilson(U1(), 1.0)).tune(HMC(Wilson(U1(), 1.0)).init(U1().identity(1, 2, 2, 2)), Streams(0, 1), 1.0)
