"""Independence Metropolis: exact whatever the flow, and every proposal a function of seed, chain and place."""

import cases
import numpy as np
import pytest
import torch
from sampler_cases import Prior, stirred

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value
from lattice_flows.sampling import (
    HMC,
    Annealing,
    ChainState,
    Cycle,
    IndependenceMetropolis,
    Metropolis,
    Streams,
    start,
)
from lattice_flows.statistics import estimate

SPACE = GaugeField(U1(), (3, 4))


def run(sampler, state, streams, n):
    """The states after each of n steps, and what was proposed in them."""
    states, infos = [], []
    for _ in range(n):
        state, info = sampler.step(state, streams)
        states.append(state)
        infos.append(info)
    return states, infos


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_exact_plaquette_from_an_untrained_flow(group, dtype):
    """Corrected by the accept step alone, on a small torus where exact finite-volume values exist."""
    beta, streams = 0.4 * group.n, Streams(0, 4)
    action = Wilson(GaugeField(group, (3, 3)), beta)
    sampler = IndependenceMetropolis(cases.flow(group, (3, 3), layers=3, dtype=dtype), action, 500)
    states, _ = run(sampler, sampler.begin(streams), streams, 1000)
    plaquettes = average_plaquette(action.space)(torch.stack([state.x for state in states], 1))
    measured = estimate(plaquettes.double().numpy())
    exact = exact_value("plaquette", action)
    assert abs(measured.value - exact) < 4 * measured.error
    # and the flow alone would be wrong: its plaquette is near 0
    assert exact > 10 * measured.error


class Table:
    """A proposal of the numbers 0 ... 2 evenly, as links of a lattice: the target is a table of weights."""

    space = GaugeField(U1(), (2, 2))

    def draw(self, n, streams):
        numbers = torch.randint(3, (n,), generator=streams.generators()[0]).float()
        return numbers.reshape(n, 1, 1, 1).expand(n, 2, 2, 2), torch.zeros(n)

    def log_w(self, x):
        return torch.zeros(len(x))


def tabled(log_p, batch=1000):
    return IndependenceMetropolis(Table(), lambda x: -torch.tensor(log_p)[x[:, 0, 0, 0].long()], batch)


def test_metropolis_rule():
    """Detailed balance on three states with known weights: the chain visits them in proportion."""
    p = np.array([0.1, 0.6, 0.3])
    sampler, streams = tabled(np.log(p).tolist()), Streams(3, 1)
    states, _ = run(sampler, sampler.begin(streams), streams, 6000)
    visited = torch.cat([state.x[:, 0, 0, 0] for state in states])
    for k in range(3):
        seen = estimate((visited == k).double().numpy())
        assert abs(seen.value - p[k]) < 4 * seen.error


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(bad):
    """Never accepted; left for the first that is finite."""
    sampler, streams = tabled([0.0, bad, 0.0]), Streams(3, 2)
    action = torch.tensor([0.0, -bad])
    state = ChainState(torch.ones(2, 2, 2, 2), action, torch.zeros(2), torch.zeros(2, dtype=torch.long))
    states, infos = run(sampler, state, streams, 50)
    for info in infos:
        assert not info.accepted[~info.action.isfinite()].any()
    first = [next(t for t, info in enumerate(infos) if info.action[k].isfinite()) for k in range(2)]
    assert infos[first[1]].accepted[1]
    assert states[-1].action.isfinite().all()


def test_proposals_are_those_of_the_flow():
    """With their log w = -log q and action, moved to where they are accepted, and the state else as it was."""
    flow, action = cases.flow(SU(2), (3, 4), layers=2, dtype=torch.float64), Wilson(GaugeField(SU(2), (3, 4)), 1.0)
    sampler, streams = IndependenceMetropolis(flow, action, 7), Streams(0, 3)
    state = sampler.begin(streams)
    torch.testing.assert_close(state.log_w, -flow.log_prob(state.x).detach(), atol=1e-10, rtol=0)
    assert state.offered.tolist() == [1, 1, 1]
    moved = set()
    for _ in range(20):
        new, info = sampler.step(state, streams)
        torch.testing.assert_close(new.log_w, -flow.log_prob(new.x).detach(), atol=1e-10, rtol=0)
        torch.testing.assert_close(new.action, action(new.x))
        for k, accepted in enumerate(info.accepted.tolist()):
            moved.add(accepted)
            assert torch.equal(new.x[k], state.x[k]) != accepted
            assert new.log_w[k] == (info.log_w if accepted else state.log_w)[k]
            assert new.action[k] == (info.action if accepted else state.action)[k]
        state = new
    assert moved == {True, False}
    assert state.offered.tolist() == [21, 21, 21]


def test_no_proposal_comes_twice():
    sampler, streams = IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(SPACE, 1.0), 5), Streams(0, 3)
    _, infos = run(sampler, sampler.begin(streams), streams, 20)
    assert len(torch.stack([info.action for info in infos]).unique()) == 60


def test_configurations_that_are_not_proposed():
    """Another shape is refused at once, another precision at the first proposal."""
    sampler, streams = IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(SPACE, 1.0), 5), Streams(0, 1)
    with pytest.raises(InvalidInput, match="holds real tensors"):
        sampler.init(torch.zeros(1, 2, 4, 3))
    state = sampler.init(torch.zeros(1, 2, 3, 4, dtype=torch.float64))
    with pytest.raises(InvalidInput, match=r"proposals are in torch.float32, the chains in torch.float64"):
        sampler.step(state._replace(log_w=torch.zeros(1)), streams)
    with pytest.raises(InvalidInput, match=r"proposals are in torch.float32, the chains in torch.float64"):
        sampler.step(state, streams)


def test_a_weight_is_that_of_the_last_proposal():
    """In a cycle of two flows each weighs the configurations of the other by its own density."""
    one, other = (cases.flow(U1(), (3, 4), layers=2, seed=seed, dtype=torch.float64) for seed in (1, 2))
    cycle = Cycle([(IndependenceMetropolis(flow, Wilson(SPACE, 1.0), 5), 2) for flow in (one, other)])
    streams = Streams(0, 8)
    state, moved = cycle.samplers[0][0].begin(streams), []
    for _ in range(4):
        state, info = cycle.step(state, streams)
        torch.testing.assert_close(state.log_w, -other.log_prob(state.x).detach(), atol=1e-10, rtol=0)
        moved += [step.accepted for step in info.steps]
    assert not torch.stack(moved).all()


@pytest.mark.parametrize(
    ("proposal", "action"),
    [(Prior(SPACE), Wilson(GaugeField(U1(), (4, 3)), 1.0)), (object(), torch.sum)],
    ids=["two spaces", "none"],
)
def test_action_and_proposal_have_one_space(proposal, action):
    with pytest.raises(InvalidInput, match="must be of one space"):
        IndependenceMetropolis(proposal, action, 5)
    assert IndependenceMetropolis(Prior(SPACE), torch.sum, 5).space == SPACE


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_bad_batch(batch):
    with pytest.raises(InvalidInput, match="batch"):
        IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(SPACE, 1.0), batch)


def test_branches_of_the_streams_meet_proposals_of_their_own():
    """A sampler that is used at several places of an annealing keeps the blocks of each apart."""
    flow, action = cases.flow(U1(), (3, 4), layers=2), Wilson(SPACE, 1.0)
    sampler, streams = IndependenceMetropolis(flow, action, 10), Streams(0, 1)
    low, high = (streams.branch(i) for i in (0, 1))
    alone = [IndependenceMetropolis(flow, action, 10).begin(branch).log_w for branch in (low, high)]
    together = [sampler.begin(branch).log_w for branch in (low, high)]
    assert torch.equal(torch.cat(alone), torch.cat(together))
    assert alone[0] != alone[1]


@pytest.mark.slow
@pytest.mark.parametrize("layers", [False, True], ids=["updates", "layers"])
@pytest.mark.parametrize("group", [U1(), SU(2)], ids=str)
def test_annealed_paths_are_proposals(group, layers):
    """A chain of weighted paths gives the exact plaquette, which its proposals alone miss by far."""
    space = GaugeField(group, (3, 4))
    action, streams = Wilson(space, 0.6 * group.n), Streams(2, 16)
    schedule = [Metropolis(action.at(action.beta * share), hits=1) for share in (0.2, 0.45, 0.7)]
    schedule.append(HMC(action, 0.3, steps=2))
    flow = stirred(group) if layers else None
    annealing = Annealing(schedule, layers=[flow, None, None, None], dtype=torch.float64)
    sampler = IndependenceMetropolis(annealing, action, 100)
    states, infos = run(sampler, sampler.begin(streams), streams, 80)
    plaquette = average_plaquette(space)
    found = cases.mean_of_chains(plaquette(torch.stack([state.x for state in states], 1)))
    exact = exact_value("plaquette", action)
    assert abs(found.value - exact) < 4 * found.error
    assert 0.05 < torch.stack([info.acceptance for info in infos]).mean() < 0.95
    drawn, log_w = annealing.draw(400, Streams(3, 1))
    biased = estimate(plaquette(drawn).numpy())
    # over streams 14 +- 1.3 errors for U(1), 22 +- 1.7 for SU(2)
    assert exact - biased.value > 8 * biased.error
    assert found.error < (exact - biased.value) / 2
    assert log_w.shape == (400,)


def test_annealed_paths_are_drawn_anew():
    annealing, streams = Annealing([Metropolis(Wilson(SPACE, 0.5))]), Streams(0, 1)
    state = streams.get_state()
    first, second = (annealing.draw(4, streams)[0] for _ in range(2))
    streams.set_state(state)
    assert not torch.equal(first, second)
    assert torch.equal(annealing.draw(4, streams)[0], first)


def test_paths_give_no_weight_to_other_configurations():
    action, streams = Wilson(SPACE, 0.5), Streams(0, 2)
    sampler = IndependenceMetropolis(Annealing([Metropolis(action)]), action, 4)
    with pytest.raises(InvalidInput, match="Annealing gives no weight"):
        sampler.step(sampler.init(start(SPACE, streams)), streams)
    both = Cycle([sampler, Metropolis(action)])
    state, _ = both.step(sampler.begin(streams), streams)
    with pytest.raises(InvalidInput, match="use no other update beside it"):
        both.step(state, streams)
    with pytest.raises(InvalidInput, match="drawn from one stream, got 2"):
        sampler.proposal.draw(4, streams)
    for annealing in (Annealing([Metropolis(action)], start=action), Annealing([Metropolis(action)], population=2)):
        with pytest.raises(InvalidInput, match="independent proposals need paths"):
            annealing.draw(4, Streams(0, 1))


def test_beside_a_sampler_that_knows_nothing_of_proposals():
    """Its states have no number of proposals, and may keep the weight of the x that it has left."""

    class Walk(Metropolis):
        def step(self, state, streams):
            moved, info = super().step(state, streams)
            return ChainState(moved.x, moved.action, state.log_w), info

    action, flow = Wilson(SPACE, 1.0), cases.hierarchical_flow(U1(), (3, 4), scale=0.2)
    chains = {}
    for kind in (Metropolis, Walk):
        streams = Streams(3, 2)
        proposing = IndependenceMetropolis(flow, action, 5)
        cycle, state = Cycle([proposing, kind(action)]), proposing.begin(streams)
        for _ in range(8):
            state, _ = cycle.step(state, streams)
        chains[kind] = state
    assert torch.equal(chains[Walk].offered, torch.tensor([9, 9]))
    assert torch.equal(chains[Walk].x, chains[Metropolis].x)
