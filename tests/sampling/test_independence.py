"""Independence Metropolis: exact whatever the flow, and the same chain however it is cut."""

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.measurement import average_plaquette, estimate, exact_value
from lattice_flows.sampling import IndependenceMetropolis, accept


def chain(group, sites, beta, n, batch=1000, seed=0, layers=3, dtype=torch.float64):
    """Configurations `(n + 1, ...)` of a chain from a flow that was never trained."""
    sampler = IndependenceMetropolis(cases.flow(group, sites, layers=layers, dtype=dtype), Wilson(group, beta), batch)
    generator = torch.Generator().manual_seed(seed)
    state = sampler.init(generator)
    links, index = [state.links[None]], [torch.zeros(1, dtype=torch.long)]
    for _ in range(n // batch):
        state, proposals = sampler.step(state, generator)
        offset = 1 + (len(links) - 1) * batch
        positions = torch.where(proposals.accepted, torch.arange(batch) + offset, 0)
        index.append(torch.cummax(torch.cat((index[-1][-1:], positions)), 0).values[1:])
        links.append(proposals.links)
    return torch.cat(links)[torch.cat(index)]


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_exact_plaquette_from_an_untrained_flow(group, dtype):
    """Corrected by the accept step alone, on a small torus where exact finite-volume values exist."""
    beta = 0.4 * group.n
    links = chain(group, (3, 3), beta, 20_000, dtype=dtype)
    measured = estimate(average_plaquette(group)(links).double().numpy())
    exact = exact_value("plaquette", group, beta, (3, 3))
    assert abs(measured.value - exact) < 4 * measured.error
    # and the flow alone would be wrong: its plaquette is near 0
    assert exact > 10 * measured.error


def test_metropolis_rule():
    """Detailed balance on three states with known weights: the chain visits them in proportion."""
    log_p = torch.tensor([0.1, 0.6, 0.3]).double().log()
    generator = torch.Generator().manual_seed(3)
    proposals = torch.randint(3, (60_000,), generator=generator)
    uniform = torch.rand(60_000, generator=generator, dtype=torch.float64)
    accepted = accept(log_p[0].item(), log_p[proposals], uniform)
    index = torch.cummax(torch.where(accepted, torch.arange(60_000), -1), 0).values
    visited = proposals[index.clamp_min(0)]
    for k in range(3):
        seen = estimate((visited == k).double().numpy())
        assert abs(seen.value - log_p[k].exp()) < 4 * seen.error


def test_weights_that_are_not_finite():
    nan, inf = float("nan"), float("inf")
    uniform = torch.full((3,), 0.5)
    assert accept(0.0, torch.tensor([nan, inf, -inf]), uniform).tolist() == [False, False, False]
    assert accept(nan, torch.tensor([nan, -5.0, -50.0]), uniform).tolist() == [False, True, False]


def test_first_state_is_a_proposal_with_its_own_density():
    flow, action = cases.flow(SU(2), (3, 4), layers=2, dtype=torch.float64), Wilson(SU(2), 1.0)
    state = IndependenceMetropolis(flow, action, 10).init(torch.Generator().manual_seed(0))
    assert state.links.shape == (2, 3, 4, 2, 2)
    torch.testing.assert_close(state.log_q, flow.log_prob(state.links[None])[0].detach(), atol=1e-10, rtol=0)
    torch.testing.assert_close(state.action, action(state.links))


def test_every_proposal_comes_with_its_log_q_and_action():
    flow, action = cases.flow(U1(), (3, 4), layers=2, dtype=torch.float64), Wilson(U1(), 1.0)
    sampler, generator = IndependenceMetropolis(flow, action, 50), torch.Generator().manual_seed(0)
    state, proposals = sampler.step(sampler.init(generator), generator)
    torch.testing.assert_close(proposals.log_q, flow.log_prob(proposals.links).detach(), atol=1e-10, rtol=0)
    torch.testing.assert_close(proposals.action, action(proposals.links))
    last = proposals.accepted.nonzero()[-1].item()
    assert torch.equal(state.links, proposals.links[last])


def test_a_chain_goes_on_from_its_state_bit_for_bit():
    flow, action = cases.flow(U1(), (3, 4), layers=2), Wilson(U1(), 1.0)
    sampler, generator = IndependenceMetropolis(flow, action, 20), torch.Generator().manual_seed(0)
    state = sampler.init(generator)
    for step in range(6):
        if step == 3:
            saved_state, saved_generator = state, generator.get_state()
        state, _ = sampler.step(state, generator)
    generator = torch.Generator()
    generator.set_state(saved_generator)
    again = saved_state
    for _ in range(3):
        again, _ = sampler.step(again, generator)
    assert torch.equal(again.links, state.links)
    assert again.action == state.action


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_bad_batch(batch):
    with pytest.raises(InvalidInput, match="batch"):
        IndependenceMetropolis(cases.flow(U1(), (3, 4), layers=1), Wilson(U1(), 1.0), batch)
