"""Laws of hierarchical flows on any extents, and of carrying one to other extents."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, Lattice, ScalarField, flows
from lattice_flows.actions import Wilson
from lattice_flows.config.registry import ARCHITECTURES
from lattice_flows.errors import InvalidInput
from lattice_flows.planar.hierarchical import HierarchicalFlow, hierarchical, transfer
from lattice_flows.planar.partition import cuts
from lattice_flows.planar.perceptron import BetaInput
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet
from lattice_flows.training import ESTIMATORS, likelihood

GROUPS = cases.GROUPS[:4]
by_group = pytest.mark.parametrize("group", GROUPS, ids=cases.names(GROUPS))


@by_group
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
@pytest.mark.parametrize("extents", [(2, 2), (4, 3), (3, 5), (2, 9)], ids=str)
def test_laws(group, extents, dtype, generator):
    # in single precision, without thin tails: rounding grows through twenty layers
    flow = cases.hierarchical_flow(group, extents, scale={torch.float64: 0.4, torch.float32: 0.1}[dtype], dtype=dtype)
    atol = {torch.float64: 1e-9, torch.float32: 1e-2}[dtype]
    links = flow.space.prior(6, generator, dtype=dtype)
    with torch.no_grad():
        assert_invertible(flow, links, flow.space, atol=atol)
        assert_gauge_equivariant(flow, links, flow.space, atol=atol, generator=generator)
        y, log_q = flow.sample(5, generator=generator)
        torch.testing.assert_close(flow.log_prob(y), log_q, atol=atol, rtol=0)
    assert y.dtype == group.element_dtype(dtype)
    assert group.defect(y).max() < {torch.float64: 1e-11, torch.float32: 1e-4}[dtype]
    assert log_q.std() > 0.05
    # one link of each rectangle, and no other
    assert (group.distance(flow(links)[0], links) > 0).flatten(1).any(0).sum() == extents[0] * extents[1] - 1


@pytest.mark.parametrize(("group", "extents"), [(U1(), (3, 4)), (SU(2), (3, 2)), (SU(3), (2, 2))], ids=str)
def test_logdet_is_that_of_the_jacobian(group, extents, generator):
    flow = cases.hierarchical_flow(group, extents)
    assert_logdet(flow, flow.space.prior(1, generator, dtype=torch.float64)[0], flow.space)


@pytest.mark.parametrize(("group", "extents"), [(U1(), (3, 3)), (SU(2), (2, 3))], ids=str)
def test_density_is_normalised(group, extents, generator):
    flow = cases.hierarchical_flow(group, extents, scale=0.12)
    with torch.no_grad():
        q = flow.log_prob(flow.space.prior(8000, generator, dtype=torch.float64)).exp()
    assert q.std() > 0.1
    assert (q.mean() - 1).abs() < 4 * q.std() / len(q) ** 0.5
    assert q.std() / len(q) ** 0.5 < 0.1


def test_it_starts_as_the_identity_and_is_reproducible(generator):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (flows.hierarchical(SU(2), (4, 6), levels=("crab", "c"), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    links = SU(2).haar(3, 2, 4, 6, generator=generator)
    assert SU(2).distance(one(links)[0], links).max() < 1e-4
    states = [torch.cat([p.flatten() for p in flow.parameters()]) for flow in (one, two, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_designs_go_to_the_levels_by_their_area():
    """For rectangles of 2, up to 4, up to 8 plaquettes ...; the last design is that of all larger ones."""
    flow = flows.hierarchical(SU(2), (6, 8), levels=("crab", "cab", "ca"), seed=0)
    for level, cut in zip(flow.layers, cuts((6, 8)), strict=True):
        assert level.areas == cut.areas
        area = sum(cut.areas)
        assert len(level.couplings) == (4 if area == 2 else 3 if area <= 4 else 2)
        assert level.partition.n_active == len(cut.corners)
    assert {sum(level.areas) for level in flow.layers} >= {2, 4, 6, 48}


def test_repr_and_errors():
    flow = flows.hierarchical(U1(), (4, 4), levels=("f", "c"), bins=4, hidden=(8,), seed=0)
    assert str(flow).startswith("Flow: U(1) on 4x4, 4 layers (Level), ")
    for settings, words in (
        ({"levels": ()}, "at least one"),
        ({"levels": "cab"}, "a list of designs"),
        ({"levels": ("c", "x")}, "designed by letters"),
        ({"levels": ("",)}, "designed by letters"),
        ({"levels": ("r",)}, r"ResidualMap needs SU\(N\)"),
        ({"hidden": ()}, "hidden layers"),
        ({"bins": 0}, "bins"),
        ({"beta_range": (2.0, 1.0)}, "0 < low < high"),
    ):
        with pytest.raises(InvalidInput, match=words) as error:
            flows.hierarchical(U1(), (4, 4), **settings)
        assert "\n" not in str(error.value)
    with pytest.raises(InvalidInput, match="SpectralMap"):
        flows.hierarchical(SU(2), (4, 4), levels=("f",))
    with pytest.raises(InvalidInput, match="two dimensions"):
        flows.hierarchical(U1(), (4, 4, 4))


def by_areas(flow):
    """The parameters of every level, under the areas of its parts."""
    return {level.areas: torch.cat([p.flatten() for p in level.parameters()]) for level in flow.layers}


@pytest.mark.parametrize("extents", [(4, 4), (4, 3), (3, 5), (5, 7)], ids=str)
@pytest.mark.parametrize("group", [U1(), SU(2)], ids=str)
def test_transfer_to_the_same_extents_changes_nothing(group, extents, generator):
    """Where two shapes have parts of the same areas, too: each keeps its own parameters."""
    flow = cases.hierarchical_flow(group, extents, scale=0.3)
    carried = flow.on(extents)
    links = flow.space.prior(4, generator, dtype=torch.float64)
    with torch.no_grad():
        for found, expected in ((carried(links), flow(links)), (carried.inverse(links), flow.inverse(links))):
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
    # a copy: what is done to one is not done to the other
    with torch.no_grad():
        for parameter in carried.parameters():
            parameter.zero_()
    assert all(parameter.abs().max() > 0 for parameter in flow.parameters())


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_transfer_to_larger_extents(dtype, generator):
    group = SU(2)
    flow = cases.hierarchical_flow(group, (4, 4), scale=0.3, dtype=dtype)
    carried = flow.on((8, 16))
    assert carried.lattice == Lattice((8, 16))
    assert next(carried.parameters()).dtype == dtype
    old, new = by_areas(flow), by_areas(carried)
    assert len(carried.layers) == len(cuts((8, 16)))
    for areas in old.keys() & new.keys():
        assert torch.equal(old[areas], new[areas])
    assert {(1, 1), (2, 2), (4, 4), (8, 8)} == old.keys() & new.keys()
    links = group.haar(2, 2, 8, 16, generator=generator, dtype=dtype)
    for level in carried.layers:
        moved = group.distance(level(links)[0], links).max()
        assert moved < 1e-4 if sum(level.areas) > 16 else moved > 1e-2
        shares = {layer.centre for layer in level.couplings} - {0.0, 1.0}
        assert shares <= {level.areas[0] / sum(level.areas)}
    with torch.no_grad():
        assert_invertible(carried, links, carried.space, atol={torch.float64: 1e-10, torch.float32: 1e-2}[dtype])


def test_levels_that_are_new_in_between_take_over_the_nearest():
    flow = cases.hierarchical_flow(SU(2), (4, 4), levels=("c",))
    old, new = by_areas(flow), by_areas(flow.on((3, 5)))
    for areas, parameters in new.items():

        def apart(own, areas=areas):
            return sum(abs(math.log(a / b)) for a, b in zip(own, areas, strict=True))

        assert any(torch.equal(parameters, old[own]) for own in old if apart(own) < min(map(apart, old)) + 1e-12)


def test_a_beta_input_stays_one_module(generator):
    flow = cases.hierarchical_flow(U1(), (4, 4), beta_range=(1.0, 3.0))
    carried = flow.on((6, 4))
    for each in (flow, carried):
        found = {id(module) for module in each.modules() if isinstance(module, BetaInput)}
        assert found == {id(each.beta_input)}
        contexts = [layer.context for level in each.layers for layer in level.couplings]
        assert all(context.beta_input is each.beta_input for context in contexts)
    assert carried.beta_input is not flow.beta_input
    links = carried.space.prior(3, generator, dtype=torch.float64)
    log_q = []
    with torch.no_grad():
        for beta in (1.0, 2.0, 1.0):
            carried.beta_input.set(beta)
            log_q.append(carried.log_prob(links))
    assert torch.equal(log_q[0], log_q[2])
    assert (log_q[0] - log_q[1]).abs().min() > 1e-3
    with pytest.raises(InvalidInput, match=r"from 1\.0 to 3\.0"):
        flow.beta_input.set(3.5)
    assert hierarchical(U1(), (4, 4), seed=0).beta_input is None
    assert not any("beta" in name for name in flow.state_dict())


def test_transfer_is_the_flow_on_another_lattice():
    assert str(flows.transfer(flows.stripes(U1(), (4, 4), layers=2, seed=0), (8, 8))).startswith("Flow: U(1) on 8x8, 2")
    assert isinstance(transfer(hierarchical(U1(), (4, 4), seed=0), (4, 8)), HierarchicalFlow)
    with pytest.raises(InvalidInput, match="two dimensions"):
        hierarchical(U1(), (4, 4), seed=0).on((4, 4, 4))


RECIPE = ARCHITECTURES["hierarchical"]


def test_the_recipe_builds_its_flow_and_sets_beta():
    space = GaugeField(SU(2), (4, 6))
    settings = RECIPE.settings(levels=["ca", "c"], hidden=[4], bins=4, beta_range=[1, 3])
    flow = RECIPE.build(space, settings, Wilson(space, 2.5), seed=3, dtype=torch.float64)
    expected = hierarchical(
        SU(2), (4, 6), levels=("ca", "c"), hidden=(4,), bins=4, beta_range=(1, 3), seed=3, dtype=torch.float64
    )
    assert flow.space == space
    assert (flow.beta_input.low, flow.beta_input.beta, flow.beta_input.high) == (1.0, 2.5, 3.0)
    assert flow.state_dict().keys() == expected.state_dict().keys()
    for own, other in zip(flow.parameters(), expected.parameters(), strict=True):
        assert torch.equal(own, other)
    for action, words in ((Wilson(space, 3.5), "from 1.0 to 3.0 for this flow, got 3.5"), (None, "needs an action")):
        with pytest.raises(InvalidInput, match=words):
            RECIPE.build(space, settings, action, seed=0, dtype=None)
    with pytest.raises(InvalidInput, match="a space of links"):
        RECIPE.build(ScalarField((4, 6)), settings, None, seed=0, dtype=None)
    assert RECIPE.build(space, RECIPE.settings(), None, seed=0, dtype=None).beta_input is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": []}, "levels must be designs of levels"),
        ({"levels": [""]}, "levels must be designs of levels"),
        ({"beta_range": [3, 1]}, "beta_range must be two couplings, 0 < low < high"),
        ({"beta_range": [1]}, "beta_range must be two couplings"),
        ({"bins": 1}, "bins must be >= 2"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InvalidInput, match=message):
        RECIPE.settings(**settings)


def test_a_flow_for_a_range_is_not_annealed():
    class Annealed:
        class training:  # sections
            beta_start = 1.0

        class lattice:
            extents = (4, 4)

    RECIPE.settings().check(Annealed)
    with pytest.raises(InvalidInput, match="trained at all its couplings"):
        RECIPE.settings(beta_range=(1.0, 2.0)).check(Annealed)


# gradients


CASES = [(U1(), (3, 3)), (SU(2), (3, 2)), (SU(3), (2, 3))]
by_case = pytest.mark.parametrize(("group", "extents"), CASES, ids=str)


def directional(flow, value):
    """The derivative of a scalar along a random direction of all parameters: by autograd, and by differences."""
    generator = torch.Generator().manual_seed(7)
    parameters = list(flow.parameters())
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    gradients = torch.autograd.grad(value(), parameters)
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for p, d in zip(parameters, direction, strict=True):
                p.add_(step * d)
            ends.append(value())
        for p, d in zip(parameters, direction, strict=True):
            p.add_(1e-6 * d)
    return slope, (ends[0] - ends[1]) / 2e-6


@by_case
def test_gradients_are_those_of_finite_differences(group, extents, generator):
    """Of what is drawn with fixed noise, and of log q at fixed links: every layer, both directions."""
    flow = cases.hierarchical_flow(group, extents, scale=0.15)
    action = Wilson(flow.space, 2.0)
    links = flow.space.prior(8, generator, dtype=torch.float64)

    def reverse():
        return ESTIMATORS["reparametrisation"](
            flow, action, flow.sample_prior(8, torch.Generator().manual_seed(3))
        ).surrogate

    for value in (reverse, lambda: likelihood(flow, action, links).surrogate):
        found, expected = directional(flow, value)
        assert expected.abs() > 1e-2
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@by_case
def test_log_prob_has_the_gradient_of_the_links(group, extents, generator):
    """Through the inverse, frozen loops included: what the path gradient and a force on the model stand on."""
    flow = cases.hierarchical_flow(group, extents, scale=0.15)
    links = flow.space.prior(3, generator, dtype=torch.float64)
    step = group.random_algebra(3, *flow.space.axes, generator=generator, dtype=torch.float64)
    variable = links.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(flow.log_prob(variable).sum(), variable)
    force = group.algebra_gradient(links, gradient)
    slope = group.inner(step, force).flatten(1).sum(-1)
    with torch.no_grad():
        ahead, behind = (flow.log_prob(group.compose(group.exp(h * step), links)) for h in (1e-6, -1e-6))
    assert slope.abs().max() > 1e-2
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, atol=1e-5, rtol=1e-5)


@by_case
def test_the_path_gradient_vanishes_where_q_equals_p(group, extents):
    flow, target = (cases.hierarchical_flow(group, extents, scale=0.15) for _ in range(2))
    size = {}
    for name in ("path", "reparametrisation"):
        flow.zero_grad()
        x = flow.sample_prior(16, torch.Generator().manual_seed(0))
        estimate = ESTIMATORS[name](flow, lambda links: -target.log_prob(links), x)
        estimate.surrogate.backward()
        size[name] = max(parameter.grad.abs().max() for parameter in flow.parameters())
    assert size["path"] < 1e-6
    assert size["reparametrisation"] > 1e-3


@pytest.mark.slow
def test_estimators_agree_in_expectation():
    """The path gradient and reparametrisation of SU(3) with residual steps."""
    group = SU(3)
    flow = cases.hierarchical_flow(group, (2, 2), levels=("cr",), scale=0.1, hidden=(3,))
    action = Wilson(flow.space, 3.0)
    rows = {name: [] for name in ("path", "reparametrisation")}
    for seed, (name, found) in enumerate(rows.items()):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(20):
            flow.zero_grad()
            ESTIMATORS[name](flow, action, flow.sample_prior(64, generator)).surrogate.backward()
            found.append(torch.cat([p.grad.flatten() for p in flow.parameters()]))
    one, two = (torch.stack(found) for found in rows.values())
    error = (one.var(0) / len(one) + two.var(0) / len(two)).sqrt()
    pull = ((one.mean(0) - two.mean(0)) / error)[error > 1e-12]
    assert len(pull) > 100
    assert pull.square().mean() < 2
    assert pull.abs().max() < 6
    assert one.mean(0).norm() > 5 * error.norm()
