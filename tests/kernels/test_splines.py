"""The rational-quadratic splines."""

import pytest
import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.splines import check_bins, knots, n_knot_params, rational_quadratic

CIRCULAR = [False, True]
BINS = [1, 2, 8]


def curve_and_points(bins, circular, generator, n=5000, scale=3.0):
    raw = scale * torch.randn(n, n_knot_params(bins, circular), generator=generator, dtype=torch.float64)
    x = torch.rand(n, generator=generator, dtype=torch.float64)
    return knots(raw, bins, circular), x, 1 - x


@pytest.mark.parametrize("circular", CIRCULAR)
@pytest.mark.parametrize("bins", BINS)
def test_inverse_and_slope(bins, circular, generator):
    curve, x, rest = curve_and_points(bins, circular, generator)
    y, y_rest, log_slope = rational_quadratic(x, rest, curve)
    assert ((y > 0) & (y < 1)).all()
    torch.testing.assert_close(y + y_rest, torch.ones_like(y), atol=1e-13, rtol=0)
    back, back_rest, log_back = rational_quadratic(y, y_rest, curve, inverse=True)
    torch.testing.assert_close(back, x, atol=1e-10, rtol=0)
    torch.testing.assert_close(back_rest, rest, atol=1e-10, rtol=0)
    torch.testing.assert_close(log_slope + log_back, torch.zeros_like(x), atol=1e-9, rtol=0)


@pytest.mark.parametrize("bins", BINS)
def test_slope_is_the_derivative(bins, generator):
    curve, x, _ = curve_and_points(bins, False, generator)
    for inverse in (False, True):
        variable = x.clone().requires_grad_()
        y, _, log_slope = rational_quadratic(variable, 1 - variable, curve, inverse)
        (slope,) = torch.autograd.grad(y.sum(), variable)
        torch.testing.assert_close(log_slope.exp(), slope, rtol=1e-7, atol=0)


def test_matches_the_formula_between_knots(generator):
    """Against eq. (4) of Durkan et al. evaluated the long way, knot by knot."""
    bins = 4
    curve, x, rest = curve_and_points(bins, False, generator, n=200)
    y, _, _ = rational_quadratic(x, rest, curve)
    for i in range(len(x)):
        w, h, d = (part[:, i] for part in curve)
        k = next(k for k in range(bins) if k == bins - 1 or x[i] < w[: k + 1].sum())
        s = h[k] / w[k]
        t = (x[i] - w[:k].sum()) / w[k]
        top = h[k] * (s * t**2 + d[k] * t * (1 - t))
        expected = h[:k].sum() + top / (s + (d[k + 1] + d[k] - 2 * s) * t * (1 - t))
        assert abs(expected - y[i]) < 1e-12


def test_passes_through_the_knots_with_their_slopes(generator):
    curve, _, _ = curve_and_points(6, False, generator, n=1)
    at = curve.widths[:3, 0].sum().reshape(1)
    y, _, log_slope = rational_quadratic(at, 1 - at, curve)
    torch.testing.assert_close(y, curve.heights[:3, 0].sum().reshape(1))
    torch.testing.assert_close(log_slope.exp(), curve.slopes[3])


def test_zeros_are_the_identity():
    x = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    for circular in CIRCULAR:
        curve = knots(torch.zeros(50, n_knot_params(8, circular), dtype=torch.float64), 8, circular)
        y, _, log_slope = rational_quadratic(x, 1 - x, curve)
        torch.testing.assert_close(y, x, atol=1e-14, rtol=0)
        assert log_slope.abs().max() < 1e-13


def test_circle_closes_smoothly(generator):
    curve, _, _ = curve_and_points(5, True, generator)
    torch.testing.assert_close(curve.slopes[0], curve.slopes[-1], atol=0, rtol=0)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("bins", BINS)
def test_both_ends_keep_relative_precision(bins, inverse, generator):
    """A point 1e-12 from either end is carried to a point in proportion to the slope there, also in float32."""
    raw = torch.randn(100, n_knot_params(bins), generator=generator)
    curve = knots(raw, bins)
    tiny = torch.full((100,), 1e-12)
    near_0, _, _ = rational_quadratic(tiny, 1 - tiny, curve, inverse)
    _, near_1, _ = rational_quadratic(1 - tiny, tiny, curve, inverse)
    first, last = (1 / curve.slopes[0], 1 / curve.slopes[-1]) if inverse else (curve.slopes[0], curve.slopes[-1])
    torch.testing.assert_close(near_0, tiny * first, rtol=1e-4, atol=0)
    torch.testing.assert_close(near_1, tiny * last, rtol=1e-4, atol=0)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradcheck(inverse, generator):
    raw = torch.randn(5, n_knot_params(4), generator=generator, dtype=torch.float64)
    x = torch.rand(5, generator=generator, dtype=torch.float64) * 0.9 + 0.05

    def function(x, raw):
        return rational_quadratic(x, 1 - x, knots(raw, 4), inverse)

    assert torch.autograd.gradcheck(function, (x.requires_grad_(), raw.requires_grad_()))


@pytest.mark.parametrize("bins", [0, -1, 2.0, True, 65])
def test_bad_bins(bins):
    with pytest.raises(InvalidInput, match="bins"):
        check_bins(bins)
