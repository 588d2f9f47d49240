"""Laws of the layer that integrates forces of loop operators."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import gradient
from lattice_flows.layers import GradientFlow
from lattice_flows.operators import production
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet

SPACES = [GaugeField(U1(), (3, 4)), GaugeField(SU(2), (3, 4)), GaugeField(SU(3), (3, 3, 3)), GaugeField(SU(2), (8, 8))]
everywhere = pytest.mark.parametrize("space", SPACES, ids=str)


def layer_of(space, generator, **settings):
    """A layer whose coefficients matter."""
    layer = GradientFlow(space, knots=3, dtype=torch.float64, **settings)
    layer.coefficients.data.normal_(0, 0.005, generator=generator)
    return layer


@everywhere
def test_it_is_invertible_and_equivariant(space, generator):
    layer, x = layer_of(space, generator, steps=4), space.prior(2, generator, dtype=torch.float64)
    with torch.no_grad():
        assert_gauge_equivariant(layer, x, space, generator=generator)
        assert_invertible(layer, x, space, atol=1e-4)
        y, logdet = layer(x)
        axes = tuple(range(2, 2 + space.dim))
        moved, moved_logdet = layer(x.roll([1] * space.dim, axes))
    torch.testing.assert_close(moved, y.roll([1] * space.dim, axes), rtol=0, atol=1e-12)
    torch.testing.assert_close(moved_logdet, logdet, rtol=0, atol=1e-11)


def test_it_commutes_with_an_exchange_of_directions(generator):
    layer, x = layer_of(SPACES[2], generator), SPACES[2].prior(2, generator, dtype=torch.float64)
    order = (0, 2, 1, 3)  # of the sites, behind the batch

    def exchanged(links):
        return torch.stack([links[:, mu].permute(*order, 4, 5) for mu in (1, 0, 2)], 1)

    with torch.no_grad():
        torch.testing.assert_close(layer(exchanged(x))[0], exchanged(layer(x)[0]), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("space", [GaugeField(U1(), (3, 3)), GaugeField(SU(2), (3, 3))], ids=str)
def test_logdet_is_that_of_the_jacobian(space, generator):
    x = space.prior(1, generator, dtype=torch.float64)[0]
    assert_logdet(layer_of(space, generator, steps=3), x, space, atol=1e-5)


def test_steps_are_of_fourth_order(generator):
    layer, x = layer_of(SPACES[1], generator, steps=32), SPACES[1].prior(3, generator, dtype=torch.float64)
    errors = []
    with torch.no_grad():
        y, logdet = layer(x)
        for layer.steps in (2, 4):
            other, own = layer(x)
            errors.append(torch.stack(((other - y).abs().amax((1, 2, 3, 4, 5)), (own - logdet).abs())))
    assert (errors[0] / errors[1]).min() > 8


@pytest.mark.slow
@everywhere
def test_derivatives_are_those_of_differences(space, generator):
    layer, x = layer_of(space, generator, steps=4), space.prior(2, generator, dtype=torch.float64)
    goal = space.move(x, 0.3 * space.momenta(generator, dtype=torch.float64))
    tangent, h, number = space.momenta(generator, dtype=torch.float64), 1e-5, 4

    def function(x):
        y, logdet = layer(x)
        return (logdet + space.difference(y, goal).abs().square().flatten(1).sum(1)).sum()

    of_x, of_coefficients = torch.autograd.grad(function(x.requires_grad_()), (x, layer.coefficients))
    x, coefficients = x.detach(), layer.coefficients.data.view(-1)
    with torch.no_grad():
        ahead, behind = (function(space.move(x, step * tangent)) for step in (h, -h))
        expected = space.inner(tangent, space.gradient(x, of_x)).sum()
        torch.testing.assert_close((ahead - behind) / (2 * h), expected, rtol=1e-5, atol=1e-5)
        values = []
        for step in (h, -2 * h, h):
            coefficients[number] += step
            values.append(function(x))
    difference = (values[0] - values[1]) / (2 * h)
    torch.testing.assert_close(difference, of_coefficients.view(-1)[number], rtol=1e-5, atol=1e-5)


def test_a_derivative_keeps_one_configuration_for_any_number_of_steps(generator):
    x = SPACES[1].prior(2, generator, dtype=torch.float64)
    for steps in (1, 8):
        layer = layer_of(SPACES[1], generator, steps=steps)
        y, logdet = layer(x)
        assert y.grad_fn is logdet.grad_fn
        assert [kept.numel() for kept in y.grad_fn.saved_tensors] == [x.numel(), layer.coefficients.numel()]
        assert [type(node).__name__ for node, _ in y.grad_fn.next_functions if node] == ["AccumulateGrad"]


def test_a_flow_is_carried_to_other_extents(generator):
    flow = gradient(SU(2), (4, 4), operators="production", dtype=torch.float64)
    flow.layers[0].coefficients.data.normal_(0, 0.02, generator=generator)
    other = flow.on((3, 6))
    assert other.lattice.extents == (3, 6)
    assert torch.equal(other.layers[0].coefficients, flow.layers[0].coefficients)


def test_bad_input_is_named():
    with pytest.raises(InvalidInput, match="steps must be an integer >= 1, got 0"):
        GradientFlow(SPACES[0], steps=0)
    with pytest.raises(InvalidInput, match="operators must be one of plaquette, production, next_to_leading"):
        gradient(SU(2), (4, 4), operators="all")
    with pytest.raises(InvalidInput, match="extents >= 3"):
        gradient(SU(2), (2, 4)).sample(1)
    assert len(GradientFlow(SPACES[0], production(U1(), 2)).operators) == 2
