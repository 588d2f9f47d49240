"""Laws of whole flows, and what a flow says of itself."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, Lattice, ScalarField, flows
from lattice_flows.actions import Wilson
from lattice_flows.config.registry import ARCHITECTURES
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.layers import Transform
from lattice_flows.streams import Streams
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet

everywhere = pytest.mark.parametrize(
    ("group", "extents"),
    list(itertools.product(cases.GROUPS, [(4, 6), (6, 10), (4, 2, 4), (2, 4, 2, 4)])),
    ids=lambda case: str(case),
)


@everywhere
def test_laws(group, extents, generator):
    flow = cases.flow(group, extents, layers=6, dtype=torch.float64)
    space = flow.space
    links = space.prior(4, generator, dtype=torch.float64)
    with torch.no_grad():
        assert_invertible(flow, links, space, atol=1e-9)
        assert_gauge_equivariant(flow, links, space, atol=1e-9, generator=generator)
        y, log_q = flow.sample(5, generator=generator)
        assert y.shape == (5, *space.shape)
        torch.testing.assert_close(flow.log_prob(y), log_q, atol=1e-9, rtol=0)
    assert space.group.defect(y).max() < 1e-12


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
def test_logdet_is_that_of_the_jacobian(group, generator):
    flow = cases.flow(group, (3, 4) if group == U1() else (3, 3), layers=5, dtype=torch.float64)
    assert_logdet(flow, flow.space.prior(1, generator, dtype=torch.float64)[0], flow.space)


def test_density_is_normalised(generator):
    """The mean of q under the Haar measure is 1: q is a probability density, not only a number that training likes."""
    for group in (U1(), SU(2)):
        flow = cases.flow(group, (3, 3), layers=2, dtype=torch.float64)
        links = flow.space.prior(40_000, generator, dtype=torch.float64)
        with torch.no_grad():
            q = flow.log_prob(links).exp()
        assert q.std() > 0.02
        assert (q.mean() - 1).abs() < 4 * q.std() / len(q) ** 0.5


def test_seed_makes_the_weights_and_leaves_the_global_stream():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (flows.stripes(SU(2), (4, 4), layers=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_sampling_is_reproducible_and_carries_gradients_only_when_asked(generator):
    flow = flows.stripes(SU(2), (4, 4), layers=2, seed=0)
    twice = [flow.sample(3, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(twice[0].links, twice[1].links)
    assert not flow.sample(3, generator=generator).links.requires_grad
    assert flow.transform(flow.sample_prior(3, generator)).links.requires_grad


def test_first_sweep_moves_every_link(generator):
    """Eight layers on multiples of four; as many as there are offsets and directions elsewhere."""
    for extents, layers in (((8, 8), 8), ((6, 10), 8), ((4, 4, 6), 6)):
        flow = cases.flow(U1(), extents, layers=layers)
        x = flow.space.prior(1, generator)
        y, _ = flow(x)
        assert (U1().distance(x, y) > 0).all()


def test_a_flow_describes_itself():
    flow = flows.stripes(SU(3), (8, 8), layers=4, seed=0)
    assert flow.n_parameters == sum(p.numel() for p in flow.parameters())
    assert str(flow) == (
        "Flow: SU(3) on 8x8, 4 layers (GaugeCoupling with SpectralMap(SU(3), bins=8)), "
        f"{flow.n_parameters:,} parameters"
    )


class Scale(Transform):
    """y = exp(s) x + m at every site."""

    def __init__(self, extents):
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(extents))
        self.mean = torch.nn.Parameter(torch.linspace(0, 2, 24, dtype=torch.float64).reshape(extents))

    def forward(self, x):
        return self.log_scale.exp() * x + self.mean, self.log_scale.sum().expand(x.shape[:-2])

    def inverse(self, y):
        return (y - self.mean) * (-self.log_scale).exp(), -self.log_scale.sum().expand(y.shape[:-2])


def scalar_flow(extents=(4, 6), **settings):
    return Flow(ScalarField(extents), [Scale(extents)], **settings)


def test_a_flow_of_a_scalar_field(generator):
    """The prior's density enters log q: that of independent normals of mean m and width exp(s)."""
    flow = scalar_flow()
    assert_invertible(flow, flow.space.prior(3, generator, dtype=torch.float64), flow.space)
    phi, log_q = flow.sample(200, generator=generator)
    assert phi.dtype == torch.float64
    layer = flow.layers[0]
    exact = torch.distributions.Normal(layer.mean, layer.log_scale.exp()).log_prob(phi).sum((-2, -1))
    torch.testing.assert_close(log_q, exact.detach())
    torch.testing.assert_close(flow.log_prob(phi), exact)
    assert str(flow) == "Flow: scalar field on 4x6, 1 layers (Scale), 48 parameters"
    with pytest.raises(InvalidInput, match=r"a space of links is needed.*ScalarField\(4x6\)"):
        _ = flow.group


class Wide:
    """Normals of width 2 at every site."""

    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 2.0)

    def sample(self, n, generator=None, dtype=None, device=None):
        return 2 * torch.randn(n, 4, 6, generator=generator, dtype=dtype, device=device)

    def log_prob(self, x):
        return self.normal.log_prob(x).sum((-2, -1))


def test_a_prior_takes_the_place_of_that_of_the_space(generator):
    flow = scalar_flow(prior=Wide())
    phi, log_q = flow.sample(2000, generator=generator)
    layer = flow.layers[0]
    exact = torch.distributions.Normal(layer.mean, 2 * layer.log_scale.exp()).log_prob(phi).sum((-2, -1))
    torch.testing.assert_close(log_q, exact.detach())
    assert abs(flow.inverse(phi)[0].std() - 2) < 0.02


@pytest.mark.parametrize("flow", [cases.flow(SU(2), (4, 4), layers=2), scalar_flow()], ids=["links", "scalars"])
def test_a_flow_is_a_proposal(flow):
    """Its draw is its sample with the generator of the stream, its weight is 1 / q."""
    streams = Streams(7, 1)
    x, log_w = flow.draw(3, streams)
    sample = flow.sample(3, generator=Streams(7, 1).generators()[0])
    assert torch.equal(x, sample.x)
    assert torch.equal(log_w, -sample.log_q)
    # the next draw goes on in the stream
    assert not torch.equal(flow.draw(3, streams)[0], x)
    found = flow.log_w(x)
    torch.testing.assert_close(found, log_w, atol=1e-3, rtol=0)
    assert not found.requires_grad
    with pytest.raises(InvalidInput, match="one stream, got 2"):
        flow.draw(3, Streams(7, 2))


TRANSFERS = [((8, 8), (8, 12), 16), ((8, 8), (4, 4), 3), ((4, 4, 4), (4, 4, 6), 12), ((2, 4, 2, 2), (4, 4, 2, 2), 8)]


@pytest.mark.parametrize("group", [U1(), SU(2)], ids=str)
@pytest.mark.parametrize(("before", "after", "layers"), TRANSFERS, ids=str)
def test_on_another_lattice(group, before, after, layers, generator):
    flow = cases.flow(group, before, layers=layers, seed=3, dtype=torch.float64).eval()
    other = flow.on(after)
    assert (other.lattice, other.group, other.training) == (Lattice(after), group, False)
    assert other.state_dict().keys() == flow.state_dict().keys()
    for own, copied in zip(flow.parameters(), other.parameters(), strict=True):
        assert torch.equal(own, copied)
        assert own.data_ptr() != copied.data_ptr()
    links = other.space.prior(4, generator, dtype=torch.float64)
    with torch.no_grad():
        assert_invertible(other, links, other.space, atol=1e-9)
        assert_gauge_equivariant(other, links, other.space, atol=1e-9, generator=generator)
        assert other.log_prob(links).isfinite().all()
        # and back again, it is the same flow
        there = flow.space.prior(4, generator, dtype=torch.float64)
        assert torch.equal(other.on(before).log_prob(there), flow.log_prob(there))


def test_on_a_torus_twice_as_long_a_periodic_configuration_moves_alike(generator):
    """The parameters go to the same places: the flow of a configuration, repeated, is the flow repeated."""
    for extents, axis, layers in (((8, 8), 1, 16), ((4, 4, 4), 2, 24)):
        flow = cases.flow(SU(2), extents, layers=layers, seed=3, dtype=torch.float64)
        longer = list(extents)
        longer[axis] *= 2
        links = flow.space.prior(2, generator, dtype=torch.float64)
        with torch.no_grad():
            y, logdet = flow(links)
            twice, double = flow.on(longer)(torch.cat((links, links), dim=2 + axis))
        torch.testing.assert_close(twice, torch.cat((y, y), dim=2 + axis), atol=1e-11, rtol=0)
        torch.testing.assert_close(double, 2 * logdet, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("flow", "lattice", "message"),
    [
        (Flow(GaugeField(U1(), (4, 4)), cases.flow(U1(), (4, 4), layers=2).layers), (8, 8), "stays on its lattice"),
        (cases.flow(U1(), (8, 8), layers=8), (9, 9), "on 8x8 would move other directions on 9x9"),
        (cases.flow(U1(), (8, 8), layers=2), (4, 4, 4), "stripes are for two dimensions"),
        (cases.flow(U1(), (4, 4, 4), layers=2), (4, 4, 4, 4), "on 4x4x4 do not fit the layers on 4x4x4x4"),
        (cases.flow(U1(), (4, 4, 4), layers=2), (4, 5, 4), "even extents"),
        (cases.flow(U1(), (4, 4), layers=2), (4, 1), "integer extents >= 2"),
    ],
    ids=["by hand", "directions", "dimensions", "parameters", "parity", "extents"],
)
def test_lattices_that_a_flow_cannot_go_to(flow, lattice, message):
    with pytest.raises(InvalidInput, match=message) as error:
        flow.on(lattice)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "extents"), [("stripes", (4, 8)), ("checkerboard", (4, 4, 6))])
def test_recipes_build_their_flows(name, extents):
    recipe, builder = ARCHITECTURES[name], getattr(flows, name)
    space = GaugeField(SU(2), extents)
    settings = recipe.settings(layers=3, hidden=[4], bins=4)
    flow = recipe.build(space, settings, Wilson(space, 2.0), seed=3, dtype=torch.float64)
    expected = builder(SU(2), extents, layers=3, hidden=(4,), bins=4, seed=3, dtype=torch.float64)
    assert str(flow) == str(expected)
    assert flow.space == space
    for own, other in zip(flow.parameters(), expected.parameters(), strict=True):
        assert torch.equal(own, other)
    with pytest.raises(InvalidInput, match="a space of links"):
        recipe.build(ScalarField(extents), settings, None, seed=0, dtype=None)
    assert recipe.stages is None
    assert recipe.training is None


def test_the_first_recipe_that_suits_is_automatic():
    suiting = {
        (field, dim): [name for name, recipe in ARCHITECTURES.items() if recipe.suits(field, dim)]
        for field in ("gauge", "scalar")
        for dim in (2, 3, 4)
    }
    assert suiting["gauge", 2][0] == "stripes"
    assert suiting["gauge", 3][0] == suiting["gauge", 4][0] == "checkerboard"
    assert not set(suiting["scalar", 2]) & {"stripes", "checkerboard", "hierarchical"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 0}, "layers must be >= 1, got 0"),
        ({"bins": 1}, "bins must be >= 2"),
        ({"hidden": [4, 0]}, "hidden must be widths, each >= 1"),
        ({"kernel_size": 2}, "kernel_size must be odd"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InvalidInput, match=message):
        ARCHITECTURES["stripes"].settings(**settings)


def test_names_that_moved_are_found_where_they_were():
    from lattice_flows import layers
    from lattice_flows.planar import hierarchical, perceptron, residual, triangular

    assert flows.hierarchical is hierarchical.hierarchical
    assert flows.transfer is hierarchical.transfer
    assert layers.Coupling is perceptron.BetaInput
    assert layers.BoundaryContext is perceptron.BoundaryContext
    assert (layers.ResidualMap, layers.TriangularMap) == (residual.ResidualMap, triangular.TriangularMap)
    assert layers.n_boundary_features is perceptron.n_boundary_features
    for room in (flows, layers):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = room.nothing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.stripes(U1(), (4, 4, 4)), "two dimensions"),
        (lambda: flows.checkerboard(U1(), (4, 4)), "3 or 4 dimensions"),
        (lambda: flows.stripes(U1(), (4, 2)), "too small"),
        (lambda: flows.stripes(U1(), (4, 4), layers=0), "layers"),
        (lambda: flows.stripes(U1(), (4, 4), hidden=(0,)), "hidden channels"),
        (lambda: flows.stripes(U1(), (4, 4), bins=0), "bins"),
        (lambda: flows.stripes(U1(), (4, 4), kernel_size=4), "odd"),
        (lambda: ARCHITECTURES["pyramid"], "available: stripes, checkerboard"),
        (lambda: Flow(GaugeField(U1(), (4, 4)), []), "at least one layer"),
        (lambda: Flow(U1(), cases.flow(U1(), (4, 4), layers=1).layers), r"needs the space .* got U1\(\)"),
    ],
)
def test_flows_that_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
