"""Proposals of a flow for many chains: functions of seed, chain and place, tested with the right weights."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.sampling import HMC, Cycle, IndependenceMetropolis, OverRelaxation, Streams

GROUPS = [U1(), SU(2), SU(3)]
by_group = pytest.mark.parametrize("group", GROUPS, ids=str)


def sampler_of(group, batch=4, dtype=torch.float64, beta=0.5):
    """From an untrained flow, which is accepted often."""
    return IndependenceMetropolis(
        cases.flow(group, (3, 3), layers=2, dtype=dtype), Wilson(GaugeField(group, (3, 3)), beta), batch
    )


def test_updates_follow_the_proposals_by_the_rule():
    """Chain k meets a fork of its stream for each block, in order, and moves as min(1, w' / w) says."""
    sampler, streams = sampler_of(U1(), beta=3.0), Streams(5, [2, 0])
    state = sampler.begin(streams)
    expected = []
    for k in range(2):
        parts = []
        for block in range(3):
            own = streams.child(k, "proposals", 4, block)
            x, log_q = sampler.proposal.sample(4, generator=own.generators()[0])
            parts.append((x, log_q, own.rand(4, dtype=torch.float64)[0]))
        expected.append([torch.cat(part) for part in zip(*parts, strict=True)])
    at = [0, 0]
    for t in range(1, 12):
        state, info = sampler.step(state, streams)
        for k, (x, log_q, uniforms) in enumerate(expected):
            log_w = -sampler.action(x) - log_q
            if uniforms[t].log() < log_w[t] - log_w[at[k]]:
                at[k] = t
            assert info.accepted[k] == (at[k] == t)
            assert torch.equal(state.x[k], x[at[k]])
            assert info.log_w[k] == -log_q[t]
    assert 0 < at[0] != at[1]
    assert state.offered.tolist() == [12, 12]


@by_group
def test_begins_with_the_first_proposal(group):
    sampler, streams = sampler_of(group), Streams(4, 3)
    state = sampler.begin(streams)
    torch.testing.assert_close(state.log_w, -sampler.proposal.log_prob(state.x).detach(), atol=1e-10, rtol=0)
    torch.testing.assert_close(state.action, sampler.action(state.x))
    assert state.offered.tolist() == [1, 1, 1]


@by_group
def test_density_after_another_sampler(group):
    """Where x has moved by other means, log w is computed anew; the flow's own is kept."""
    sampler, streams = sampler_of(group), Streams(4, 3)
    state = sampler.begin(streams)
    assert Cycle([OverRelaxation(sampler.action)]).step(state, streams)[0].log_w is None
    moved, _ = HMC(sampler.action, steps=2).step(state, streams)
    assert moved.log_w is None
    assert torch.equal(moved.offered, state.offered)
    after, _ = sampler.step(moved, streams)
    density = sampler.proposal.log_prob(after.x).detach()
    torch.testing.assert_close(after.log_w, -density, atol=1e-10, rtol=0)


def test_the_batch_changes_nothing_but_the_blocks_and_memory_is_bounded():
    sampler, streams = sampler_of(U1(), batch=3), Streams(4, 2)
    state = sampler.begin(streams)
    for _ in range(20):
        state, _ = sampler.step(state, streams)
    assert len(sampler._blocks) == 2
    sampler.begin(Streams(9, [5]))
    assert len(sampler._blocks) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(bad):
    """They are never accepted, and a state that has one leaves it for any other."""
    sampler, streams = sampler_of(U1(), beta=0.1), Streams(0, 2)
    state = sampler.begin(streams)
    stuck = state._replace(log_w=torch.full_like(state.log_w, bad))
    assert sampler.step(stuck, streams)[1].accepted.all()

    class Broken:
        space = sampler.space

        def draw(self, n, streams):
            x, log_w = sampler.proposal.draw(n, streams)
            return x, torch.full_like(log_w, bad)

    assert not IndependenceMetropolis(Broken(), sampler.action, 4).step(state, streams)[1].accepted.any()


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_bad_batch(batch):
    with pytest.raises(InvalidInput, match="batch"):
        sampler_of(U1(), batch)
