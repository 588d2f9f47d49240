"""What every sampler obeys: chains that depend on themselves alone, go on bit for bit, and stay in the group."""

import cases
import pytest
import sampler_cases
import torch

from lattice_flows import SU
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.sampling import Streams, start

by_pair = pytest.mark.parametrize(("name", "theory"), sampler_cases.PAIRS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))

N_STEPS = 2


def run(sampler, state, streams, n=N_STEPS):
    """n steps; the state, and the info of the last step."""
    for _ in range(n):
        state, info = sampler.step(state, streams)
    return state, info


def chains_of(name, theory, dtype, chains, n=N_STEPS):
    """Chains from Haar links, n steps on."""
    group, _, sites = theory
    sampler, streams = sampler_cases.build(name, *theory, dtype), Streams(11, chains)
    return run(sampler, sampler.init(start(group, sites, streams, dtype=dtype)), streams, n)


def assert_same(state, other):
    """The same state, bit for bit."""
    for own, its in zip(state, other, strict=True):
        assert (own is None) == (its is None)
        assert own is None or torch.equal(own, its)


@by_pair
@by_dtype
def test_a_chain_does_not_depend_on_its_neighbours(name, theory, dtype):
    full, info = chains_of(name, theory, dtype, 8)
    for chains in ([2, 7, 4], [6]):
        some, some_info = chains_of(name, theory, dtype, chains)
        index = torch.tensor(chains)
        assert_same(some, [part if part is None else part[index] for part in full])
        assert torch.equal(some_info.acceptance, info.acceptance[index])


@by_pair
def test_a_chain_goes_on_bit_for_bit(name, theory):
    group, _, sites = theory
    sampler, streams = sampler_cases.build(name, *theory), Streams(5, 3)
    middle, _ = run(sampler, sampler.init(start(group, sites, streams, dtype=torch.float64)), streams)
    at = streams.get_state()
    end, _ = run(sampler, middle, streams)
    streams = Streams(5, 3)
    streams.set_state(at)
    assert_same(run(sampler_cases.build(name, *theory), middle, streams)[0], end)


@by_pair
@by_dtype
def test_shape_dtype_and_action(name, theory, dtype):
    group, _, sites = theory
    sampler, streams = sampler_cases.build(name, *theory, dtype), Streams(2, 2)
    links = start(group, sites, streams, dtype=dtype)
    before = links.clone()
    state, info = run(sampler, sampler.init(links), streams)
    assert torch.equal(links, before)
    assert (state.links.shape, state.links.dtype) == (links.shape, links.dtype)
    assert state.action.shape == info.acceptance.shape == (2,)
    assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(state.action, sampler.init(state.links).action, rtol=rtol, atol=100 * rtol)


@pytest.mark.parametrize("name", ["hmc", "metropolis", "heat_bath", "over_relaxation"])
@pytest.mark.parametrize("theory", [sampler_cases.THEORIES[0], sampler_cases.THEORIES[4]], ids=str)
def test_links_stay_in_the_group(name, theory):
    """In float32, over hundreds of steps."""
    state, _ = chains_of(name, theory, torch.float32, 2, n=300)
    assert theory[0].defect(state.links).max() < 1e-6


@pytest.mark.parametrize("name", ["hmc", "metropolis", "heat_bath", "over_relaxation", "cycle"])
def test_links_that_hide_their_dimension(name):
    """A three-dimensional field that looks like a batch of two-dimensional ones: the action must know its dimension."""
    links = start(SU(2), (2, 4, 4), Streams(1, 2))
    sampler = sampler_cases.SAMPLERS[name](Wilson(SU(2), 2.0), (2, 4, 4), torch.float32)
    with pytest.raises(InvalidInput, match="give the action its dim"):
        sampler.init(links)
    sampler = sampler_cases.build(name, SU(2), 2.0, (2, 4, 4))
    assert run(sampler, sampler.init(links), Streams(1, 2), 1)[0].links.shape == links.shape
