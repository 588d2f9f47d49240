"""Laws of the gauge groups."""

import functools

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, groups
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.sampling import HMC, HeatBath, Metropolis, OverRelaxation, Streams, start

groups_and_dtypes = [
    pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS)),
    pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES)),
]


def over_groups(test):
    for mark in groups_and_dtypes:
        test = mark(test)
    return test


def eps(dtype):
    return 100 * torch.finfo(dtype).eps


@over_groups
def test_axioms(group, dtype, generator):
    a, b, c = (group.haar(500, generator=generator, dtype=dtype) for _ in range(3))
    one = group.identity(500, dtype=dtype)
    left, right = group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c))
    assert group.distance(left, right).max() < eps(dtype)
    assert group.distance(group.compose(a, group.inverse(a)), one).max() < eps(dtype)
    assert group.distance(group.compose(a, one), a).max() < eps(dtype)
    for element in (a, group.compose(a, b), group.inverse(a), one):
        assert element.dtype == group.element_dtype(dtype)
        assert group.defect(element).max() < eps(dtype)


@over_groups
def test_exponential(group, dtype, generator):
    x = group.random_algebra(500, generator=generator, dtype=dtype)
    assert group.defect(group.exp(x)).max() < 10 * eps(dtype)
    doubled = group.compose(group.exp(x), group.exp(x))
    assert group.distance(group.exp(2 * x), doubled).max() < 100 * eps(dtype)


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_algebra(group, generator):
    basis = group.generators(dtype=torch.float64)
    e = len(group.element_shape)
    gram = group.inner(basis.unsqueeze(1), basis)
    assert len(basis) == max(1, group.n**2 - 1)
    torch.testing.assert_close(gram, torch.eye(len(basis), dtype=torch.float64))
    x = group.random_algebra(20_000, generator=generator, dtype=torch.float64)
    coefficients = group.inner(x.unsqueeze(-1 - e), basis)
    rebuilt = torch.tensordot(coefficients.to(x.dtype), basis, dims=1)
    torch.testing.assert_close(rebuilt, x, atol=1e-12, rtol=0)
    # standard normal coefficients: the mean of x^2 is 1 with error sqrt(2 / n)
    pull = ((coefficients**2).mean(0) - 1) / (2 / len(x)) ** 0.5
    assert pull.abs().max() < 4.5


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_gradients_of_translations(group, generator):
    a = group.haar(5, generator=generator, dtype=torch.float64)
    basis = group.generators(dtype=torch.float64)
    for direction in basis:
        step = 1e-6 * direction
        ahead, behind = (group.retrace(group.compose(group.exp(s), a)) for s in (step, -step))
        exact = group.inner(direction, group.retrace_gradient(a))
        torch.testing.assert_close((ahead - behind) / 2e-6, exact, atol=1e-8, rtol=0)
    variable = a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(group.retrace(variable).sum(), variable)
    torch.testing.assert_close(group.algebra_gradient(a, gradient), group.retrace_gradient(a), atol=1e-12, rtol=0)
    force = group.random_algebra(5, generator=generator, dtype=torch.float64)
    again = group.algebra_gradient(a, group.algebra_derivative(a, force))
    torch.testing.assert_close(again, force, atol=1e-12, rtol=0)


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_the_bracket_is_that_of_small_steps(group, generator):
    """exp(X) exp(Y) exp(-X) exp(-Y) is exp([X, Y]) to second order."""
    x, y = (1e-4 * group.random_algebra(5, generator=generator, dtype=torch.float64) for _ in range(2))
    around = functools.reduce(group.compose, map(group.exp, (x, y, -x, -y)))
    identity = group.identity(5, dtype=torch.float64)
    turned = group.project_algebra(group.compose(around, group.inverse(identity)))
    torch.testing.assert_close(turned, group.bracket(x, y), atol=1e-10, rtol=0)


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_haar_moments(group, generator):
    """E[tr U] = 0, E[|tr U|^2] = 1, and E[(tr U)^2] = 1 for SU(2), whose trace is real, and 0 else."""
    trace = group.n * group.trace(group.haar(50_000, generator=generator, dtype=torch.float64))
    square = 1.0 if group == SU(2) else 0.0
    for values, exact in (
        (trace.real, 0),
        (trace.imag, 0),
        (trace.abs() ** 2, 1),
        ((trace**2).real, square),
        ((trace**2).imag, 0),
    ):
        error = values.std() / len(values) ** 0.5
        assert (values.mean() - exact).abs() <= 4 * error


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_haar_is_invariant(group, generator):
    """A product with a fixed element has the same distribution: the mean of its real trace is 0."""
    fixed = group.haar(generator=generator, dtype=torch.float64)
    for product in (lambda u: group.compose(fixed, u), lambda u: group.compose(u, fixed)):
        values = group.retrace(product(group.haar(50_000, generator=generator, dtype=torch.float64)))
        assert values.mean().abs() < 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_class_features_are_class_functions_that_separate(group, generator):
    a, b, V = (group.haar(200, generator=generator, dtype=torch.float64) for _ in range(3))
    turned = group.compose(group.compose(V, a), group.inverse(V))
    features = group.class_features(a)
    assert features.shape == (200, group.n_class_features)
    torch.testing.assert_close(group.class_features(turned), features, atol=1e-12, rtol=0)
    # they change wherever the eigenphases do
    moved = (group.eigenphases(a)[0] - group.eigenphases(b)[0]).abs().amax(-1) > 1e-3
    assert ((features - group.class_features(b)).abs().amax(-1)[moved] > 1e-6).all()


@over_groups
def test_principal_powers(group, dtype, generator):
    """The phases times the exponent; powers of one element multiply; and a power turns with the element."""
    a, V = (group.haar(500, generator=generator, dtype=dtype) for _ in range(2))
    phases, frame = group.eigenphases(a)
    for exponent in (0.0, 0.5, 0.3, -0.75, 1.0):
        power = group.power(a, exponent)
        assert group.defect(power).max() < eps(dtype)
        assert group.distance(power, cases.rebuild(group, exponent * phases, frame)).max() < 100 * eps(dtype)
        rest = group.power(a, 1 - exponent)
        assert group.distance(group.compose(power, rest), a).max() < 100 * eps(dtype)
    assert torch.equal(group.power(a, 1.0), a)
    turned = group.power(group.compose(group.compose(V, a), group.inverse(V)), 0.5)
    expected = group.compose(group.compose(V, group.power(a, 0.5)), group.inverse(V))
    # near the walls of the alcove, where the principal root jumps, rounding is enlarged
    assert group.distance(turned, expected).max() < 1e4 * eps(dtype)


def test_equality_and_names():
    assert SU(3) == SU(3)
    assert SU(3) != SU(2)
    assert len({SU(2), SU(2), U1()}) == 2
    for group in cases.GROUPS:
        assert groups.from_name(group.name) == group
    assert SU(2).haar(3, dtype=torch.complex128).dtype == SU(2).haar(3, dtype=torch.float64).dtype == torch.complex128


@pytest.mark.parametrize("name", ["SU(1)", "U(2)", "SO(3)", "", "SU(3)x"])
def test_unknown_group(name):
    with pytest.raises(InvalidInput, match="available"):
        groups.from_name(name)


@pytest.mark.parametrize("n", [1, 0, -2, 2.0, True, "3"])
def test_wrong_n(n):
    with pytest.raises(InvalidInput, match="N >= 2"):
        SU(n)


def test_wrong_dtype():
    with pytest.raises(InvalidInput, match="float32 or float64"):
        U1().haar(3, dtype=torch.int64)


@over_groups
def test_project_sum(group, dtype, generator):
    elements = group.haar(4, 100, generator=generator, dtype=dtype)
    expected = sum(group.project_algebra(element) for element in elements)
    torch.testing.assert_close(group.project_sum(iter(elements)), expected, rtol=0, atol=eps(dtype))


@over_groups
def test_distance(group, dtype, generator):
    """Zero for equal elements alone, the same both ways and after a product with a third element, up to its entries."""
    a, b, c = (group.haar(200, generator=generator, dtype=dtype) for _ in range(3))
    assert (group.distance(a, a) == 0).all()
    apart = group.distance(a, b)
    assert apart.shape == (200,)
    assert apart.min() > 1e-4
    torch.testing.assert_close(group.distance(b, a), apart)
    moved = group.distance(group.compose(c, a), group.compose(c, b))
    assert (moved <= (group.n**2 + eps(dtype)) * apart).all()
    near = group.compose(group.exp(1e-3 * group.random_algebra(200, generator=generator, dtype=dtype)), a)
    assert group.distance(near, a).max() < 1e-2


@over_groups
def test_restored_elements_are_in_the_group(group, dtype, generator):
    """Elements that rounding has taken out of the group come back close to where they are, those inside stay."""
    a = group.haar(200, generator=generator, dtype=dtype)
    assert group.distance(group.restore(a), a).max() < eps(dtype)
    if not group.abelian:
        off = a + 1e-4 * torch.randn(a.shape, generator=generator, dtype=a.dtype)
        assert group.defect(off).max() > 1e-4
        back = group.restore(off)
        assert group.defect(back).max() < 1e-6 + eps(dtype)
        assert group.distance(back, a).max() < 1e-3
        assert group.defect(group.restore(back)).max() < 1e-11 + eps(dtype)


def walked(group, links, walk, forward):
    """The product of links along a walk, by compose and inverse."""
    product = group.identity(walk.shape[1], dtype=links.dtype)
    for step, ahead in zip(walk, forward, strict=True):
        link = links[step]
        product = group.compose(product, link if ahead else group.inverse(link))
    return product


@over_groups
def test_links_along_walks(group, dtype, generator):
    """Products, sums, alignments and forces are those of compose, trace and retrace_gradient."""
    links = group.haar(12, generator=generator, dtype=dtype)
    tables = torch.randint(12, (2, 3, 5), generator=generator)
    forward = ((True, False, True), (False, False, True))
    active = torch.arange(5)
    loops = [walked(group, links, walk, ahead) for walk, ahead in zip(tables, forward, strict=True)]
    for walk, ahead, loop in zip(tables, forward, loops, strict=True):
        assert group.distance(group.link_products(links, walk, ahead), loop).max() < eps(dtype)
    sums = group.link_sums(links, tables, forward)
    assert sums.dtype.is_complex
    closed = [group.compose(links[active], loop) for loop in loops]
    expected = group.n * sum(group.retrace(loop) for loop in closed)
    torch.testing.assert_close(group.alignment(links[active], sums), expected, atol=eps(dtype), rtol=0)
    force = sum(group.retrace_gradient(loop) for loop in closed)
    found = group.link_forces(links, tables, forward, active)
    torch.testing.assert_close(found, force, atol=eps(dtype), rtol=0)
    several = links.expand(2, *links.shape)
    assert torch.equal(group.link_forces(several, tables, forward, active)[1], found)


def conditional(group, n, generator):
    """n elements with weights of the density exp(strength Re tr(U S)), sums S of staples, and a probe."""
    links = group.haar(4, generator=generator, dtype=torch.float64)
    sums = group.link_sums(links, torch.tensor([[[0]], [[1]], [[2]]]), ((True,), (False,), (True,)))
    probe = group.link_sums(links, torch.tensor([[[3]]]), ((True,),))
    a = group.haar(n, generator=generator, dtype=torch.float64)
    strength = 0.8 / group.n
    weights = (strength * group.alignment(a, sums)).exp()
    return a, weights / weights.sum(), sums, probe, strength


def assert_invariant(change, weights):
    """The weighted mean of a change is 0 within its error."""
    mean = (weights * change).sum()
    error = (weights * (change - mean)).square().sum().sqrt()
    assert mean.abs() < 4 * error + 1e-12


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
@pytest.mark.parametrize("step", ["heat bath", "over-relaxation"])
def test_local_steps_leave_the_density_of_a_link_invariant(group, step, generator):
    a, weights, sums, probe, strength = conditional(group, 20_000, generator)
    own = sums.expand(len(a), *sums.shape[1:])
    if step == "heat bath":
        uniforms = torch.rand(len(a), *group.heat_bath_numbers(), generator=generator, dtype=torch.float64)
        b = group.heat_bath(a, own, strength, uniforms)
    else:
        b = group.over_relaxation(a, own)
        torch.testing.assert_close(group.alignment(b, own), group.alignment(a, own), atol=1e-11, rtol=0)
    assert group.defect(b).max() < 1e-11
    assert group.distance(a, b).median() > 0.1
    for other in (sums, probe, 1j * probe):
        assert_invariant(group.alignment(b, other) - group.alignment(a, other), weights)


class Bare(U1):
    """U(1) without the methods that a group need not have."""

    name = "Bare(1)"
    heat_bath_numbers, heat_bath = Group.heat_bath_numbers, Group.heat_bath
    over_relaxation, power, characters = Group.over_relaxation, Group.power, Group.characters
    n_spectral_params, spectral_flow = Group.n_spectral_params, Group.spectral_flow


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda group, a: group.heat_bath_numbers(),
            r"Bare\(1\) has no heat bath in this package: use hmc",
        ),
        (lambda group, a: group.heat_bath(a, a, 1.0, a), "no heat bath"),
        (lambda group, a: group.over_relaxation(a, a), "no over-relaxation in this package: use hmc or metropolis"),
        (lambda group, a: group.n_spectral_params(4), "no spectral map in this package: give the coupling"),
        (lambda group, a: group.spectral_flow(a, a, 4), "no spectral map"),
        (lambda group, a: group.power(a, 0.5), "no real powers in this package$"),
        (lambda group, a: group.characters(a, a), "no characters"),
    ],
)
def test_what_a_group_lacks(call, message):
    group = Bare()
    with pytest.raises(InvalidInput, match=message):
        call(group, group.identity(2))


def test_samplers_of_a_group_that_lacks_local_steps():
    """Metropolis and HMC run; heat bath and over-relaxation are refused when they are made."""
    space = GaugeField(Bare(), (2, 3))
    action, streams = Wilson(space, 1.0), Streams(0, 2)
    with pytest.raises(InvalidInput, match="no heat bath"):
        HeatBath(action)
    x = start(space, streams)
    for sampler in (Metropolis(action), HMC(action, steps=2)):
        assert sampler.step(sampler.init(x), streams)[0].x.shape == x.shape
    with pytest.raises(InvalidInput, match="no over-relaxation"):
        OverRelaxation(action)


def test_registered_families(monkeypatch):
    monkeypatch.setattr(groups, "_FAMILIES", dict(groups._FAMILIES))
    make = lambda n: Bare() if n == 1 else None  # noqa: E731
    groups.register("Bare", make)
    groups.register("bare", make)
    assert isinstance(groups.from_name("Bare(1)"), Bare)
    with pytest.raises(InvalidInput, match=r"SU\(N\) for every N >= 2, .*BARE\(n\)"):
        groups.from_name("Bare(2)")
    for family in ("SU", "B1", "", "bare"):
        with pytest.raises(InvalidInput, match="a new name made of letters"):
            groups.register(family, lambda n: None)


@pytest.mark.parametrize("group", cases.GROUPS, ids=str)
def test_projection_of_sums(group, generator):
    """Elements and multiples of them stay; the projection commutes with elements on both sides, and is in the group."""
    a, v, w = (group.haar(50, generator=generator, dtype=torch.float64) for _ in range(3))

    def sums(*elements):
        tables = torch.arange(len(elements))[:, None, None]
        return group.link_sums(torch.stack(elements, 1), tables, ((True,),) * len(elements))[:, 0]

    assert group.distance(group.project_group(0.3 * sums(a)), a).max() < 1e-12
    near = group.compose(a, group.exp(0.3 * group.random_algebra(50, generator=generator, dtype=torch.float64)))
    middle = group.project_group(sums(a, near, near))
    assert group.defect(middle).max() < 1e-12
    moved = [group.compose(group.compose(v, x), w) for x in (a, near, near)]
    turned = group.compose(group.compose(v, middle), w)
    assert group.distance(group.project_group(sums(*moved)), turned).max() < 1e-9
    assert group.distance(middle, near).max() <= group.distance(a, near).max()
