"""Sweeps over links: cells, staples, and what one link is drawn from."""

import itertools

import cases
import pytest
import sampler_cases
import torch
from scipy.special import ive

from lattice_flows import U1
from lattice_flows.actions import Symanzik, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import volume
from lattice_flows.fields.loops import lay, rectangle
from lattice_flows.measurement import estimate
from lattice_flows.sampling import Cycle, HeatBath, Metropolis, OverRelaxation, Streams, start, von_mises
from lattice_flows.sampling.checkerboard import alignment, cells, staples

SITES = [(2, 2), (3, 3), (4, 5), (2, 3, 4), (5, 3, 3), (2, 4, 2, 2), (3, 2, 3, 4)]
CPU = torch.device("cpu")
by_theory = pytest.mark.parametrize("theory", sampler_cases.THEORIES, ids=str)
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))


@pytest.mark.parametrize("sites", SITES, ids=str)
def test_cells_share_no_plaquette_and_cover_all_links(sites):
    found = cells(sites, CPU)
    assert torch.equal(
        torch.cat([cell.active for cell in found]).sort().values, torch.arange(len(sites) * volume(sites))
    )
    assert all(len(cell.active) for cell in found)
    plaquettes = [lay(rectangle(mu, 1, nu, 1), sites).links for mu, nu in itertools.combinations(range(len(sites)), 2)]
    for cell in found:
        for links in plaquettes:
            assert torch.isin(links, cell.active).sum(0).max() <= 1


@pytest.mark.parametrize("sites", [(4, 6), (2, 4, 6), (4, 2, 2, 6)], ids=str)
def test_even_lattices_have_two_cells_a_direction(sites):
    found = cells(sites, CPU)
    assert {len(cell.active) for cell in found} == {volume(sites) // 2}


@by_theory
def test_staples_are_the_share_of_the_action(theory, generator):
    """The action changes by -(beta / N) of what Re tr(U S) changes by, when all links of a cell do."""
    group, beta, sites = theory
    action = Wilson(group, beta, dim=len(sites))
    links = group.haar(2, len(sites), *sites, generator=generator, dtype=torch.float64)
    flat = links.reshape(2, -1, *group.element_shape)
    for cell in cells(sites, CPU):
        sums, old = staples(flat, cell, group), flat[:, cell.active]
        new = group.haar(2, len(cell.active), generator=generator, dtype=torch.float64)
        share = (alignment(new, sums, group) - alignment(old, sums, group)).sum(1)
        moved = flat.index_copy(1, cell.active, new).reshape(links.shape)
        torch.testing.assert_close(action(moved) - action(links), -beta / group.n * share, atol=1e-11, rtol=0)


@by_theory
@by_dtype
def test_over_relaxation_keeps_the_action_and_moves_every_link(theory, dtype):
    group, beta, sites = theory
    action, streams = Wilson(group, beta, dim=len(sites)), Streams(0, 2)
    sampler = OverRelaxation(action)
    state = sampler.init(start(group, sites, streams, dtype=dtype))
    after, _ = sampler.step(state, streams)
    tolerance = cases.TOLERANCE[dtype]
    torch.testing.assert_close(after.action, state.action, atol=tolerance, rtol=0)
    assert (after.links - state.links).abs().reshape(2, len(sites) * volume(sites), -1).amax(-1).min() > 1e-3


@pytest.mark.parametrize("k", [0.0, 0.01, 0.7, 3.0, 40.0, 1000.0])
@pytest.mark.parametrize("attempts", [1, von_mises.ATTEMPTS])
@by_dtype
def test_von_mises(k, attempts, dtype):
    """<cos> = I_1(k) / I_0(k) about the phase of S; one attempt, after which angles stay, leaves that as it is."""
    streams, n = Streams(3, 1), 40_000
    phase = 2.0
    sums = torch.polar(torch.full((1, n), k / 1.5), torch.full((1, n), -phase)).to(dtype.to_complex())
    # many attempts from angles that are not of the density
    angles = von_mises.heat_bath(torch.zeros(1, n, dtype=dtype), sums, 1.5, streams.rand(30, 2, n, dtype=dtype))
    if attempts == 1:
        before, angles = angles, von_mises.heat_bath(angles, sums, 1.5, streams.rand(1, 2, n, dtype=dtype))
        assert k < 0.1 or 0.05 < (before == angles).double().mean() < 0.4
    assert U1().defect(angles).max() == 0
    assert angles.dtype == dtype
    for function, exact in ((torch.cos, ive(1, k) / ive(0, k)), (torch.sin, 0.0)):
        values = function((angles - phase).double())[0]
        assert abs(values.mean() - exact) < 4 * values.std() / n**0.5


@by_dtype
def test_argument(dtype, generator):
    z = torch.randn(1000, generator=generator, dtype=dtype.to_complex())
    z = torch.cat((z, torch.tensor([1, -1, 1j, -1j, 0, 1e-3 - 1, -1 - 1e-7j], dtype=z.dtype)))
    torch.testing.assert_close(
        U1().compose(von_mises.argument(z), -z.angle()), torch.zeros_like(z.real), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("theory", sampler_cases.THEORIES[::2], ids=str)
@pytest.mark.parametrize("target", [0.4, 0.7])
def test_tuned_spread_reaches_the_target(theory, target):
    group, beta, sites = theory
    action, streams = Wilson(group, 4 * beta), Streams(0, 40)
    sampler = Metropolis(action, spread=0.05)
    state = sampler.init(start(group, sites, streams, dtype=torch.float64))
    for _ in range(3):
        sampler = sampler.tune(state, streams, target)
        for _ in range(5):
            state, info = sampler.step(state, streams)
    assert abs(estimate(info.acceptance.numpy()).value - target) < 0.1


@pytest.mark.parametrize("sampler", [HeatBath, OverRelaxation, Metropolis])
def test_only_the_wilson_action(sampler):
    with pytest.raises(InvalidInput, match="use HMC"):
        sampler(Symanzik(U1(), 1.0))


@pytest.mark.parametrize("settings", [{"spread": 0.0}, {"hits": 0}], ids=str)
def test_bad_settings_of_metropolis(settings):
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        Metropolis(Wilson(U1(), 1.0), **settings)


@pytest.mark.parametrize("samplers", [[], [(HeatBath(Wilson(U1(), 1.0)), 0)]], ids=["none", "no steps"])
def test_bad_cycles(samplers):
    with pytest.raises(InvalidInput, match="cycle"):
        Cycle(samplers)
