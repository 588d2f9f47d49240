"""The laws of every sampler: chains that depend on themselves alone, go on bit for bit, and stay in the space."""

import cases
import pytest
import sampler_cases
import torch
from sampler_cases import space_of

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.config.registry import SAMPLERS
from lattice_flows.errors import InvalidInput
from lattice_flows.sampling import Annealing, Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.sampling.base import Context
from lattice_flows.streams import keyed

by_pair = pytest.mark.parametrize(("name", "theory"), sampler_cases.PAIRS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))

N_STEPS = 2


def run(sampler, state, streams, n=N_STEPS):
    """n steps; the state, and the info of the last step."""
    for _ in range(n):
        state, info = sampler.step(state, streams)
    return state, info


def chains_of(name, theory, dtype, chains, n=N_STEPS):
    """Chains from hot starts, n steps on."""
    sampler, streams = sampler_cases.build(name, *theory, dtype), Streams(11, chains)
    return run(sampler, sampler.init(start(space_of(*theory), streams, dtype=dtype)), streams, n)


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
    sampler, streams = sampler_cases.build(name, *theory), Streams(5, 3)
    middle, _ = run(sampler, sampler.init(start(space_of(*theory), streams, dtype=torch.float64)), streams)
    at = streams.get_state()
    end, _ = run(sampler, middle, streams)
    streams = Streams(5, 3)
    streams.set_state(at)
    assert_same(run(sampler_cases.build(name, *theory), middle, streams)[0], end)


@by_pair
@by_dtype
def test_shape_dtype_and_action(name, theory, dtype):
    space = space_of(*theory)
    sampler, streams = sampler_cases.build(name, *theory, dtype), Streams(2, 2)
    x = start(space, streams, dtype=dtype)
    before = x.clone()
    state, info = run(sampler, sampler.init(x), streams)
    assert torch.equal(x, before)
    assert (state.x.shape, state.x.dtype) == ((2, *space.shape), space.dtype(dtype))
    assert state.links is state.x
    assert state.action.shape == info.acceptance.shape == (2,)
    assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(state.action, sampler.init(state.x).action, rtol=rtol, atol=100 * rtol)


@pytest.mark.parametrize("name", ["hmc", "heat_bath", "cycle"])
@pytest.mark.parametrize("theory", [(U1(), 1.5, (3, 5)), (SU(2), 2.0, (4, 4, 4)), (SU(3), 5.0, (8, 8))], ids=str)
@by_dtype
def test_an_arrival_is_a_step_from_there(name, theory, dtype):
    """With the action of where it begins, on lattices with and without kernels."""
    if name == "cycle":
        action = Wilson(space_of(*theory), theory[1])
        sampler = Cycle([HeatBath(action), (OverRelaxation(action), 2)])
    else:
        sampler = sampler_cases.build(name, *theory, dtype)
    streams, other = Streams(3, 2), Streams(3, 2)
    x = start(sampler.action.space, Streams(4, 2), dtype=dtype)
    action, arrived, info = sampler.arrive(x, streams)
    state = sampler.init(x)
    torch.testing.assert_close(action.to(state.action.dtype), state.action, rtol=1e-5, atol=1e-4)
    stepped, expected = sampler.step(state, other)
    assert_same(arrived, stepped)
    assert torch.equal(info.acceptance, expected.acceptance)
    assert torch.equal(streams.get_state(), other.get_state())


@pytest.mark.parametrize("name", ["hmc", *sampler_cases.LOCAL])
@pytest.mark.parametrize("theory", [sampler_cases.THEORIES[0], sampler_cases.THEORIES[4]], ids=str)
def test_links_stay_in_the_group(name, theory):
    """In float32, over hundreds of steps."""
    state, _ = chains_of(name, theory, torch.float32, 2, n=300)
    assert space_of(*theory).group.defect(state.x).max() < 1e-6


@pytest.mark.parametrize(("name", "theory"), [pair for pair in sampler_cases.PAIRS if pair[1][0] is None], ids=str)
def test_scalars_have_their_exact_square(name, theory):
    """<phi^2> of a free field, a sum over momenta."""
    sampler, streams = sampler_cases.build(name, *theory), Streams(7, 40)
    state, _ = run(sampler, sampler.init(start(space_of(*theory), streams, dtype=torch.float64)), streams, 20)
    squares = []
    for _ in range(100):
        state, _ = sampler.step(state, streams)
        squares.append(state.x.square().flatten(1).mean(1))
    found = cases.mean_of_chains(torch.stack(squares, 1))
    assert abs(found.value - sampler.action.exact_square()) < 4 * found.error
    assert found.error < 0.03


@pytest.mark.parametrize("name", ["hmc", *sampler_cases.LOCAL, "cycle"])
@pytest.mark.parametrize("extents", [(4, 2, 4), (2, 4), (2, 4, 2)], ids=str)
def test_links_of_another_lattice(name, extents):
    """A field of another lattice is refused, also where its shape looks like a batch of what is expected."""
    sampler = sampler_cases.build(name, SU(2), 2.0, (2, 4, 4))
    with pytest.raises(InvalidInput, match="holds complex tensors"):
        sampler.init(start(GaugeField(SU(2), extents), Streams(1, 2)))


@pytest.mark.parametrize("theory", [sampler_cases.THEORIES[2], sampler_cases.SCALARS[1]], ids=str)
def test_starts(theory):
    """Hot is the prior, a function of seed and chain; cold is the same everywhere."""
    space, streams = space_of(*theory), Streams(4, [3, 1])
    hot = start(space, streams, dtype=torch.float64)
    assert torch.equal(hot[0], space.prior(1, keyed(4, 3), dtype=torch.float64)[0])
    cold = start(space, streams, "cold", dtype=torch.float32)
    assert torch.equal(cold, space.cold(2, dtype=torch.float32))
    with pytest.raises(InvalidInput, match="hot or cold, got 'warm'"):
        start(space, streams, "warm")


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_entry_builds_a_sampler(name):
    """From default settings, with a flow or an annealing where it uses one; once more from its own tuned numbers."""
    entry, action, streams = SAMPLERS[name], Wilson(GaugeField(U1(), (4, 4)), 1.0), Streams(0, 2)
    flow = cases.flow(U1(), (4, 4), layers=2) if entry.uses_flow else None
    context = Context(flow=flow, annealing=Annealing([HeatBath(action)]) if name == "annealing" else None)
    sampler = entry.build(action, entry.settings(), context)
    begun = sampler.begin(streams) if name == "annealing" else sampler.init(start(action.space, streams))
    state, info = sampler.step(begun, streams)
    assert info.acceptance.shape == (2,)
    assert entry.rejects or (info.acceptance == 1).all()
    assert entry.label
    if hasattr(sampler, "tune"):
        tuned = sampler.tune(state, streams)
        again = entry.build(action, entry.settings(), context._replace(tuned=tuned.tuned))
        assert again.tuned == tuned.tuned != {}
    if entry.uses_flow:
        with pytest.raises(InvalidInput, match="needs a trained flow"):
            entry.build(action, entry.settings(), Context())
    if name == "annealing":
        with pytest.raises(InvalidInput, match="needs fitted layers"):
            entry.build(action, entry.settings(), Context())


@pytest.mark.parametrize("name", ["hmc", "transformed"])
def test_steps_that_are_set_are_not_tuned(name):
    entry, action, streams = SAMPLERS[name], Wilson(GaugeField(U1(), (4, 4)), 1.0), Streams(0, 2)
    context = Context(flow=cases.flow(U1(), (4, 4), layers=2)) if entry.uses_flow else Context()
    sampler = entry.build(action, entry.settings(hmc_steps=3, trajectory=0.5), context._replace(tuned={"steps": 7}))
    tuned = sampler.tune(sampler.init(start(action.space, streams)), streams)
    for one in (sampler, tuned):
        hmc = one.latent if name == "transformed" else one
        assert (hmc.steps, hmc.trajectory, one.tuned) == (3, 0.5, {})
