"""Independence Metropolis: exact whatever the flow, and every proposal a function of seed, chain and place."""

import cases
import numpy as np
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Weighted
from lattice_flows.measurement import average_plaquette, estimate, exact_value
from lattice_flows.sampling import ChainState, IndependenceMetropolis, Streams
from lattice_flows.sampling.branches import Branch


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
    sampler = IndependenceMetropolis(cases.flow(group, (3, 3), layers=3, dtype=dtype), Wilson(group, beta), 500)
    states, _ = run(sampler, sampler.begin(streams), streams, 1000)
    plaquettes = average_plaquette(group)(torch.stack([state.links for state in states], 1))
    measured = estimate(plaquettes.double().numpy())
    exact = exact_value("plaquette", group, beta, (3, 3))
    assert abs(measured.value - exact) < 4 * measured.error
    # and the flow alone would be wrong: its plaquette is near 0
    assert exact > 10 * measured.error


class Table:
    """A flow that proposes the numbers 0 ... 2 evenly, as links of a lattice: the target is a table of weights."""

    group, sites = U1(), (2, 2)

    def sample(self, n, *, generator):
        numbers = torch.randint(3, (n,), generator=generator).float()
        return Weighted(numbers.reshape(n, 1, 1, 1).expand(n, 2, 2, 2), torch.zeros(n))

    def log_prob(self, links):
        return torch.zeros(len(links))


def tabled(log_p, batch=1000):
    return IndependenceMetropolis(Table(), lambda links: -torch.tensor(log_p)[links[:, 0, 0, 0].long()], batch)


def test_metropolis_rule():
    """Detailed balance on three states with known weights: the chain visits them in proportion."""
    p = np.array([0.1, 0.6, 0.3])
    sampler, streams = tabled(np.log(p).tolist()), Streams(3, 1)
    states, _ = run(sampler, sampler.begin(streams), streams, 6000)
    visited = torch.cat([state.links[:, 0, 0, 0] for state in states])
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
    """With their log q and action, moved to where they are accepted, and the state else as it was."""
    flow, action = cases.flow(SU(2), (3, 4), layers=2, dtype=torch.float64), Wilson(SU(2), 1.0)
    sampler, streams = IndependenceMetropolis(flow, action, 7), Streams(0, 3)
    state = sampler.begin(streams)
    torch.testing.assert_close(state.log_q, flow.log_prob(state.links).detach(), atol=1e-10, rtol=0)
    assert state.offered.tolist() == [1, 1, 1]
    moved = set()
    for _ in range(20):
        new, info = sampler.step(state, streams)
        torch.testing.assert_close(new.log_q, flow.log_prob(new.links).detach(), atol=1e-10, rtol=0)
        torch.testing.assert_close(new.action, action(new.links))
        for k, accepted in enumerate(info.accepted.tolist()):
            moved.add(accepted)
            assert torch.equal(new.links[k], state.links[k]) != accepted
            assert new.log_q[k] == (info.log_q if accepted else state.log_q)[k]
            assert new.action[k] == (info.action if accepted else state.action)[k]
        state = new
    assert moved == {True, False}
    assert state.offered.tolist() == [21, 21, 21]


def test_no_proposal_comes_twice():
    sampler, streams = IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(U1(), 1.0), 5), Streams(0, 3)
    _, infos = run(sampler, sampler.begin(streams), streams, 20)
    assert len(torch.stack([info.action for info in infos]).unique()) == 60


def test_links_of_another_shape():
    sampler = IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(U1(), 1.0), 5)
    for links in (torch.zeros(1, 2, 4, 3), torch.zeros(1, 2, 3, 4, dtype=torch.float64)):
        with pytest.raises(InvalidInput, match="start chains in the shape and precision of the flow"):
            sampler.init(links)


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_bad_batch(batch):
    with pytest.raises(InvalidInput, match="batch"):
        IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(U1(), 1.0), batch)


def test_branches_of_the_streams_meet_proposals_of_their_own():
    """A sampler that is used at several places of an annealing keeps the blocks of each apart."""
    flow, action = cases.flow(U1(), (3, 4), layers=2), Wilson(U1(), 1.0)
    sampler, streams = IndependenceMetropolis(flow, action, 10), Streams(0, 1)
    low, high = (Branch(streams, [(i,)]) for i in (0, 1))
    alone = [IndependenceMetropolis(flow, action, 10).begin(branch).log_q for branch in (low, high)]
    together = [sampler.begin(branch).log_q for branch in (low, high)]
    assert torch.equal(torch.cat(alone), torch.cat(together))
    assert alone[0] != alone[1]
