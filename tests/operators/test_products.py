"""Products of loops: Laplacians by the algebra and by differences, invariances, exact coefficients, zeros."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.space import gauge_transform
from lattice_flows.observables import schwinger_dyson
from lattice_flows.operators import LoopAlgebra, NextToLeading, next_to_leading
from lattice_flows.operators.algebra import ONE
from lattice_flows.planar.exact_samples import exact_samples

SPACES = [
    GaugeField(U1(), (3, 4)),
    GaugeField(U1(), (3, 3, 4)),
    GaugeField(SU(2), (3, 3, 3)),
    GaugeField(SU(3), (3, 4)),
]
PARTS = ("planar", "bent")


def named(group, dim):
    return {operator.name: operator for operator in next_to_leading(group, dim)}


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_derivatives_are_those_of_differences(space, generator):
    """All second derivatives, and the first along a tangent vector."""
    x = space.prior(1, generator, dtype=torch.float64)
    tangent = space.random_tangents(1, *space.axes, generator=generator, dtype=torch.float64)
    n, step = space.components(tangent).numel(), 1e-3
    every = torch.eye(n, dtype=torch.float64).reshape(n, *space.components(tangent).shape[1:])
    moves = [(k, space.directions(x.expand(len(k), *space.shape), k)) for k in every.split(128)]
    near = [space.move(x.expand_as(way), sign * step * way) for _, way in moves for sign in (1, -1)]
    for operator in next_to_leading(space.group, space.dim):
        middle = operator.value(x)
        second = sum((operator.value(y) - middle).sum() for y in near) / step**2
        assert abs(operator.laplacian(x) - second) < 1e-5 * (1 + abs(second)), operator
        first = (operator.value(space.move(x, step * tangent)) - operator.value(space.move(x, -step * tangent))) / (
            2 * step
        )
        assert abs(space.inner(tangent, operator.force(x)) - first) < 1e-4 * (1 + abs(first)), operator


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("dim", [2, 3])
def test_laplacians_of_the_set(n, dim):
    """The table of Laplacians of the set, and that it is closed."""
    operators, casimir = named(SU(n), dim), Fraction(n * n - 1, 2 * n)
    classes = {operator.monomial: name for name, operator in operators.items()}
    tables = {name: {classes.get(key, key): c for key, c in own.derivative.items()} for name, own in operators.items()}
    per = Fraction(1, n)
    expected = {
        "plaquette": {"plaquette": -4 * casimir},
        "tr P squared": {"tr P squared": -8 * casimir + 4 * per, "tr PP": -4},
        "tr PP": {"tr PP": -8 * casimir + 4 * per, "tr P squared": -4},
        "tr P tr P*": {"tr P tr P*": -8 * casimir - 4 * per, ONE: 4 * n * (dim * (dim - 1) // 2)},
    }
    if dim > 2:
        expected["twisted"] = {"twisted": -6 * casimir}
    for part, long in zip(PARTS[: dim - 1], ("rectangle", "chair"), strict=False):
        both, product, other = f"tr PP {part}", f"tr P tr P {part}", f"tr P tr P* {part}"
        expected |= {
            long: {long: -6 * casimir},
            both: {both: -8 * casimir + per, product: -1},
            product: {product: -8 * casimir + per, both: -1},
            other: {other: -8 * casimir - per, long: 1},
        }
    assert tables == expected
    algebra = operators["plaquette"].algebra
    forces = algebra.product(*[{algebra.plaquette: 1}] * 2)
    assert {classes[own] for own in (*algebra.closed(forces), algebra.plaquette)} == set(operators) - {"twisted"}


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, (1 / 792, -1 / 952, 5 / 11424, -1 / 3168, 1 / 480, -1 / 320, -1 / 1728)),
        (4, (1 / 2745, -1 / 3465, 1 / 11088, -1 / 14640, 1 / 2880, -1 / 1440, -1 / 7680)),
        (5, (1 / 6984, -1 / 9000, 1 / 36000, -1 / 46560, 1 / 10080, -1 / 4032, -1 / 24000)),
    ],
)
def test_the_flow_that_trivialises(n, expected):
    """Luscher's coefficients of the next order: Lap X = t dS.d(Phi at leading order)."""
    operators = named(SU(n), 3)
    algebra, plaquette = operators["plaquette"].algebra, {operators["plaquette"].monomial: 1}
    classes = [own.monomial for own in operators.values()][1:]
    force = algebra.product(plaquette, plaquette)
    right = [-float(force.get(own, 0)) / (2 * n * (n * n - 1)) for own in classes]
    laplacian = [[float(operators[name].derivative.get(row, 0)) for name in list(operators)[1:]] for row in classes]
    found = dict(zip(list(operators)[1:], np.linalg.solve(laplacian, right), strict=True))
    names = (
        "rectangle",
        "tr PP planar",
        "tr P tr P planar",
        "tr P tr P* planar",
        "tr P squared",
        "tr PP",
        "tr P tr P*",
    )
    assert [found[name] for name in names] == pytest.approx(expected, rel=1e-12)
    for part, long in (("planar", "rectangle"), ("bent", "chair")):
        alike = [found[long], *(found[f"{name} {part}"] for name in ("tr PP", "tr P tr P", "tr P tr P*"))]
        assert alike == pytest.approx(expected[:4], rel=1e-12)


@pytest.mark.parametrize("space", [GaugeField(SU(2), (3, 4, 5)), GaugeField(U1(), (3, 4))], ids=str)
def test_invariances(space, generator):
    """Under gauge transformations, translations, exchange of directions, and reflections."""
    x = space.prior(2, generator, dtype=torch.float64)
    dim, first, last = space.dim, 2, 1 + space.dim
    local = space.group.haar(2, *space.lattice.extents, generator=generator, dtype=torch.float64)
    group = space.group
    mirrored = x.flip(first)
    ends = group.inverse(mirrored[:, :1].roll(-1, first))
    images = [
        gauge_transform(x, local, space),
        x.roll(1, last),
        x.flip(1).transpose(first, last) if dim == 2 else x[:, [2, 1, 0]].transpose(first, last),
        torch.cat((ends, mirrored[:, 1:]), 1),
    ]
    for operator in next_to_leading(group, dim):
        for image in images:
            for what in (operator.value, operator.laplacian):
                torch.testing.assert_close(what(image), what(x), rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("space", [*SPACES, GaugeField(SU(3), (3, 3, 3, 4))], ids=str)
def test_all_operators_at_once(space, generator):
    """The Laplacians, and the derivatives along a tangent field, are those of each operator."""
    x = space.prior(2, generator, dtype=torch.float64)
    tangent = space.random_tangents(2, *space.axes, generator=generator, dtype=torch.float64)
    together = NextToLeading(space.group, space.dim)
    laplacians, slopes = together.derivatives(x, tangent)
    for k, operator in enumerate(together.operators):
        torch.testing.assert_close(laplacians[:, k], operator.laplacian(x), rtol=1e-11, atol=1e-9)
        torch.testing.assert_close(slopes[:, k], space.inner(tangent, operator.force(x)), rtol=1e-11, atol=1e-9)
    single, other = together.derivatives(x[0].to(space.dtype(torch.float32)), tangent[0].to(space.dtype(torch.float32)))
    torch.testing.assert_close(single, laplacians[0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(other, slopes[0], rtol=1e-4, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("group", [U1(), SU(2)], ids=str)
def test_averages_of_derivatives_vanish(group, generator):
    """The mean of Lap W - dS.dW, on independent configurations."""
    action = Wilson(GaugeField(group, (3, 4)), 1.5)
    x = exact_samples(action, 300, generator=generator)
    zeros = schwinger_dyson(action)(x)
    for operator, zero in zip(next_to_leading(group, 2), zeros.unbind(-1), strict=True):
        assert abs(zero.mean()) < 4 * zero.std() / 300**0.5, operator
        assert zero.std() > 0.1 or operator.name == "tr P tr P*"


def test_what_has_no_operators():
    with pytest.raises(InvalidInput, match="at least two dimensions, got 1"):
        next_to_leading(SU(2), 1)
    plaquette, rectangle = next_to_leading(SU(2), 2)[:2]
    assert plaquette.value(GaugeField(SU(2), (2, 2)).cold(3)).tolist() == [8, 8, 8]
    with pytest.raises(InvalidInput, match=r"rectangle of SU\(2\) in 2 dimensions needs links .* of extents >= 3, got"):
        rectangle.value(GaugeField(SU(2), (2, 4)).cold(1))
    with pytest.raises(InvalidInput, match="holds complex tensors"):
        plaquette.value(GaugeField(SU(2), (3, 3, 3)).cold(1)[:, :2])


def test_products_of_other_orders():
    """The next order of the flow closes, too: its loops have at most twelve links."""
    algebra = LoopAlgebra(SU(3), 2)
    leading = {algebra.plaquette: 1}
    second = algebra.closed(algebra.product(leading, algebra.product(leading, leading)))
    assert max(sum(map(len, monomial)) for monomial in second) == 12
    for monomial in second:
        assert set(algebra.laplacian({monomial: 1})) - {ONE} <= set(second)
