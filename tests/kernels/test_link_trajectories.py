"""Trajectories in one call: against the reference, the laws of molecular dynamics, and what a chain depends on."""

import math

import pytest
import torch
from op_laws import poisoned  # noqa: F401

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Iwasaki, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_trajectories import link_trajectories
from lattice_flows.planar.exact import plaquette
from lattice_flows.sampling import HMC, Cycle, HeatBath, OverRelaxation, Streams, start

GROUPS = [U1(), SU(2), SU(3), SU(4)]
by_group = pytest.mark.parametrize("group", GROUPS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")
KEYS, CALLS = torch.tensor([[1 << 60, 7], [-5, 1 << 33]]), torch.tensor([3, 2**32 - 9])


def leapfrog(n, step):
    return [step / 2, *[step] * (n - 1), step / 2], step


def beginning(group, extents, generator, dtype=torch.float64, chains=2):
    """Links, and weights that differ from plane to plane."""
    weights = torch.rand(len(extents), len(extents), generator=generator, dtype=torch.float64) * 2 + 0.1
    return GaugeField(group, extents).prior(chains, generator, dtype=dtype), (weights + weights.T) / 2


def with_rectangles(weights, generator):
    """Weights of rectangles beside them, of either sign, another for each long side."""
    return torch.stack((weights, torch.rand(weights.shape, generator=generator, dtype=torch.float64) - 0.7))


CASES = [(extents, step, False) for extents in ((8, 12), (4, 4, 8), (4, 2, 4, 8)) for step in (0.0, 0.05, 3.0)]
CASES += [((8, 12), 0.05, True), ((2, 8, 8), 0.05, True), ((8, 3, 4, 4), 0.05, True)]
CASES += [((4, 4, 4), 0.05, False), ((5, 2), 0.05, False), ((3, 5), 0.05, True)]  # several chains in lanes


@by_dtype
@pytest.mark.parametrize(
    ("group", "extents"), [(U1(), (8, 8)), (SU(2), (4, 4, 8)), (SU(3), (8, 8)), (SU(3), (4, 2, 4, 8)), (SU(4), (8, 8))]
)
def test_agrees_with_the_reference_for_weights_of_single_plaquettes(group, extents, dtype, generator, monkeypatch):
    links, _ = beginning(group, extents, generator, dtype)
    weights = torch.randn(math.comb(len(extents), 2), *extents, 2, generator=generator, dtype=torch.float64)
    weights = weights[..., 0].contiguous() if group.n == 2 else torch.view_as_complex(weights)
    arguments = links, extents, weights, [0.01, -0.02, 0.03], 0.05, KEYS, CALLS
    found = link_trajectories(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        expected = link_trajectories(*arguments)
    eps, size = torch.finfo(dtype).eps, math.prod(extents)
    assert group.distance(found.links, expected.links).max() < 300 * eps
    torch.testing.assert_close(found.action, expected.action, rtol=0, atol=100 * size * eps)
    torch.testing.assert_close(found.delta_h, expected.delta_h, rtol=0, atol=200 * size * eps)


@by_group
@by_dtype
@pytest.mark.parametrize(
    ("extents", "step", "rectangles"), CASES, ids=str
)  # in large steps the series halves its argument
def test_agrees_with_the_reference(group, extents, dtype, step, rectangles, generator, monkeypatch):
    links, weights = beginning(group, extents, generator, dtype)
    if rectangles:
        weights = with_rectangles(weights, generator)
    arguments = links, extents, weights, [0.01, -0.02, 0.03], step, KEYS, CALLS
    before = links.clone()
    found = link_trajectories(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        expected = link_trajectories(*arguments)
    eps, size = torch.finfo(dtype).eps, math.prod(extents)
    assert group.distance(found.links, expected.links).max() < 300 * (1 + step) * eps
    torch.testing.assert_close(found.action, expected.action, rtol=0, atol=100 * size * eps)
    torch.testing.assert_close(found.delta_h, expected.delta_h, rtol=0, atol=200 * size * eps)
    assert group.defect(found.links).max() < 20 * group.n * eps
    assert found.links.dtype == dtype.to_complex() if group.n > 1 else dtype
    assert torch.equal(links, before)


@by_group
@pytest.mark.parametrize("rectangles", [False, True])
def test_energy_is_kept_to_second_order(group, rectangles, generator):
    """The change of H of half the step is a quarter: the force is the derivative of the action."""
    extents = (4, 4, 4, 4)
    links, weights = beginning(group, extents, generator)
    if rectangles:
        weights = with_rectangles(weights, generator)
    coarse, fine = (link_trajectories(links, extents, weights, *leapfrog(n, 0.2 / n), KEYS, CALLS) for n in (8, 16))
    ratio = coarse.delta_h / fine.delta_h
    assert ((ratio > 3.5) & (ratio < 4.5)).all()
    still = link_trajectories(fine.links, extents, weights, [0.0, 0.0], 0.0, KEYS, CALLS)
    assert torch.allclose(fine.action, still.action)


@by_group
def test_momenta_have_unit_variance(group):
    """Without kicks H changes by the action alone; the mean of exp(-dH) is 1 for the right measure of momenta."""
    extents, chains = (8, 8), 400
    space = GaugeField(group, extents)
    links, weights = space.cold(chains, dtype=torch.float64), torch.full((2, 2), 0.5, dtype=torch.float64)
    keys, calls = torch.arange(2 * chains).reshape(chains, 2), torch.zeros(chains, dtype=torch.int64)
    end = link_trajectories(links, extents, weights, [0.0, 0.0], 1e-3, keys, calls)
    # S(exp(tP)) - S(1) = t^2 w / 2 (sum over plaquettes of -tr F^2), F the sum of four momenta: 4 N_c / 2 on average
    components = max(1, group.n**2 - 1)
    expected = 0.5 * 1e-6 / 2 * 64 * 4 * components / (1 if group.n == 1 else 2)
    values = end.action + 0.5 * 64 * group.n
    assert abs(values.mean() - expected) < 4 * values.std() / chains**0.5
    assert values.std() / chains**0.5 < 0.01 * expected


@by_group
def test_weight_of_states_is_invariant(group, generator):
    """<exp(-dH)> = 1 in equilibrium, here at infinite temperature, where links are from Haar's measure."""
    extents, chains = (8, 8), 2000
    links = GaugeField(group, extents).prior(chains, generator, dtype=torch.float32)
    weights = torch.full((2, 2), 0.05, dtype=torch.float64)
    keys, calls = torch.arange(2 * chains).reshape(chains, 2), torch.zeros(chains, dtype=torch.int64)
    end = link_trajectories(links, extents, weights, *leapfrog(3, 0.4), keys, calls)
    before = link_trajectories(links, extents, weights, [0.0, 0.0], 0.0, keys, calls).action
    ratio = (-end.delta_h - before).exp() / (-before).exp().mean()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / chains**0.5


@by_group
@pytest.mark.parametrize("rectangles", [False, True])
def test_a_chain_depends_on_itself_alone(group, rectangles, generator):
    """To the last bit: not on the chains beside it, nor on the number of threads."""
    threads = torch.get_num_threads()
    for extents, dtype in (((8, 4, 6, 4) if group.n < 4 else (8, 12), torch.float64), ((4, 4, 4), torch.float32)):
        links, weights = beginning(group, extents, generator, dtype)
        if rectangles:
            weights = with_rectangles(weights, generator)
        try:
            torch.set_num_threads(1)
            whole = link_trajectories(links, extents, weights, *leapfrog(3, 0.1), KEYS, CALLS)
            torch.set_num_threads(3)
            threaded = link_trajectories(links, extents, weights, *leapfrog(3, 0.1), KEYS, CALLS)
        finally:
            torch.set_num_threads(threads)
        second = link_trajectories(links[1:], extents, weights, *leapfrog(3, 0.1), KEYS[1:], CALLS[1:])
        for all_chains, in_threads, alone in zip(whole, threaded, second, strict=True):
            assert torch.equal(all_chains, in_threads)
            assert torch.equal(all_chains[1:], alone)


@pytest.mark.parametrize("kind", [Wilson, Iwasaki])
@pytest.mark.parametrize("extents", [(4, 4, 4, 4), (2, 4, 4, 8)], ids=str)  # a rectangle may hold a link twice
def test_against_the_force_of_the_action(kind, extents, generator):
    """One kick and one step as HMC makes them with the force of the action."""
    space = GaugeField(SU(3), extents)
    action, links = kind(space, 5.7), space.prior(2, generator, dtype=torch.float64)
    weights, extents = action.loop_weights(), space.lattice.extents
    rest = link_trajectories(links, extents, weights, [0.0, 0.0], 0.1, KEYS, CALLS)
    kicked = link_trajectories(links, extents, weights, [1e-6, 0.0], 0.1, KEYS, CALLS)
    # exp(0.1 (P - kick F)) exp(-0.1 P) = 1 - 0.1 kick F, but for commutators with 0.1 P
    slope = (kicked.links @ rest.links.mH - torch.eye(3)) / (-0.1 * 1e-6)
    force = action.force(links)
    assert (slope - force).abs().mean() < 0.2 * force.abs().mean()
    along = space.inner(slope, force) / space.inner(force, force)
    assert ((along - 1).abs() < 0.02).all()


@pytest.mark.parametrize(("group", "extents", "beta"), [(U1(), (8, 8), 1.5), (SU(3), (6, 6, 12), 5.0)], ids=str)
def test_improved_actions_by_kernel_and_by_sweeps(group, extents, beta, monkeypatch):
    """The mean of exp(-dH) is 1, and loops are those of heat bath and over-relaxation, cell by cell and by kernel."""
    action, chains = Iwasaki(GaugeField(group, extents), beta), 60 if group.n == 1 else 8
    means, errors = [], []
    for sampler in (HMC(action, steps=6), Cycle([HeatBath(action), (OverRelaxation(action), 2)])):
        with monkeypatch.context() as patch:
            if isinstance(sampler, HMC):
                patch.setattr(HMC, "_momenta", None)
            streams = Streams(7, chains)
            state, series, weights = sampler.init(start(action.space, streams, "cold", dtype=torch.float64)), [], []
            for step in range(60):
                state, info = sampler.step(state, streams)
                if step >= 20 and step % 3 == 0:
                    loops = [
                        weight * term.value(state.x) / action.space.lattice.volume for weight, term in action.terms()
                    ]
                    series.append(torch.stack(loops))
                    weights.append((-getattr(info, "delta_h", torch.zeros(1))).exp())
            if isinstance(sampler, HMC):
                ones = torch.stack(weights).mean(0)
                assert abs(ones.mean() - 1) < 4 * ones.std() / chains**0.5
                assert 0 < ones.std() / chains**0.5 < 0.05
        torch.testing.assert_close(state.action, action(state.x))
        values = torch.stack(series).mean(0)
        means.append(values.mean(1))
        errors.append(values.std(1) / chains**0.5)
    assert ((means[0] - means[1]).abs() < 4 * torch.hypot(*errors)).all()
    assert (torch.stack(errors) < 0.01 * means[0].abs()).all()


def test_what_is_not_a_number_is_not_hidden(generator):
    links, weights = beginning(SU(3), (8, 8), generator)
    links[0, 0, 3, 3] = math.nan
    found = link_trajectories(links, (8, 8), weights, *leapfrog(2, 0.1), KEYS, CALLS)
    assert found.delta_h.isnan().tolist() == [True, False]


def test_bad_input(generator):
    links, weights = beginning(SU(3), (8, 8), generator)
    for kicks, step in (([0.1], 0.1), ([0.1, math.nan], 0.1), ([0.1, 0.1], math.inf)):
        with pytest.raises(InvalidInput, match="two kicks or more"):
            link_trajectories(links, (8, 8), weights, kicks, step, KEYS, CALLS)
    with pytest.raises(InvalidInput, match="of extents >= 2, got"):
        link_trajectories(links, (4, 16), weights, [0.1, 0.1], 0.1, KEYS, CALLS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("group", [SU(2), SU(3)], ids=str)
@by_dtype
def test_hmc_on_a_gpu(group, dtype, monkeypatch):
    """By the sampler, with all chains in one call: exact plaquettes of a torus, and <exp(-dH)> = 1."""
    monkeypatch.setattr(HMC, "_momenta", None)
    beta, chains = 1.3 * group.n, 300
    action, streams = Wilson(GaugeField(group, (8, 8)), beta), Streams(3, chains, "cuda")
    sampler = HMC(action, trajectory=1.0, steps=8)
    state, series, weights = sampler.init(start(action.space, streams, "cold", dtype=dtype)), [], []
    for step in range(120):
        state, info = sampler.step(state, streams)
        if step >= 40:
            series.append(-state.action.double() / (beta * 64))
            weights.append((-info.delta_h).exp())
    values, ones = torch.stack(series).mean(0), torch.stack(weights).mean(0)
    assert abs(values.mean() - plaquette(group, beta, 64)) < 4 * values.std() / chains**0.5
    assert abs(ones.mean() - 1) < 4 * ones.std() / chains**0.5
    torch.testing.assert_close(state.action, action(state.x), rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)
