"""Field-transformed HMC: exact for flows that nobody trained, reversible, chain by chain, in a cycle with others."""

import pytest
import torch
from sampler_cases import followed, stirred

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value
from lattice_flows.sampling.base import start
from lattice_flows.sampling.cycle import Cycle
from lattice_flows.sampling.hmc import HMC
from lattice_flows.sampling.metropolis import Metropolis
from lattice_flows.sampling.transformed import Transformed, TransformedAction
from lattice_flows.sampling.work import log_weights
from lattice_flows.statistics import estimate
from lattice_flows.streams import Streams
from lattice_flows.testing import assert_force, assert_gauge_invariant

pytestmark = pytest.mark.slow

LATTICE = (3, 4)
TARGETS = [(U1(), 1.5), (SU(2), 2.0), (SU(3), 3.0)]


def wilson(group, beta):
    """The Wilson action on the lattice of all these tests."""
    return Wilson(GaugeField(group, LATTICE), beta)


def sampler(group, beta, steps=3, trajectory=1.0, **flow):
    """HMC in the latent links of such a flow."""
    return Transformed(
        stirred(group, **flow), wilson(group, beta), lambda action: HMC(action, trajectory, steps, "leapfrog")
    )


@pytest.mark.parametrize(("group", "beta"), TARGETS, ids=str)
def test_latent_action_has_its_force_and_is_gauge_invariant(group, beta, generator):
    action = TransformedAction(stirred(group), wilson(group, beta))
    x = action.space.prior(2, generator, dtype=torch.float64)
    assert_force(action, x)
    with torch.no_grad():
        assert_gauge_invariant(action, x, action.space, generator=generator)


@pytest.mark.parametrize(("group", "beta"), TARGETS, ids=str)
def test_plaquette_and_energy_are_exact(group, beta):
    """The plaquette of the links is that of exp(-S), and <exp(-dH)> = 1."""
    streams = Streams(seed=3, chains=8 if group == U1() else 4)
    one = sampler(group, beta)
    state = one.init(start(GaugeField(group, LATTICE), streams, dtype=torch.float64))
    history = followed(one, state, streams, 70 if group == U1() else 34)[10:]
    found = estimate(torch.stack([average_plaquette(GaugeField(group, LATTICE))(state.x) for state, _ in history], -1))
    assert abs(found.value - exact_value("plaquette", wilson(group, beta))) < 4 * found.error
    assert found.error < 0.05
    energy = estimate(torch.stack([(-info.delta_h).exp() for _, info in history], -1))
    assert abs(energy.value - 1) < 4 * energy.error
    assert 0.3 < torch.stack([info.acceptance for _, info in history]).mean() < 0.99
    last = history[-1][0]
    torch.testing.assert_close(last.action, wilson(group, beta)(last.x), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("group", "beta"), TARGETS, ids=str)
def test_trajectories_are_reversible(group, beta):
    streams = Streams(seed=1, chains=2)
    one = sampler(group, beta, steps=8)
    with torch.no_grad():
        z, _ = one.transform.inverse(start(GaugeField(group, LATTICE), streams, dtype=torch.float64))
    back = one.latent.reversibility(one.latent.init(z), streams)
    assert back.distance.max() < 1e-8
    assert back.energy.max() < 1e-8


@pytest.mark.parametrize(
    ("group", "dtype"),
    [(U1(), torch.float32), (SU(2), torch.float64), (SU(3), torch.float32), (SU(4), torch.float64)],
    ids=str,
)
def test_chains_are_independent_and_resume(group, dtype):
    def chains(which, steps=3):
        streams = Streams(6, which)
        one = sampler(group, 1.0, steps=2, dtype=dtype, size=0.1)
        return followed(one, one.init(start(GaugeField(group, LATTICE), streams, dtype=dtype)), streams, steps)[-1][
            0
        ], streams

    (together, _), (alone, _), (part, interrupted) = chains(range(3)), chains([2]), chains(range(3), 2)
    assert torch.equal(together.x[2], alone.x[0])
    resumed = Streams(6, range(3))
    resumed.set_state(interrupted.get_state())
    after, _ = sampler(group, 1.0, steps=2, dtype=dtype, size=0.1).step(part, resumed)
    assert torch.equal(after.x, together.x)
    assert torch.equal(after.action, together.action)


def test_links_that_are_rejected_keep_every_digit_and_others_stay_in_the_group():
    group = SU(3)
    streams = Streams(seed=1, chains=2)
    one = sampler(group, 2.0, steps=2, trajectory=1.5, dtype=torch.float32)
    state = one.init(start(GaugeField(group, LATTICE), streams, dtype=torch.float32))
    accepted = []
    for _ in range(25):
        new, info = one.step(state, streams)
        rests = (new.x == state.x).flatten(1).all(1)
        assert torch.equal(rests, ~info.accepted)
        assert torch.equal(new.action[rests], state.action[rests])
        state = new
        accepted.append(info.acceptance)
    assert 0.05 < torch.stack(accepted).mean() < 0.95
    assert group.defect(state.x).max() < 2e-6
    assert state.x.dtype == torch.complex64


def test_in_a_cycle_with_others():
    group, beta = U1(), 1.5
    streams = Streams(seed=9, chains=8)
    one = Cycle([sampler(group, beta), (Metropolis(wilson(group, beta)), 2)])
    state = one.init(start(GaugeField(group, LATTICE), streams, dtype=torch.float64))
    history = followed(one, state, streams, 60)[10:]
    found = estimate(torch.stack([average_plaquette(GaugeField(group, LATTICE))(state.x) for state, _ in history], -1))
    assert abs(found.value - exact_value("plaquette", wilson(group, beta))) < 4 * found.error


def test_the_sampler_of_latent_fields_is_tuned():
    group, streams = U1(), Streams(2, 8)
    one = sampler(group, 1.5, steps=1)
    state = one.init(start(GaugeField(group, LATTICE), streams, dtype=torch.float64))
    for _ in range(10):
        state, _ = one.step(state, streams)
    tuned = one.tune(state, streams, target=0.8)
    assert one.tuned == {"steps": 1}
    assert tuned.tuned == {"steps": tuned.latent.steps}
    rates = [tuned.step(state, streams)[1].acceptance.mean() for _ in range(10)]
    assert 0.7 < sum(rates) / 10 < 0.97
    fixed = Transformed(one.transform, one.action, lambda action: Cycle([HMC(action)]))
    assert fixed.tune(state, streams).tuned == fixed.tuned == {}


def test_another_coupling_is_that_of_the_links(generator):
    """`at` changes S and leaves the log-determinant; a weight in beta is then that of the image."""
    flow, action = stirred(SU(2)), wilson(SU(2), 1.0)
    latent = TransformedAction(flow, action)
    x = latent.space.prior(3, generator, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(latent.at(0.0)(x), -flow(x)[1])
        torch.testing.assert_close(log_weights(latent, x, 2.0), log_weights(action, flow(x)[0], 2.0))
    assert (latent.beta, latent.at(0.0).beta) == (1.0, 0.0)
