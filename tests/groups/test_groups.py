"""Laws of the gauge groups."""

import cases
import pytest
import torch

from lattice_flows import SU, U1, groups
from lattice_flows.errors import InvalidInput
from lattice_flows.testing import distance

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
    assert distance(group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c)), group).max() < eps(
        dtype
    )
    assert distance(group.compose(a, group.inverse(a)), one, group).max() < eps(dtype)
    assert distance(group.compose(a, one), a, group).max() < eps(dtype)
    for element in (a, group.compose(a, b), group.inverse(a), one):
        assert element.dtype == group.element_dtype(dtype)
        assert group.defect(element).max() < eps(dtype)


@over_groups
def test_exponential(group, dtype, generator):
    x = group.random_algebra(500, generator=generator, dtype=dtype)
    assert group.defect(group.exp(x)).max() < 10 * eps(dtype)
    doubled = group.compose(group.exp(x), group.exp(x))
    assert distance(group.exp(2 * x), doubled, group).max() < 100 * eps(dtype)


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
        assert distance(power, group.rebuild(exponent * phases, frame), group).max() < 100 * eps(dtype)
        rest = group.power(a, 1 - exponent)
        assert distance(group.compose(power, rest), a, group).max() < 100 * eps(dtype)
    assert torch.equal(group.power(a, 1.0), a)
    turned = group.power(group.compose(group.compose(V, a), group.inverse(V)), 0.5)
    expected = group.compose(group.compose(V, group.power(a, 0.5)), group.inverse(V))
    # near the walls of the alcove, where the principal root jumps, rounding is enlarged
    assert distance(turned, expected, group).max() < 1e4 * eps(dtype)


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
