"""Sweeps: cells, conditional densities, and what one link is drawn from."""

import itertools

import cases
import pytest
import sampler_cases
import torch
from scipy.special import ive

from lattice_flows import SU, U1, GaugeField, Lattice
from lattice_flows.actions import DBW2, Iwasaki, LoopAction, Symanzik, Wilson
from lattice_flows.actions.local import link_cells
from lattice_flows.errors import InvalidInput
from lattice_flows.groups.u1 import ATTEMPTS, argument
from lattice_flows.lattice.paths import lay, rectangle
from lattice_flows.sampling import Cycle, HeatBath, Metropolis, OverRelaxation, Streams, start
from lattice_flows.statistics import estimate

LATTICES = [(2, 2), (3, 3), (4, 5), (2, 3, 4), (5, 3, 3), (2, 4, 2, 2), (3, 2, 3, 4)]
CPU = torch.device("cpu")
GAUGE = sampler_cases.THEORIES + sampler_cases.SMALL
by_gauge = pytest.mark.parametrize("theory", GAUGE, ids=str)
by_theory = pytest.mark.parametrize("theory", GAUGE + sampler_cases.SCALARS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))


@pytest.mark.parametrize("extents", LATTICES, ids=str)
def test_cells_share_no_plaquette_and_cover_all_links(extents):
    lattice = Lattice(extents)
    found = link_cells(lattice, CPU)
    links = torch.arange(lattice.dim * lattice.volume)
    assert torch.equal(torch.cat([cell.active for cell in found]).sort().values, links)
    assert all(len(cell.active) for cell in found)
    planes = itertools.combinations(range(lattice.dim), 2)
    plaquettes = [lay(rectangle(mu, 1, nu, 1), lattice).links for mu, nu in planes]
    for cell in found:
        for links in plaquettes:
            assert torch.isin(links, cell.active).sum(0).max() <= 1


@pytest.mark.parametrize("extents", [(3, 3), (4, 5), (7, 11), (6, 3, 4), (3, 4, 5, 3)], ids=str)
def test_cells_share_no_rectangle(extents):
    lattice = Lattice(extents)
    found = link_cells(lattice, CPU, rectangles=True)
    links = torch.arange(lattice.dim * lattice.volume)
    assert torch.equal(torch.cat([cell.active for cell in found]).sort().values, links)
    planes = itertools.permutations(range(lattice.dim), 2)
    loops = [lay(rectangle(mu, length, nu, 1), lattice).links for mu, nu in planes for length in (1, 2)]
    for cell in found:
        for links in loops:
            assert torch.isin(links, cell.active).sum(0).max() <= 1


@pytest.mark.parametrize(("extents", "cells"), [((4, 4), 8), ((6, 6), 6), ((8, 12, 4), 8), ((4, 6, 8, 8), 8)], ids=str)
def test_cells_for_rectangles_are_few(extents, cells):
    assert len(link_cells(Lattice(extents), CPU, rectangles=True)) == cells * len(extents)


@pytest.mark.parametrize("extents", [(4, 6), (2, 4, 6), (4, 2, 2, 6)], ids=str)
def test_even_lattices_have_two_cells_a_direction(extents):
    lattice = Lattice(extents)
    assert {len(cell.active) for cell in link_cells(lattice, CPU)} == {lattice.volume // 2}


def share_of_the_action(action, generator):
    """The action changes by the sum of the energies of a cell, when all its elements change; cells cover the field."""
    space = action.space
    x, new = (space.prior(2, generator, dtype=torch.float64) for _ in range(2))
    flat, elements = space.flatten(x), space.flatten(new)
    seen = torch.cat([cell.active for cell in action.cells()])
    assert torch.equal(seen.sort().values, torch.arange(flat.shape[1]))
    for cell in action.cells():
        given = action.conditional(flat, cell)
        share = (given.energy(elements[:, cell.active]) - given.energy(flat[:, cell.active])).sum(1)
        moved = flat.index_copy(1, cell.active, elements[:, cell.active]).reshape(x.shape)
        torch.testing.assert_close(action(moved) - action(x), share, atol=1e-10, rtol=0)


@by_theory
def test_energies_are_the_share_of_the_action(theory, generator):
    share_of_the_action(sampler_cases.action_of(*theory), generator)


@pytest.mark.parametrize("kind", [Symanzik, Iwasaki, DBW2])
@pytest.mark.parametrize(("group", "extents"), [(U1(), (3, 5)), (SU(2), (4, 3, 4)), (SU(3), (4, 7))], ids=str)
def test_energies_of_improved_actions(kind, group, extents, generator):
    share_of_the_action(kind(GaugeField(group, extents), 1.3), generator)


@by_gauge
@by_dtype
def test_over_relaxation_keeps_the_action_and_moves_every_link(theory, dtype):
    over_relaxed(sampler_cases.cell_by_cell(sampler_cases.action_of(*theory)), dtype)


@pytest.mark.parametrize(("group", "extents"), [(U1(), (3, 5)), (SU(2), (4, 4, 4)), (SU(3), (4, 7))], ids=str)
@by_dtype
def test_over_relaxation_of_improved_actions(group, extents, dtype):
    over_relaxed(sampler_cases.cell_by_cell(Iwasaki(GaugeField(group, extents), 0.4)), dtype)


def over_relaxed(action, dtype):
    streams = Streams(0, 2)
    sampler, space = OverRelaxation(action), action.space
    state = sampler.init(start(space, streams, dtype=dtype))
    after, _ = sampler.step(state, streams)
    tolerance = cases.TOLERANCE[dtype]
    torch.testing.assert_close(after.action, state.action, atol=tolerance, rtol=0)
    assert space.group.distance(after.x, state.x).min() > 1e-3


@pytest.mark.parametrize("extents", [(2, 48), (8, 8, 2, 8)], ids=str)
@pytest.mark.parametrize("sampler", [HeatBath, OverRelaxation, Metropolis])
def test_a_rectangle_may_not_hold_a_link_twice(sampler, extents):
    with pytest.raises(InvalidInput, match=r"need extents >= 3, got .*: use hmc, or a larger lattice"):
        sampler(Symanzik(GaugeField(SU(2), extents), 1.0))


@pytest.mark.parametrize("k", [0.0, 0.01, 0.7, 3.0, 40.0, 1000.0])
@pytest.mark.parametrize("attempts", [1, ATTEMPTS])
@by_dtype
def test_von_mises(k, attempts, dtype):
    """<cos> = I_1(k) / I_0(k) about the phase of S; one attempt, after which angles stay, leaves that as it is."""
    streams, n = Streams(3, 1), 40_000
    phase = 2.0
    sums = torch.polar(torch.full((1, n), k / 1.5), torch.full((1, n), -phase)).to(dtype.to_complex())
    # many attempts from angles that are not of the density
    angles = U1().heat_bath(torch.zeros(1, n, dtype=dtype), sums, 1.5, streams.rand(n, 30, 2, dtype=dtype))
    if attempts == 1:
        before, angles = angles, U1().heat_bath(angles, sums, 1.5, streams.rand(n, 1, 2, dtype=dtype))
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
    torch.testing.assert_close(U1().compose(argument(z), -z.angle()), torch.zeros_like(z.real), atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("theory", [*sampler_cases.THEORIES[::2], sampler_cases.SCALARS[0]], ids=str)
@pytest.mark.parametrize("target", [0.4, 0.7])
def test_tuned_spread_reaches_the_target(theory, target):
    group, beta, extents = theory
    action, streams = sampler_cases.action_of(group, 4 * beta, extents), Streams(0, 40)
    sampler = Metropolis(action, spread=0.05)
    state = sampler.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(3):
        sampler = sampler.tune(state, streams, target)
        for _ in range(5):
            state, info = sampler.step(state, streams)
    assert abs(estimate(info.acceptance.numpy()).value - target) < 0.1
    assert sampler.tuned == {"spread": sampler.spread}


def test_many_hits_of_an_element():
    """Each hit compares with the element that the last one left."""
    action, streams = sampler_cases.action_of(*sampler_cases.TINY), Streams(1, 400)
    sampler, squares = Metropolis(action, spread=0.7, hits=8), []
    state = sampler.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(60):
        state, _ = sampler.step(state, streams)
        squares.append(state.x.square().flatten(1).mean(1))
    found = estimate(torch.stack(squares[10:], 1).numpy())
    assert abs(found.value - action.exact_square()) < 4 * found.error
    assert found.error < 0.005


class WithRectangles(Wilson):
    """An action with a term that the staples of the Wilson action do not see."""

    def terms(self):
        return [*super().terms(), *LoopAction(self.space, 1.0, c1=0.1).terms()]


class WithPotential(Wilson):
    """The same, by its value."""

    def forward(self, x):
        return super().forward(x) + x.cos().flatten(1).sum(1)


@pytest.mark.parametrize("sampler", [HeatBath, OverRelaxation, Metropolis])
@pytest.mark.parametrize("action", [WithRectangles, WithPotential])
def test_actions_without_local_updates(sampler, action):
    action = action(GaugeField(U1(), (4, 4)), 1.0)
    with pytest.raises(InvalidInput, match="no local updates: use hmc"):
        sampler(action)
    with pytest.raises(InvalidInput, match="no local updates: use hmc"):
        action.conditional(torch.zeros(1, 32), None)


def test_sweeps_need_links_and_sums_of_staples():
    action = sampler_cases.action_of(*sampler_cases.SCALARS[0])
    with pytest.raises(InvalidInput, match="space of links"):
        HeatBath(action)

    class Scalarly(Wilson):
        def conditional(self, flat, cell):
            return sampler_cases.Given(flat[:, cell.active], 1.0)

    for sampler in (HeatBath, OverRelaxation):
        with pytest.raises(InvalidInput, match="no sums of staples: use metropolis or hmc"):
            sampler(Scalarly(GaugeField(SU(2), (2, 2)), 1.0))


@pytest.mark.parametrize("settings", [{"spread": 0.0}, {"hits": 0}], ids=str)
def test_bad_settings_of_metropolis(settings):
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        Metropolis(sampler_cases.action_of(*GAUGE[0]), **settings)


@pytest.mark.parametrize("repeats", [None, 0], ids=["none", "no steps"])
def test_bad_cycles(repeats):
    samplers = [] if repeats is None else [(HeatBath(sampler_cases.action_of(*GAUGE[0])), repeats)]
    with pytest.raises(InvalidInput, match="cycle"):
        Cycle(samplers)
