"""The laws of molecular dynamics."""

import math

import numpy as np
import pytest
import torch
from sampler_cases import Gaussian

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Iwasaki, Symanzik, Wilson
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.sampling import HMC, HeatBath, Metropolis, Streams, start
from lattice_flows.statistics import estimate

FLAT = GaugeField(U1(), (4, 4))
ACTIONS = [
    Wilson(GaugeField(U1(), (4, 3)), 2.0),
    Wilson(GaugeField(SU(2), (3, 4)), 2.2),
    Wilson(GaugeField(SU(3), (2, 3, 2)), 5.0),
    Gaussian((4, 3), 0.5),
]
RECTANGLES = [Iwasaki(GaugeField(group, (3, 4, 3)), 1.1 * group.n) for group in (U1(), SU(2), SU(3))]
INTEGRATORS = ["omelyan", "leapfrog"]

by_action = pytest.mark.parametrize("action", ACTIONS, ids=str)
by_integrator = pytest.mark.parametrize("integrator", INTEGRATORS)


def equilibrium(action, chains, seed=0):
    """Chains in equilibrium, and their streams."""
    streams = Streams(seed, chains)
    sampler = Metropolis(action, hits=8) if isinstance(action, Gaussian) else HeatBath(action)
    state = sampler.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(20):
        state, _ = sampler.step(state, streams)
    return state, streams


@by_action
@by_integrator
def test_mean_of_exp_of_minus_delta_h(action, integrator):
    """It is 1 in equilibrium, for steps of any size."""
    state, streams = equilibrium(action, 200)
    # weights with tails too heavy for a mean come with longer steps
    trajectory, steps = (0.7, 1) if integrator == "omelyan" else (1.0, 3)
    sampler, changes = HMC(action, trajectory, steps, integrator), []
    for _ in range(10):
        state, info = sampler.step(state, streams)
        changes.append(info.delta_h)
    delta = torch.stack(changes, 1)
    assert 0.05 < delta.std() < 1.5
    measured = estimate((-delta).exp().numpy())
    assert abs(measured.value - 1) < 4 * measured.error


@by_action
@by_integrator
def test_delta_h_is_of_second_order(action, integrator):
    state, streams = equilibrium(action, 50)
    # the scheme of minimal norm has almost no error of second order in a quadratic action
    scale = 2 if isinstance(action, Gaussian) else 1
    at, steps, sizes = streams.get_state(), scale * np.array([8, 12, 18]), []
    for n in steps:
        streams.set_state(at)
        _, info = HMC(action, 1.0, int(n), integrator).step(state, streams)
        sizes.append(info.delta_h.square().mean().sqrt().item())
    slope, _ = np.polyfit(np.log(1 / steps), np.log(sizes), 1)
    assert abs(slope - 2) < 0.1


@pytest.mark.parametrize("action", ACTIONS + RECTANGLES, ids=str)
@by_integrator
def test_reversibility(action, integrator):
    state, streams = equilibrium(action, 3)
    found = HMC(action, 2.0, 20, integrator).reversibility(state, streams)
    assert found.distance.shape == found.energy.shape == (3,)
    assert found.distance.max() < 1e-12
    assert found.energy.max() < 1e-10


def test_a_force_that_does_not_fit_is_not_reversible():
    """The diagnostic sees a force that changes from one call to the next."""

    class Drifting(Symanzik):
        calls = 0

        def force(self, x):
            self.calls += 1
            return super().force(x) * (1 + 1e-3 * self.calls)

    streams = Streams(0, 2)
    sampler = HMC(Drifting(FLAT, 2.0), steps=5)
    state = sampler.init(start(FLAT, streams, dtype=torch.float64))
    assert sampler.reversibility(state, streams).distance.min() > 1e-4


@by_action
@pytest.mark.parametrize("first", [1, 40])
def test_tuned_steps_reach_the_target(action, first):
    """They, and hardly fewer: two steps less do not, up to errors of what is measured."""
    state, streams = equilibrium(action, 50)
    sampler = HMC(action, 1.5, first, "leapfrog").tune(state, streams, target=0.8)

    def rate(steps):
        fewer, now, rates = HMC(action, 1.5, steps, "leapfrog"), state, []
        for _ in range(10):
            now, info = fewer.step(now, streams)
            rates.append(fewer.rate(info))
        of_chains = torch.stack(rates).mean(0)
        return of_chains.mean(), of_chains.std() / math.sqrt(len(of_chains))

    (reached, error), (fewer, other) = rate(sampler.steps), rate(sampler.steps - 2)
    assert reached > 0.8 - 4 * error
    assert fewer < 0.8 + 4 * other
    assert sampler.trajectory == 1.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("first", [1, 10, 40])
def test_tuning_does_not_end_where_little_is_accepted(first, seed):
    """Wherever it begins: at this coupling 8 steps have an acceptance of .95, 7 steps .35, and 6 steps .01."""
    action, streams = Wilson(FLAT, 40.0), Streams(seed, 4)
    sampler = HMC(action, steps=40)
    state = sampler.init(start(FLAT, streams, "cold"))
    for _ in range(5):
        state, _ = sampler.step(state, streams)
    tuned = HMC(action, steps=first).tune(state, streams)
    rates = [tuned.step(state, streams)[1].acceptance.mean() for _ in range(20)]
    assert sum(rates) / 20 > 0.8


def test_a_wrong_force_cannot_be_tuned():
    class Wrong(Wilson):
        def force(self, x):
            return super().force(x) * math.inf

    action, streams = Wrong(FLAT, 4.0), Streams(2, 2)
    sampler = HMC(action)
    with pytest.raises(NumericalFailure, match="is the force that of the action"):
        sampler.tune(sampler.init(start(FLAT, streams, "cold")), streams, 0.9, updates=10)


def test_what_is_not_finite_is_rejected():
    """A trajectory in steps so long that H overflows leaves the chain where it is."""

    class Broken(Wilson):
        def force(self, x):
            return super().force(x) * math.inf

    streams = Streams(0, 3)
    sampler = HMC(Broken(GaugeField(SU(2), (2, 2)), 1.0))
    state = sampler.init(start(sampler.action.space, streams))
    after, info = sampler.step(state, streams)
    assert not info.accepted.any()
    assert torch.equal(after.x, state.x)


class Noisy(Gaussian):
    """A field phi with a second one chi of density exp(-c chi^2 / 2), c = 1 + mean of phi^2, drawn anew each time.

    S = S_0 + (c chi^2 - log c) / 2 at fixed chi: with chi integrated out, phi has the density exp(-S_0). Without chi
    nothing is known of S.
    """

    chi = None

    def forward(self, x):
        if self.chi is None:
            return torch.full(x.shape[:1], torch.nan, dtype=x.dtype)
        c = self._c(x)
        return super().forward(x) + (c * self.chi**2 - c.log()) / 2

    def refreshed(self, x, streams):
        other = Noisy(self.space.lattice, self.diagonal - 2 * self.space.dim)
        noise = streams.draw(lambda g: torch.randn((), generator=g, dtype=x.dtype))
        other.chi, other.batch_invariant = noise / self._c(x).sqrt(), True
        return other

    def _c(self, x):
        return 1 + x.square().flatten(1).mean(1)


def test_auxiliary_fields_are_drawn_at_each_trajectory():
    """<phi^2> is that of the density without them, and short steps keep H."""
    action, streams = Noisy((2, 3), 0.5), Streams(3, 100)
    sampler = HMC(action, 0.7, steps=2)
    state = sampler.init(start(action.space, streams, dtype=torch.float64))
    squares = []
    for step in range(120):
        state, _ = sampler.step(state, streams)
        if step >= 20:
            squares.append(state.x.square().flatten(1).mean(1))
    found = estimate(torch.stack(squares, 1).numpy())
    assert abs(found.value - action.exact_square()) < 4 * found.error
    assert found.error < 0.02
    short = HMC(action, 0.1, steps=10)
    for _ in range(2):
        state, info = short.step(state, streams)
        assert info.delta_h.abs().max() < 1e-3
    back = short.reversibility(state, streams)
    assert back.distance.max() < 1e-12
    assert back.energy.max() < 1e-12


def test_fixed_steps_stay():
    sampler, streams = HMC(Wilson(FLAT, 40.0), steps=2, fixed=True), Streams(0, 2)
    assert sampler.tune(sampler.init(start(FLAT, streams)), streams) is sampler
    assert sampler.tuned == {}
    assert HMC(Wilson(FLAT, 1.0), steps=3).tuned == {"steps": 3}


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"trajectory": 0.0}, "trajectory"), ({"steps": 0}, "steps"), ({"integrator": "euler"}, "integrator")],
)
def test_bad_settings(settings, word):
    action = Wilson(FLAT, 1.0)
    with pytest.raises(InvalidInput, match=word):
        HMC(action, **settings)
    with pytest.raises(InvalidInput, match="target"):
        HMC(action).tune(HMC(action).init(FLAT.cold(1)), Streams(0, 1), 1.0)
