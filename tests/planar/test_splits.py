"""One level on its own: its prior, its exact target, and that training brings the two together."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.config.rules import combined
from lattice_flows.config.sections import TrainingConfig
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import rectangle
from lattice_flows.lattice.paths import closed_path, follow
from lattice_flows.planar import level_training
from lattice_flows.planar.exact import plaquette, wilson_loop
from lattice_flows.planar.hierarchical import hierarchical
from lattice_flows.planar.level import Level
from lattice_flows.planar.loop_density import plaquettes
from lattice_flows.planar.splits import BROAD, RECTANGLE, SplitAction, SplitPrior, matters, one_rectangle, split
from lattice_flows.testing import assert_gauge_invariant
from lattice_flows.training import TrainingState, likelihood, path, train

BETAS = {U1(): 2.0, SU(2): 3.0, SU(3): 6.0}
N = 4000
by_group = pytest.mark.parametrize("group", BETAS, ids=str)
by_areas = pytest.mark.parametrize("areas", [(1, 1), (2, 3)], ids=str)


@pytest.fixture(scope="module")
def pools():
    generator = torch.Generator().manual_seed(1)
    return {group: plaquettes(group, beta, N, generator, updates=100) for group, beta in BETAS.items()}


def a_level(group, areas, design="cab", stirred=0.0):
    level = Level.of_design(design, group, one_rectangle(), areas, bins=4, hidden=(6,)).double()
    return cases.stir(level, stirred) if stirred else level


def wilson(group):
    """The Wilson action on any lattice: a level asks for its group and beta alone."""
    return Wilson(GaugeField(group, (4, 4)), BETAS[group])


def loops(links, group):
    """W_a and W `(n, *element)`, W_b with W = W_b W_a, each on the lattice of one rectangle."""
    space, partition = GaugeField(group, RECTANGLE), one_rectangle()
    flat = space.flatten(links)
    first = follow(flat, partition.active_loops, group).squeeze(space.site_axis)
    whole = follow(flat, partition.boundary_loops, group).squeeze(space.site_axis)
    return first, whole, group.compose(whole, group.inverse(first))


def agrees(values, expected, share=1.0):
    """Within errors, those of the pool that loops are drawn from included."""
    return (values.mean() - expected).abs() < 4 * values.std() * (1 / len(values) + share / N) ** 0.5


@by_group
def test_links_are_the_loops_that_they_are_made_of(group, pools, generator):
    prior = SplitPrior(wilson(group), pools[group], (1, 1), seed=0)
    active, boundary = group.haar(2, 7, generator=generator, dtype=torch.float64)
    links = prior._links(active, boundary)
    space = prior.space
    assert links.shape == (7, *space.shape)
    first, whole, _ = loops(links, group)
    assert group.distance(first, active).max() < 1e-13
    assert group.distance(whole, boundary).max() < 1e-13
    assert (group.distance(links, space.cold(7, dtype=torch.float64)) > 1e-9).sum() == 2 * 7
    # plaquettes of the lattice: the rectangle of two is W up to its sense, the lower one W_a
    field = closed_path(links, rectangle(0, 1, 1, 2), space)[:, 0, 0]
    torch.testing.assert_close(group.retrace(field), group.retrace(boundary))
    field = closed_path(links, rectangle(0, 1, 1, 1), space)[:, 0, 0]
    torch.testing.assert_close(group.retrace(field), group.retrace(active))


@by_group
@by_areas
def test_target_samples_have_the_right_marginals(group, areas, pools, generator):
    """W_a, W_b and W are loops of areas A, B and A + B; W_a and W_b are independent. A quarter of the W is broader."""
    prior = SplitPrior(wilson(group), pools[group], areas, seed=0)
    broad = int(BROAD * 2 * N)
    links = prior.target(2 * N, generator, torch.float64)
    spread = group.retrace(loops(links[:broad], group)[1])
    first, whole, rest = loops(links[broad:], group)
    traces = [group.retrace(loop) for loop in (first, rest, whole)]
    # the boundaries of the first quarter are spread over the group, as Haar elements would be
    assert spread.mean() < 0.5 * traces[2].mean()
    exact = [wilson_loop(group, BETAS[group], area) for area in (*areas, sum(areas))]
    for values, expected in zip(traces, exact, strict=True):
        assert agrees(values, expected)
    assert agrees(traces[0] * traces[1], exact[0] * exact[1], share=2.0)


@by_group
def test_prior_samples_have_the_right_marginals(group, pools, generator):
    """W_a from Haar measure; a quarter of the W, too, and the rest from the density of the whole area."""
    beta, areas = BETAS[group], (1, 2)
    links = SplitPrior(wilson(group), pools[group], areas, seed=0).sample(2 * N, generator, dtype=torch.float64)
    first, whole, _ = loops(links, group)
    broad = int(BROAD * 2 * N)
    assert agrees(group.retrace(first), 0.0, share=0)
    assert agrees(group.retrace(whole)[:broad], 0.0, share=0)
    assert agrees(group.retrace(whole)[broad:], wilson_loop(group, beta, 3))
    assert agrees(group.retrace(first) * group.retrace(whole), 0.0, share=0)
    again, single = (
        SplitPrior(wilson(group), pools[group], areas, seed=0).sample(6, torch.Generator().manual_seed(3), dtype=dtype)
        for dtype in (torch.float64, torch.float32)
    )
    assert again.dtype == group.element_dtype(torch.float64)
    assert single.dtype == group.element_dtype(torch.float32)


@by_group
@by_areas
@pytest.mark.parametrize("stirred", [0.0, 0.1])
def test_the_target_is_normalised(group, areas, stirred, pools, generator):
    """E_q[w] = 1, for the level as it starts and for any other."""
    level = a_level(group, areas, stirred=stirred)
    flow, _, action = split(level, wilson(group), pools[group])
    links, log_q = flow.sample(N, generator=generator)
    weight = (-action(links) - log_q).exp()
    assert (log_q.std() > 0.01) == bool(stirred)
    assert weight.std() > 0.3
    assert (weight.mean() - 1).abs() < 4 * weight.std() / N**0.5
    # and by the other expectation, E_p[1 / w] = 1
    samples = flow.prior.target(2 * N, generator, torch.float64)[int(BROAD * 2 * N) :]
    inverse = (action(samples) + flow.log_prob(samples)).exp()
    assert (inverse.mean() - 1).abs() < 4 * inverse.std() * (1 / len(inverse) + 1 / N) ** 0.5


@by_group
def test_the_action_is_gauge_invariant_and_does_not_tell_parts_apart(group, generator):
    beta, space = BETAS[group], GaugeField(group, RECTANGLE)
    links = space.prior(20, generator, dtype=torch.float64)
    assert_gauge_invariant(SplitAction(group, beta, (1, 3)), links, space, atol=1e-9, generator=generator)
    first, whole, rest = loops(links, group)
    prior = SplitPrior(wilson(group), group.identity(3, dtype=torch.float64), (1, 1), 0)
    one, two = SplitAction(group, beta, (1, 3)), SplitAction(group, beta, (3, 1))
    torch.testing.assert_close(one(prior._links(first, whole)), two(prior._links(rest, whole)), atol=1e-9, rtol=0)


def test_the_action_at_another_beta(generator):
    """The densities change with it; one rectangle has no other lattice."""
    action = SplitAction(SU(2), 3.0, (1, 2))
    links = action.space.prior(5, generator, dtype=torch.float64)
    torch.testing.assert_close(action.at(2.0)(links), SplitAction(SU(2), 2.0, (1, 2))(links))
    assert (action.at(2.0)(links) - action(links)).abs().min() > 1e-3
    with pytest.raises(InvalidInput, match="on its own lattice 2x3, got 4x4"):
        action.on((4, 4))


def test_a_split_of_a_flow_shares_its_parameters(pools):
    flow = hierarchical(SU(2), (4, 4), seed=0)
    level = flow.layers[-1]
    part, prior, action = split(level, wilson(SU(2)), pools[SU(2)])
    assert [id(p) for p in part.parameters()] == [id(p) for p in level.parameters()]
    assert part.prior is prior
    assert part.lattice == RECTANGLE
    assert action.beta == 3.0
    assert [density.area for density in action.densities] == [1, 1, 2]


def test_two_plaquettes_of_u1_take_one_harmonic(pools, generator):
    """An exact level has log w = 0: c = 2 beta cos(W / 2), linear in the first feature, hardly squeezed."""
    level = a_level(U1(), (1, 1), design="f")
    with torch.no_grad():
        level.couplings[0].context.head.weight[0, 6] = 4.0
    flow, _, action = split(level, wilson(U1()), pools[U1()])
    links, log_q = flow.sample(500, generator=generator)
    log_w = -action(links) - log_q
    assert log_q.std() > 0.3
    assert log_w.abs().max() < 0.02
    samples = flow.prior.target(500, generator, torch.float64)
    assert (-action(samples) - flow.log_prob(samples)).abs().max() < 0.02


def divergences(level, action, pool):
    """KL(q | p) and KL(p | q)."""
    flow, prior, target = split(level, action, pool)
    generator = torch.Generator().manual_seed(9)
    dtype = next(flow.parameters()).dtype
    with torch.no_grad():
        return path_free(flow, target, generator), likelihood(flow, target, prior.target(N, generator, dtype)).loss


def path_free(flow, target, generator):
    links, log_q = flow.sample(N, generator=generator)
    return (log_q + target(links)).mean().item()


@pytest.mark.parametrize(("group", "design"), [(U1(), "f"), (SU(2), "cr")], ids=str)
def test_training_a_level_lowers_both_divergences(group, design, pools, monkeypatch):
    monkeypatch.setattr(level_training, "POOL", N)
    action = wilson(group)
    settings = combined(TrainingConfig, level_training.LevelTraining)(
        steps=0, level_steps=40, level_batch=128, level_learning_rate=0.03, dtype="float64", device="cpu"
    )
    state = TrainingState.start(  # a flow whose finest level has parts of one plaquette
        hierarchical(group, (2, 2), levels=(design,), bins=4, hidden=(6,), seed=0, dtype=torch.float64), settings
    )
    finest = state.flow.layers[-1]
    stages = level_training.level_stages(state.flow, action, settings)
    before = divergences(finest, action, pools[group])
    records = [record for record in train(state, action, settings, stages=stages) if record.stage == "1+1"]
    after = divergences(finest, action, pools[group])
    assert len(records) == 40
    assert all(value < 0.5 * start for value, start in zip(after, before, strict=True))
    assert min(after) > -0.02
    # the divergences of levels are those themselves: log Z = 0
    assert abs(records[0].loss - before[1]) < 0.5 * before[1]
    flow, _, target = split(finest, action, pools[group])
    assert path(flow, target, flow.sample_prior(64, torch.Generator().manual_seed(0))).loss < before[0]


def test_levels_matter_where_loops_are_far_from_haar():
    level, space = a_level(U1(), (4, 4)), GaugeField(U1(), (8, 8))
    for beta in (0.3, 1.0, 3.0):
        assert matters(level, Wilson(space, beta)) == (plaquette(U1(), beta) ** 4 > 2e-3)
    # the smaller part decides
    assert matters(a_level(U1(), (1, 100)), Wilson(space, 1.0))
    assert math.isclose(plaquette(U1(), 1.0), 0.44639, rel_tol=1e-4)
