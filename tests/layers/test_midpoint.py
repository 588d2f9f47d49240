"""Laws of the step that stands between sweeps of Monte Carlo."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.layers import GradientFlow, MidpointStep
from lattice_flows.operators import merged, production
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible

SPACES = [GaugeField(U1(), (3, 4)), GaugeField(SU(2), (8, 8)), GaugeField(SU(3), (4, 4, 8)), GaugeField(SU(4), (3, 3))]
everywhere = pytest.mark.parametrize("space", SPACES, ids=str)


def step_of(space, size):
    """A step whose coefficients matter."""
    operators = merged(space.group, space.dim)
    return MidpointStep(space, operators, [size * (-0.7) ** k for k in range(len(operators))])


@everywhere
def test_it_is_invertible_and_equivariant(space, generator):
    step, x = step_of(space, 0.004), space.prior(2, generator, dtype=torch.float64)
    assert_gauge_equivariant(step, x, space, generator=generator)
    assert_invertible(step, x, space, atol=1e-10)
    y, logdet = step(x)
    axes = tuple(range(2, 2 + space.dim))
    moved, moved_logdet = step(x.roll([1] * space.dim, axes))
    torch.testing.assert_close(moved, y.roll([1] * space.dim, axes), rtol=0, atol=1e-12)
    torch.testing.assert_close(moved_logdet, logdet, rtol=0, atol=1e-11)


@everywhere
@pytest.mark.parametrize(("count", "order"), [(1, 3), (2, 2)])
def test_the_error_of_a_step_falls_with_its_order(space, count, order, generator):
    """That of the log-determinant, in one step: of third order for plaquettes, of second order with others."""
    operators = production(space.group, space.dim)[:count]
    x, c = space.prior(4, generator, dtype=torch.float64), torch.tensor([0.08, 0.02], dtype=torch.float64)[:count]
    fine, errors = GradientFlow(space, operators, knots=1, steps=2, dtype=torch.float64), []
    for size in (c / 8, c / 16):
        fine.coefficients.data[0] = size
        with torch.no_grad():
            errors.append(float((MidpointStep(space, operators, size)(x)[1] - fine(x)[1]).square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.25)


@everywhere
def test_links_stay_in_the_group(space, generator):
    step, x = step_of(space, 0.002), space.prior(1, generator, dtype=torch.float32)
    for _ in range(100):
        x = step(x)[0]
    assert space.distance(x, space.restore(x)).max() < 1e-6


def test_bad_input_is_named(generator):
    with pytest.raises(InvalidInput, match=r"2 operators need as many coefficients, got \(3,\)"):
        MidpointStep(SPACES[1], production(SU(2), 2), (0.1, 0.1, 0.1))
    with pytest.raises(InvalidInput, match="step is too large"):
        MidpointStep(SPACES[1], production(SU(2), 2), (2.0, 1.0)).inverse(SPACES[1].prior(1, generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_digit_depends_on_the_rest_of_a_batch(dtype, generator):
    step, x = step_of(SPACES[2], 0.01), SPACES[2].prior(11, generator, dtype=dtype)
    y, logdet = step(x)
    for k, size in ((0, 1), (2, 7), (8, 3)):
        own = step(x[k : k + size])
        assert torch.equal(own[0], y[k : k + size])
        assert torch.equal(own[1], logdet[k : k + size])
