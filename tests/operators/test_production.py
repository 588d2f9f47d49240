"""Sums of operators on the kernel: against the algebra of loops and differences, invariances, vector fields."""

import itertools
import logging

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.lattice.space import gauge_transform
from lattice_flows.operators import WeightedSum, merged, next_to_leading, production, vector_field

SPACES = [
    GaugeField(U1(), (8, 8)),
    GaugeField(U1(), (4, 4, 4)),
    GaugeField(SU(2), (3, 4, 4, 8)),
    GaugeField(SU(3), (8, 8)),
    GaugeField(SU(3), (4, 4, 4, 4)),
    GaugeField(SU(4), (8, 8)),
    GaugeField(SU(3), (3, 4, 3)),
]
"""The last one is not cut: sixteen chains share the lanes of a field."""
by_space = pytest.mark.parametrize("space", SPACES, ids=str)


@by_space
def test_sums_of_the_complete_set(space, generator):
    """Values, forces and Laplacians are those of `LoopProducts`."""
    x = space.prior(2, generator, dtype=torch.float64)
    complete = {operator.name: operator for operator in next_to_leading(space.group, space.dim)}
    operators = merged(space.group, space.dim)
    assert {name for operator in operators for name in operator.name.split(" + ")} == set(complete) - {"twisted"}
    for operator in operators:
        parts = [complete[name] for name in operator.name.split(" + ")]
        for what in ("value", "laplacian"):
            expected = sum(getattr(part, what)(x) for part in parts)
            torch.testing.assert_close(getattr(operator, what)(x), expected, rtol=1e-12, atol=1e-8)
        if space.volume < 200:  # by autograd through all loops
            torch.testing.assert_close(operator.force(x), sum(part.force(x) for part in parts), rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [GaugeField(U1(), (8, 4)), GaugeField(SU(2), (4, 8))], ids=str)
def test_derivatives_are_those_of_differences(space, generator):
    """Of the production set: first ones along a tangent vector, and all second ones."""
    x = space.prior(1, generator, dtype=torch.float64)
    tangent = space.random_tangents(1, *space.axes, generator=generator, dtype=torch.float64)
    n, step = space.components(tangent).numel(), 1e-3
    for operator in production(space.group, space.dim):
        ahead, behind = (operator.value(space.move(x, sign * step * tangent)) for sign in (1, -1))
        first = (ahead - behind) / (2 * step)
        assert abs(space.inner(tangent, operator.force(x)) - first) < 1e-4 * (1 + abs(first)), operator
        second = torch.zeros(1, dtype=torch.float64)
        for some in torch.arange(n).split(256):
            ways = torch.zeros(len(some), n, dtype=torch.float64)
            ways[range(len(some)), some] = step
            moves = space.directions(
                x.expand(len(some), *space.shape), ways.reshape(-1, *space.components(tangent).shape[1:])
            )
            for sign in (1, -1):
                second += (operator.value(space.move(x, sign * moves)) - operator.value(x)).sum() / step**2
        assert abs(operator.laplacian(x) - second) < 1e-4 * (1 + abs(second)), operator


@by_space
def test_invariances(space, generator):
    """Under gauge transformations, translations, exchange of directions and reflections; forces go with the links."""
    x, group = space.prior(2, generator, dtype=torch.float64), space.group
    local = group.haar(2, *space.lattice.extents, generator=generator, dtype=torch.float64)
    mirrored = x.flip(2)
    mirrored = torch.cat((group.inverse(mirrored[:, :1].roll(-1, 2)), mirrored[:, 1:]), 1)
    order = [*range(1, space.dim), 0]
    turned = x[:, order].permute(0, 1, *(2 + mu for mu in order), *range(2 + space.dim, x.ndim))
    for operator in production(group, space.dim):
        for image in (gauge_transform(x, local, space), x.roll(1, 2), mirrored, turned):
            for what in (operator.value, operator.laplacian):
                torch.testing.assert_close(what(image), what(x), rtol=1e-11, atol=1e-9)
        torch.testing.assert_close(operator.force(x.roll(1, 2)), operator.force(x).roll(1, 2), rtol=0, atol=1e-12)
        force = operator.force(gauge_transform(x, local, space))
        expected = operator.force(x)
        if not group.abelian:
            expected = local[:, None] @ expected @ local[:, None].mH
        torch.testing.assert_close(force, expected, rtol=0, atol=1e-11)


def test_q_prime_is_nearly_the_square_of_a_force(generator):
    """Q' = 2 inner(F, F) + 2 sum Re tr P^2 - dim (dim - 1) N V, F the force of the plaquette."""
    space = GaugeField(SU(2), (4, 4, 4, 4))  # traces are real: the force has all that loops have of u(2)
    x = space.prior(2, generator, dtype=torch.float64)
    plaquette, square = production(SU(2), 4)
    force, doubled = plaquette.force(x), merged(SU(2), 4)[6]
    constant = -4 * 3 * 2 * space.volume
    torch.testing.assert_close(square.value(x), 2 * space.inner(force, force) + 2 * doubled.value(x) + constant)


@pytest.mark.parametrize("extents", [(4, 4, 4, 8), (3, 3, 3, 3)], ids=str)
def test_single_precision(extents, generator):
    space = GaugeField(SU(3), extents)
    exact = space.prior(2, generator, dtype=torch.float64)
    for operator in merged(SU(3), 4):
        single, double = (vector_field((operator,), (1.0,), x) for x in (exact.to(torch.complex64), exact))
        assert single.force.dtype == torch.complex64
        assert (single.force - double.force).abs().max() < 1e-5 * double.force.abs().max(), operator
        for found, expected in zip(single[1:], double[1:], strict=True):
            assert found.dtype == torch.float64
            assert (found - expected).abs().max() < 3e-7 * 6 * 15 * 9 * space.volume, operator


@pytest.mark.parametrize("operators", [production(SU(3), 3), production(SU(3), 3)[:1]], ids=["both", "plaquette"])
def test_vector_fields(operators, generator):
    """Sums with coefficients of each configuration, of any batch, are sums of the operators."""
    space = GaugeField(SU(3), (4, 4, 4))
    x = space.prior(6, generator, dtype=torch.float64)
    c = torch.randn(6, len(operators), generator=generator, dtype=torch.float64)
    force = sum(
        own[:, None, None, None, None, None, None] * operator.force(x)
        for own, operator in zip(c.T, operators, strict=True)
    )
    laplacians = torch.stack([operator.laplacian(x) for operator in operators], -1)
    batched = x.reshape(2, 3, *space.shape)
    field = vector_field(operators, c.reshape(2, 3, -1), batched)
    torch.testing.assert_close(field.force.flatten(0, 1), force, rtol=0, atol=1e-12)
    torch.testing.assert_close(field.laplacians.flatten(0, 1), laplacians, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(field.divergence.flatten(), (c * laplacians).sum(-1), rtol=1e-12, atol=1e-10)
    values = torch.stack([operator.value(x) for operator in operators], -1)
    torch.testing.assert_close(field.values.flatten(0, 1), values, rtol=1e-12, atol=1e-10)
    alone = vector_field(operators, c[0].tolist(), x[0])
    assert alone.divergence.shape == ()
    torch.testing.assert_close(alone.force, force[0], rtol=0, atol=1e-12)


def test_a_reference_in_place_of_the_kernel_is_said_once(caplog, generator, monkeypatch):
    monkeypatch.setattr(build, "native", lambda *_: None)
    space = GaugeField(SU(2), (3, 7))
    with caplog.at_level(logging.WARNING):
        for _, operator in itertools.product(range(2), production(SU(2), 2)):
            operator.value(space.prior(1, generator))
    said = "no kernel for loop operators of SU(2) on 3x7, cpu: their PyTorch reference runs, which is slower"
    assert [record.message for record in caplog.records].count(said) == 1


def test_bad_input(generator):
    space = GaugeField(SU(2), (4, 8))
    x, operators = space.prior(2, generator), production(SU(2), 2)
    with pytest.raises(InvalidInput, match=r"coefficients must be \(2,\) or \(2, 2\)"):
        vector_field(operators, (1.0, 2.0, 3.0), x)
    with pytest.raises(InvalidInput, match="one group and dimension"):
        vector_field((*operators, *production(SU(3), 2)), (1.0,) * 4, x)
    with pytest.raises(InvalidInput, match="one group and dimension, got"):
        vector_field((), (), x)
    with pytest.raises(InvalidInput, match="extents >= 3, got"):
        operators[1].value(space.on((2, 8)).prior(1, generator))
    assert operators[0].value(space.on((2, 8)).cold(1)) == 32
    with pytest.raises(InvalidInput, match=r"U\(1\) in 2 dimensions has no sums"):
        WeightedSum(U1(), 2, "|tr P|^2", [0, 0, 0, 0, 0, 0, 0, 1])
    with pytest.raises(InvalidInput, match="has no sums of operators for weights"):
        WeightedSum(SU(2), 2, "short", [1.0])
