"""Replica exchange: every coupling keeps its exact mean, with maps and without; walkers; chain by chain."""

import pytest
import torch
from sampler_cases import followed, stirred

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value
from lattice_flows.sampling import IndependenceMetropolis
from lattice_flows.sampling.base import start
from lattice_flows.sampling.metropolis import Metropolis
from lattice_flows.sampling.tempering import ReplicaExchange
from lattice_flows.statistics import estimate
from lattice_flows.streams import Streams

LATTICE = (3, 4)
LADDERS = [(U1(), (0.5, 1.0, 1.5)), (SU(2), (0.6, 1.2, 1.8)), (SU(3), (1.0, 2.0, 3.0))]


def wilson(group, beta):
    """The Wilson action on the lattice of all these tests."""
    return Wilson(GaugeField(group, LATTICE), beta)


def ladder(group, betas, maps=None):
    """Metropolis at every coupling."""
    return ReplicaExchange([Metropolis(wilson(group, beta), hits=1) for beta in betas], maps)


@pytest.mark.slow
@pytest.mark.parametrize(("group", "betas"), LADDERS, ids=str)
def test_every_coupling_keeps_its_mean(group, betas):
    """With a map between one pair of neighbours, and none between the other."""
    streams = Streams(seed=4, chains=8 if group == U1() else 4)
    exchange = ladder(group, betas, [stirred(group, size=0.4), None])
    space = GaugeField(group, LATTICE)
    state = exchange.init(start(space, streams, dtype=torch.float64))
    history = followed(exchange, state, streams, 90)[10:]
    plaquette = average_plaquette(space)
    for i, beta in enumerate(betas):
        series = torch.stack([plaquette(state.states[i].x) for state, _ in history], -1)
        found = estimate(series)
        assert abs(found.value - exact_value("plaquette", wilson(group, beta))) < 4 * found.error, (beta, found)
        assert found.error < 0.05
    probability = torch.stack([info.probability for _, info in history]).mean(0)
    swapped = torch.stack([info.swapped for _, info in history]).double().mean(0)
    assert ((probability > 0.02) & (probability < 0.98)).all()
    assert (swapped - probability).abs().max() < 4 * 0.5 / 80**0.5
    last = history[-1][0]
    for i, beta in enumerate(betas):
        torch.testing.assert_close(last.states[i].action, wilson(group, beta)(last.states[i].x), atol=1e-9, rtol=0)
    assert space.group.defect(last.states[0].x).max() < 1e-9


class Rest(Metropolis):
    """Leaves chains where they are, so that swaps are all that moves them."""

    def step(self, state, streams):
        return state, None


@pytest.mark.parametrize(("group", "maps", "n"), [(U1(), False, 800), (U1(), True, 800), (SU(2), True, 300)], ids=str)
@torch.no_grad()
def test_swaps_alone_leave_both_densities_invariant(group, maps, n):
    """Haar pairs with weights are exact draws of both couplings: what swaps do to a mean must vanish on average."""
    betas = (0.2, 0.5)
    streams = Streams(seed=8, chains=n)
    flow = stirred(group, size=0.8)
    exchange = ReplicaExchange([Rest(wilson(group, beta)) for beta in betas], [flow] if maps else None)
    space = GaugeField(group, LATTICE)
    states = tuple(sampler.init(start(space, streams, dtype=torch.float64)) for sampler in exchange.samplers)
    w = (-states[0].action - states[1].action).softmax(0)
    before = exchange.init(states[0].x)._replace(states=states)
    after, info = exchange.step(before, streams)
    assert 0.1 < (w * info.swapped[:, 0]).sum() < 0.9
    for old, new in zip(before.states, after.states, strict=True):
        # the log-determinant is what a swap that forgets it would prefer to be small or large
        for measure in (average_plaquette(space), lambda x: flow.inverse(x)[1]):
            change = measure(new.x) - measure(old.x)
            mean = (w * change).sum()
            error = (w * (change - mean)).square().sum().sqrt()
            assert mean.abs() < 4 * error


@torch.no_grad()
def test_walkers_and_round_trips_are_counted():
    """At equal couplings every swap is accepted; walkers are then followed by hand."""
    exchange = ReplicaExchange([Rest(wilson(U1(), 1.0))] * 4)
    streams = Streams(seed=0, chains=2)
    state = exchange.init(start(GaugeField(U1(), LATTICE), streams, dtype=torch.float64))
    marked = [torch.full_like(one.x, i) for i, one in enumerate(state.states)]
    state = state._replace(states=tuple(exchange.samplers[0].init(x) for x in marked))
    place, last, trips = list(range(4)), dict.fromkeys(range(4)), 0
    last[0] = "first"
    for _ in range(20):
        state, info = exchange.step(state, streams)
        assert info.swapped.all()
        assert (info.acceptance == 1).all()
        for i in (0, 2, 1):
            place[i], place[i + 1] = place[i + 1], place[i]
        arrived = last[place[0]] == "last"
        last[place[0]] = "first"
        last[place[3]] = "last" if last[place[3]] else None
        trips += arrived
        assert state.walkers.tolist() == [place, place]
        assert (state.walkers == torch.stack([one.x[:, 0, 0, 0] for one in state.states], -1)).all()
        assert (info.round_trips == arrived).all()
    assert trips >= 3


@pytest.mark.parametrize(
    ("group", "dtype"), [(U1(), torch.float32), (SU(2), torch.float64), (SU(4), torch.float64)], ids=str
)
def test_chains_are_independent_and_resume(group, dtype):
    flow = stirred(group, dtype=dtype, size=0.1)

    def make():
        samplers = [Metropolis(wilson(group, beta), hits=1) for beta in (0.5, 0.8)]
        return ReplicaExchange([*samplers, IndependenceMetropolis(flow, wilson(group, 1.0), batch=3)], [flow, None])

    def chains(which, steps=3):
        streams, exchange = Streams(6, which), make()
        state = exchange.init(start(GaugeField(group, LATTICE), streams, dtype=dtype))
        return followed(exchange, state, streams, steps)[-1][0], streams

    together, alone = chains(range(3))[0], chains([2])[0]
    assert same(alone, together, slice(2, 3))
    part, interrupted = chains(range(3), 2)
    resumed = Streams(6, range(3))
    resumed.set_state(interrupted.get_state())
    assert same(make().step(part, resumed)[0], together)
    assert together.states[0].x.dtype == group.element_dtype(dtype)


def same(a, b, rows=slice(None)):
    """Whether states agree in every digit with these chains of others."""
    return all(
        torch.equal(x, y[rows])
        for one, other in ((a.states, b.states), ((a[1:],), (b[1:],)))
        for p, q in zip(one, other, strict=True)
        for x, y in zip(p, q, strict=True)
        if x is not None
    )


def test_replicas_make_proposals_of_their_own():
    """One flow at two couplings: the forks of the streams tell them apart."""
    flow, streams = stirred(U1(), size=0.4), Streams(seed=0, chains=1)
    exchange = ReplicaExchange([IndependenceMetropolis(flow, wilson(U1(), beta), batch=2) for beta in (0.5, 1.0)])
    _, info = exchange.step(exchange.init(start(GaugeField(U1(), LATTICE), streams, dtype=torch.float64)), streams)
    assert info.updates[0].log_w != info.updates[1].log_w


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: ReplicaExchange([s]), "at least two samplers, got 1"),
        (lambda s: ReplicaExchange([s, s], [None, None]), "each of 1 pairs of neighbours, got 2"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make(Metropolis(wilson(U1(), 1.0)))
