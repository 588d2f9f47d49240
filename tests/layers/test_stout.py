"""Laws of stout couplings over groups and dimensions, up to the bound of their coefficients, and of flows of them."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, flows
from lattice_flows.actions import Wilson
from lattice_flows.config.registry import ARCHITECTURES
from lattice_flows.errors import InvalidInput
from lattice_flows.layers import StoutCoupling
from lattice_flows.layers.residual import BOUND
from lattice_flows.layers.stout import _Step
from lattice_flows.observables.smearing import stout_smear
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet
from lattice_flows.training.losses import reparametrisation

everywhere = pytest.mark.parametrize("space", cases.GAUGE_FIELDS, ids=str)
SMALL = [
    *(GaugeField(group, lattice) for group in (U1(), SU(2), SU(3)) for lattice in [(2, 3), (2, 2, 2)]),
    *(GaugeField(group, (2, 2, 2, 2)) for group in (U1(), SU(2))),
]


def coupling(space, generator, size=0.7, dtype=torch.float64):
    """A layer whose coefficients, of both signs, have this part of the bound."""
    layer = StoutCoupling(space, mu=1, colour=1, dtype=dtype)
    c = torch.randn(space.dim - 1, generator=generator, dtype=dtype)
    layer.c.data = c * (math.atanh(size) * BOUND / 2 / c.abs().sum())
    return layer


def bound(space):
    return BOUND / (2 * (space.dim - 1))


@everywhere
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_laws(space, dtype, generator):
    links = space.prior(4, generator, dtype=dtype)
    for size in (0.1, 0.7, 0.999):
        layer, atol = coupling(space, generator, size, dtype), cases.TOLERANCE[dtype] * space.volume**0.5
        assert 2 * layer.rho.abs().sum().item() == pytest.approx(size * BOUND, rel=1e-5)
        with torch.no_grad():
            assert_invertible(layer, links, space, atol=atol)
            assert_gauge_equivariant(layer, links, space, atol=atol, generator=generator)
            y, _ = layer(links)
        assert space.group.defect(y).max() < {torch.float64: 1e-13, torch.float32: 1e-5}[dtype]
        moved = space.flatten(y - links).abs().reshape(4, space.dim, space.volume, -1).amax((0, -1)) > 0
        assert not moved[[mu for mu in range(space.dim) if mu != 1]].any()
        assert torch.equal(moved[1], space.lattice.colours(1) == 1)


@everywhere
def test_it_is_stout_smearing_of_some_links(space, generator):
    """With one rho for all directions, or for one, the active links are those of a smeared configuration."""
    links, rho = space.prior(2, generator, dtype=torch.float64), 0.9 * bound(space)
    active = (torch.arange(space.dim) == 1)[:, None] & (space.lattice.colours(1) == 0)
    others = [nu for nu in range(space.dim) if nu != 1]
    for along in (range(space.dim), *((1, nu) for nu in others)):
        layer = StoutCoupling(space, 1, 0, rho=rho, dtype=torch.float64)
        layer.c.data *= torch.tensor([nu in along for nu in others])
        smeared = stout_smear(links, space, layer.rho.max().item(), directions=along)
        close = space.group.distance(space.flatten(layer(links)[0]), space.flatten(smeared)) < 1e-13
        assert close[:, active.flatten()].all()


class Rotations(SU):
    """SO(3), whose algebra is a part of that of SU(3)."""

    def haar(self, *shape, generator=None, dtype=None, device=None):
        q, _ = torch.linalg.qr(torch.randn(*shape, 3, 3, generator=generator, dtype=dtype, device=device))
        return (q * torch.linalg.det(q)[..., None, None]).to(self.element_dtype(dtype))  # any rotations will do

    def project_algebra(self, m):
        return super().project_algebra(m.real.to(m.dtype))

    def generators(self, *, dtype=None, device=None):
        return super().generators(dtype=dtype, device=device)[1:6:2]


def test_another_group_of_matrices(generator):
    """The kernel of SU(3) does not serve it."""
    space = GaugeField(Rotations(3), (2, 3))
    layer, links = coupling(space, generator), space.prior(2, generator, dtype=torch.float64)
    with torch.no_grad():
        assert_invertible(layer, links, space)
        y, _ = layer(links)
    assert y.imag.abs().max() < 1e-15
    assert_logdet(layer, links[0], space)


@everywhere
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_with_and_without_derivatives_it_is_the_same(space, dtype, generator):
    links = space.prior(3, generator, dtype=dtype)
    for size in (0.1, 0.999):
        layer = coupling(space, generator, size, dtype)
        derivable = layer(links)
        assert derivable[1].requires_grad
        with torch.no_grad():
            torch.testing.assert_close(layer(links), derivable, atol=cases.TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("space", SMALL, ids=str)
def test_logdet_is_that_of_finite_differences_of_the_whole_map(space, generator):
    x, h = space.prior(1, generator, dtype=torch.float64)[0], 1e-5
    origin = space.components(torch.zeros_like(x)).flatten()
    steps = h * torch.eye(len(origin), dtype=torch.float64).unflatten(-1, (*space.axes, -1))
    for size in (0.2, 0.7, 0.999):
        layer = coupling(space, generator, size)
        with torch.no_grad():
            y, logdet = layer(x)
            ahead, behind = (layer(space.move(x, space.directions(x, sign * steps)))[0] for sign in (1, -1))
        change = space.components(space.difference(ahead, y)) - space.components(space.difference(behind, y))
        exact = torch.linalg.slogdet(change.flatten(1) / (2 * h)).logabsdet
        assert abs(exact) > 1e-3
        torch.testing.assert_close(logdet, exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("space", [space for space in SMALL if space.dim == 2], ids=str)
def test_logdet_is_that_of_the_jacobian(space, generator):
    x = space.prior(1, generator, dtype=torch.float64)[0]
    assert_logdet(coupling(space, generator), x, space)


@everywhere
def test_the_bound_is_sharp(space):
    """On the ordered configuration every tangent vector is scaled by 1 - 2 sum rho."""
    layer = StoutCoupling(space, 0, 0, rho=0.999 * bound(space), dtype=torch.float64)
    cold = space.cold(1, dtype=torch.float64)
    dimensions = (space.lattice.colours(0) == 0).sum().item() * len(space.group.generators())
    logdet = layer(cold)[1].item()
    assert logdet == pytest.approx(dimensions * math.log(1 - 0.999 * BOUND))
    assert_invertible(layer, cold, space)


@pytest.mark.parametrize("group", cases.GROUPS, ids=str)
def test_q_contracts_distances(group, generator):
    """|Q(U) - Q(V)| <= size |U - V| in the norm of Frobenius, for near and far links, and nearly = for some."""
    u, far, *staples = group.haar(8, 2000, generator=generator, dtype=torch.float64)
    near = group.compose(group.exp(1e-3 * group.random_algebra(2000, generator=generator, dtype=torch.float64)), u)
    basis = group.algebra_matrices(group.generators(dtype=torch.float64))
    for sums in (0.15 * sum(map(group.matrices, staples)), 0.9 * group.matrices(group.inverse(u))):
        step = _Step(group, sums, size=0.9)
        ratios = []
        for v in (far, near):
            change = step.components(step.matrix(u) - step.matrix(v))
            change = torch.tensordot(change.to(basis.dtype), basis, dims=1)
            ratios.append(change.norm(dim=(-2, -1)) / group.matrices(u).sub(group.matrices(v)).norm(dim=(-2, -1)))
            assert ratios[-1].max() < 0.9 + 1e-9
    assert ratios[-1].min() > 0.9 - 1e-5


def test_any_parameters_keep_the_bound(generator):
    space = GaugeField(SU(3), (2, 4, 4))
    layer, links = StoutCoupling(space, 2, 1, dtype=torch.float64), space.prior(3, generator, dtype=torch.float64)
    layer.c.data = torch.tensor([1e9, -3e8], dtype=torch.float64)
    assert 2 * layer.rho.abs().sum() <= BOUND * (1 + 1e-15)
    with torch.no_grad():
        assert_invertible(layer, links, space)


@everywhere
def test_no_coefficients_are_the_identity_with_a_gradient(space, generator):
    layer, links = StoutCoupling(space, 0, 1, dtype=torch.float64), space.prior(3, generator, dtype=torch.float64)
    y, logdet = layer(links)
    assert space.distance(y, links).max() < 1e-15
    assert logdet.abs().max() < 1e-14
    (gradient,) = torch.autograd.grad(logdet.sum(), layer.c)
    assert gradient.isfinite().all()
    assert gradient.abs().min() > 0.01


@pytest.mark.parametrize("space", SMALL, ids=str)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_derivatives_are_those_of_differences(space, direction, generator):
    """With respect to all links and to the coefficients, of a function of the links and the log-determinant."""
    layer, x = coupling(space, generator), space.prior(2, generator, dtype=torch.float64)
    goal = space.prior(1, generator, dtype=torch.float64)
    tangent, h = space.momenta(generator, dtype=torch.float64), 1e-5
    along = torch.randn(layer.c.shape, generator=generator, dtype=torch.float64)

    def function(x):
        y, logdet = getattr(layer, direction)(x)
        return (logdet + space.inner(tangent, space.difference(y, goal))).sum()

    of_x, of_c = torch.autograd.grad(function(x.requires_grad_()), (x, layer.c))
    x, c = x.detach(), layer.c.data.clone()
    with torch.no_grad():
        ahead, behind = (function(space.move(x, step * tangent)) for step in (h, -h))
        expected = space.inner(tangent, space.gradient(x, of_x)).sum()
        torch.testing.assert_close((ahead - behind) / (2 * h), expected, rtol=1e-6, atol=1e-6)
        values = []
        for step in (h, -h):
            layer.c.data = c + step * along
            values.append(function(x))
    torch.testing.assert_close((values[0] - values[1]) / (2 * h), along @ of_c, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("group", [U1(), SU(3)], ids=str)
def test_it_keeps_the_symmetries_of_its_colour(group, generator):
    """Translations, a reflection along 0 and an exchange of 0 and 2; they keep direction 1 and the colours."""
    space = GaugeField(group, (4, 3, 4))
    layer, links = coupling(space, generator), space.prior(2, generator, dtype=torch.float64)
    other = coupling(space, generator)
    other.c.data = layer.c.data.flip(0)

    def translated(x):
        return x.roll((1, 1, 3), (2, 3, 4))

    def reflected(x):
        x = x.flip(2).roll(1, 2)  # the site -x_0
        return torch.cat((group.inverse(x[:, :1]).roll(-1, 2), x[:, 1:]), 1)

    def exchanged(x):
        return x.transpose(2, 4).flip(1)

    for symmetry, same in ((translated, layer), (reflected, layer), (exchanged, other)):
        y, logdet = same(symmetry(links))
        expected, expected_logdet = layer(links)
        torch.testing.assert_close(y, symmetry(expected), atol=1e-13, rtol=0)
        torch.testing.assert_close(logdet, expected_logdet, atol=1e-12, rtol=0)


@pytest.mark.parametrize("space", [space for space in cases.GAUGE_FIELDS if space.group.n < 4], ids=str)
def test_a_sweep_moves_every_link(space, generator):
    flow = flows.stout(space.group, space.lattice, sweeps=1, rho=0.5 * bound(space), dtype=torch.float64)
    x = space.prior(2, generator, dtype=torch.float64)
    with torch.no_grad():
        y, _ = flow(x)
        assert_invertible(flow, x, space, atol=1e-9)
        assert_gauge_equivariant(flow, x, space, generator=generator)
    assert (space.group.distance(x, y) > 0).all()


def test_a_flow_is_trained(generator):
    """Steps along gradients of the reverse divergence raise the ESS."""
    space = GaugeField(SU(2), (4, 4))
    flow, action = flows.stout(SU(2), (4, 4), sweeps=1, dtype=torch.float64), Wilson(space, 1.0)
    optimizer = torch.optim.Adam(flow.parameters(), 0.03)
    found = []
    for _ in range(12):
        optimizer.zero_grad()
        estimate = reparametrisation(flow, action, flow.sample_prior(64, generator))
        estimate.surrogate.backward()
        optimizer.step()
        found.append(estimate.ess)
    assert found[0] < 0.2
    assert min(found[-3:]) > 0.7


def test_a_flow_goes_to_other_lattices():
    flow = flows.stout(SU(2), (4, 4, 4), sweeps=2)
    assert str(flow) == "Flow: SU(2) on 4x4x4, 12 layers (StoutCoupling), 24 parameters"
    assert len(flow.on((2, 6, 4)).layers) == 12
    with pytest.raises(InvalidInput, match="parameters on 4x4x4 do not fit the layers on 4x3x4"):
        flow.on((4, 3, 4))


def test_recipe():
    recipe, space = ARCHITECTURES["stout"], GaugeField(SU(3), (4, 6))
    flow = recipe.build(space, recipe.settings(sweeps=3), Wilson(space, 2.0), seed=0, dtype=torch.float64)
    assert (len(flow.layers), flow.space, next(flow.parameters()).dtype) == (12, space, torch.float64)


SPACE = GaugeField(SU(3), (4, 3, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StoutCoupling(SPACE, 3, 0), r"on 4x3x4 have directions 0 ... 2 of \[3, 2, 3\] colours, got mu = 3"),
        (lambda: StoutCoupling(SPACE, 1, 2), "got mu = 1 and colour = 2"),
        (lambda: StoutCoupling(SPACE, 1, 0, rho=-0.225), r"\|rho\| must be < 0.225 in 3 dimensions, got -0.225"),
        (lambda: StoutCoupling(SPACE, 1, 0, rho=math.nan), "got nan"),
        (lambda: StoutCoupling(SU(3), 1, 0), "a space of links is needed"),
        (lambda: StoutCoupling(SPACE, 1, 0)(torch.zeros(4, 3, 4)), "holds complex tensors"),
        (lambda: flows.stout(SU(3), (4, 4), sweeps=0), "sweeps must be an integer >= 1, got 0"),
        (lambda: ARCHITECTURES["stout"].settings(sweeps=0), "sweeps must be >= 1, got 0"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
