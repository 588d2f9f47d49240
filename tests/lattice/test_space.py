"""The laws of spaces, for links of every group and for scalars."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.errors import InvalidInput

every = pytest.mark.parametrize("space", cases.SPACES, ids=str)


def tangent(space, n, generator, size=1.0):
    return size * torch.stack([space.momenta(generator, dtype=torch.float64) for _ in range(n)])


@every
def test_shapes(space, generator):
    x = space.prior(3, generator, dtype=torch.float64)
    assert x.shape == (3, *space.shape)
    assert x.dtype == space.dtype(torch.float64)
    assert space.batch(x) == (3,)
    assert space.check(x) is x
    assert space.log_prior(x).shape == space.distance(x, x).shape == space.inner(x, x).shape == (3,)
    assert space.flatten(x).shape == (3, math.prod(space.axes), *space.shape[len(space.axes) :])
    assert space.distance(x, x).max() < 1e-12


@every
def test_moves_and_differences(space, generator):
    """The difference of x moved and x is the move, to second order; moves compose with their reverse."""
    x, step = space.prior(3, generator, dtype=torch.float64), tangent(space, 3, generator, 1e-4)
    moved = space.move(x, step)
    assert space.distance(space.move(moved, -step), x).max() < 1e-12
    assert (space.difference(moved, x) - step).abs().max() < 1e-6
    assert space.distance(moved, x).max() > 1e-6


@every
def test_components_are_orthonormal(space, generator):
    x, a, b = space.prior(3, generator, dtype=torch.float64), tangent(space, 3, generator), tangent(space, 3, generator)
    torch.testing.assert_close(space.directions(x, space.components(a)), a, atol=1e-12, rtol=0)
    product = (space.components(a) * space.components(b)).flatten(1).sum(1)
    torch.testing.assert_close(space.inner(a, b), product, atol=1e-10, rtol=1e-12)


@every
def test_momenta_have_unit_variance(space, generator):
    components = space.components(tangent(space, 200, generator)).flatten()
    n = components.numel()
    assert abs(components.mean()) < 5 / n**0.5
    assert abs(components.square().mean() - 1) < 5 * (2 / n) ** 0.5


@every
def test_gradient_is_the_derivative(space, generator):
    x, step = space.prior(2, generator, dtype=torch.float64), tangent(space, 2, generator)

    def function(x):
        parts = torch.view_as_real(x) if x.is_complex() else x
        return (0.3 * parts + parts.square()).flatten(1).sin().sum(1)

    x.requires_grad_()
    (derivative,) = torch.autograd.grad(function(x).sum(), x)
    eps, x = 1e-5, x.detach()
    slope = (function(space.move(x, eps * step)) - function(space.move(x, -eps * step))) / (2 * eps)
    torch.testing.assert_close(space.inner(space.gradient(x, derivative), step), slope, atol=1e-6, rtol=1e-6)


@every
def test_restore(space, generator):
    x = space.prior(2, generator, dtype=torch.float64)
    assert space.distance(space.restore(x), x).max() < 1e-12
    if x.is_complex():
        off = x + 1e-4 * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        before, after = (space.group.defect(y).flatten(1).amax(1) for y in (off, space.restore(off)))
        assert after.max() < 1e-2 * before.min()


def test_density_of_scalars():
    """The prior density integrates to 1: at 0 it is (2 pi)^(-V / 2), and the mean of -log r is its entropy."""
    space = ScalarField((4, 6))
    torch.testing.assert_close(space.log_prior(space.cold(1)).item(), -12 * math.log(2 * math.pi), rtol=1e-6, atol=0)
    x = space.prior(4000, torch.Generator().manual_seed(0), dtype=torch.float64)
    entropy, error = -space.log_prior(x).mean(), space.log_prior(x).std() / 4000**0.5
    assert abs(entropy - 12 * (1 + math.log(2 * math.pi))) < 4 * error


@every
def test_a_space_is_a_value_on_any_lattice(space):
    other = space.on((2, 3))
    assert other.lattice.extents == (2, 3)
    assert other.on(space.lattice) == space
    assert hash(other.on(space.lattice)) == hash(space)
    assert space.facts["extents"] == space.lattice.extents


def test_other_tensors_are_refused():
    for space, x in (
        (GaugeField(SU(3), (4, 4)), torch.zeros(2, 4, 4, 3, 3)),
        (GaugeField(SU(3), (4, 4)), torch.zeros(2, 2, 4, 6, 3, 3, dtype=torch.complex64)),
        (GaugeField(U1(), (4, 4)), torch.zeros(2, 4, 4, dtype=torch.complex64)),
        (GaugeField(U1(), (4, 4)), torch.zeros(4, 4)),
        (ScalarField((4, 4)), torch.zeros(3, 4, 5)),
        (ScalarField((4, 4)), torch.zeros(4, 4, dtype=torch.long)),
    ):
        with pytest.raises(InvalidInput, match=r"holds (complex|real) tensors \(\*batch, "):
            space.check(x)
    with pytest.raises(InvalidInput, match="gauge group such as"):
        GaugeField("SU(3)", (4, 4))
