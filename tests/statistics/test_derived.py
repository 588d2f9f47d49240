"""Quantities made of averages: curves and loops of a known form, and the string tension of two dimensions."""

import math

import numpy as np
import pytest
import torch

from lattice_flows import U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import polyakov_loop_modulus, wilson_loops
from lattice_flows.planar import exact
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.statistics import creutz_ratios, effective_potential, susceptibility, t0, w0
from lattice_flows.statistics.resampling import jackknife

SIDES = np.arange(1, 5)[:, None], np.arange(1, 6)


def area_law(tension, perimeter, corner):
    r, t = SIDES
    return np.exp(-tension * r * t - perimeter * 2 * (r + t) + corner)


@pytest.mark.parametrize("tension", [0.1, 1.3])
def test_perimeter_and_corners_cancel(tension):
    loops = np.stack([area_law(tension, perimeter, corner) for perimeter, corner in ((0, 0), (0.3, 0), (0.2, -0.4))])
    ratios = creutz_ratios(loops)
    assert ratios.shape == loops.shape
    np.testing.assert_allclose(ratios[:, 1:, 1:], tension, rtol=1e-10)
    np.testing.assert_allclose(ratios[0], tension, rtol=1e-10)
    np.testing.assert_allclose(ratios[1, 0, 0], tension + 4 * 0.3, rtol=1e-10)
    potential = effective_potential(loops)
    assert potential.shape == (3, 4, 4)
    for one, perimeter in zip(potential, (0, 0.3, 0.2), strict=True):
        np.testing.assert_allclose(one, np.broadcast_to(tension * SIDES[0] + 2 * perimeter, (4, 4)), rtol=1e-10)


def test_a_negative_loop_is_not_a_number_and_no_warning():
    loops = area_law(0.5, 0, 0)
    loops[3, 4] = -1e-5
    assert np.isnan(creutz_ratios(loops)).sum() == 1
    assert np.isnan(effective_potential(loops)).sum() == 1


def test_string_tension_in_two_dimensions():
    """The area law holds at every R and T in infinite volume; on 6 x 6 the exact loops are those of the torus."""
    group, beta = U1(), 2.0
    space = GaugeField(group, (6, 6))
    links = exact_samples(Wilson(space, beta), 4000, generator=torch.Generator().manual_seed(3))
    loops = wilson_loops(space, 2, 3, time=-1)(links)
    torus = np.array([[exact.wilson_loop(group, beta, r * t, 36) for t in (1, 2, 3)] for r in (1, 2)])
    tension = -math.log(exact.plaquette(group, beta))
    for f, expected in ((creutz_ratios, np.full((2, 3), tension)), (effective_potential, [[tension], [2 * tension]])):
        result = jackknife(f, loops)
        np.testing.assert_allclose(f(torus), np.broadcast_to(expected, result.value.shape), rtol=1e-3)
        assert (abs(result.value - f(torus)) < 4 * result.error).all()
        assert (result.error < 0.2).all()


def test_susceptibility_is_a_variance():
    space = GaugeField(U1(), (3, 4))
    links = space.prior(500, torch.Generator().manual_seed(0), dtype=torch.float64)
    modulus = polyakov_loop_modulus(space, -1)(links)
    moments = torch.stack((modulus, modulus.square()), -1)
    result = jackknife(lambda mean: susceptibility(mean[0], mean[1], volume=3), moments)
    assert result.value == pytest.approx(3 * modulus.var(correction=0).item(), rel=1e-12)
    # three loops that are Haar elements: <|L|^2> = 1 / 3, and <|L|> of three random steps is 1.5746 / 3
    assert abs(result.value - 3 * (1 / 3 - (1.5745972 / 3) ** 2)) < 4 * result.error


@pytest.mark.parametrize(("a", "b"), [(0.1, 0.0), (0.2, 0.05), (0.0, 0.03)])
def test_scales_of_a_known_curve(a, b):
    """t^2 E = a t + b t^2."""
    times = np.linspace(0, 6, 31)
    density = np.divide(a, times, out=np.zeros(31), where=times > 0) + b
    root = 0.3 / a if b == 0 else (-a + math.sqrt(a * a + 1.2 * b)) / (2 * b)
    assert t0(times, density) == pytest.approx(root, rel=1e-9)
    root = 0.3 / a if b == 0 else (-a + math.sqrt(a * a + 2.4 * b)) / (4 * b)
    assert w0(times, density) == pytest.approx(math.sqrt(root), rel=1e-9)


@pytest.mark.parametrize("scale", [t0, w0], ids=lambda scale: scale.__name__)
def test_errors_of_scales(scale):
    """E = a / t with a = 0.1(0.01) in each of n configurations: t_0 = w_0^2 = 0.3 / <a>."""
    n, times = 400, np.linspace(0.5, 5, 31)
    a = np.random.default_rng(0).normal(0.1, 0.01, size=n)
    result = jackknife(lambda mean: scale(times, mean), a[:, None] / times)
    power = 1 if scale is t0 else 0.5
    assert result.value == pytest.approx((0.3 / a.mean()) ** power, rel=1e-9)
    assert result.error == pytest.approx(result.value * power * 0.1 / math.sqrt(n), rel=0.25)


def test_scales_converge_with_the_spacing_of_times():
    """A curve that no spline follows: t^2 E = 0.4 (1 - exp(-t)) reaches 0.3 at log 4."""

    def deviation(n):
        times = np.linspace(0, 4, n)
        density = 0.4 * -np.expm1(-times) / np.maximum(times, 1e-9) ** 2
        return abs(t0(times, density) - math.log(4))

    assert deviation(21) < 1e-5
    assert deviation(41) < deviation(21) / 4


def test_the_first_rise_counts():
    times = np.linspace(0.5, 6, 100)
    curve = 0.3 + 0.1 * np.sin(math.pi * (times - 1) / 2)  # through 0.3 at 1, 3, 5
    assert t0(times, curve / times**2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: creutz_ratios([1.0]), r"must be \(\*batch, r, t\), got shape \(1,\)"),
        (lambda: t0([0, 1, 2, 3], [0.0, 0.0, 0.0, 0.01]), r"must rise through 0.3, got at most 0.09; flow longer"),
        (lambda: w0([0, 1, 2, 3], [0.0, 0.01, 0.01, 0.01]), "must rise through 0.3"),
        (lambda: t0([0, 1, 2], [0.0, 0.1, 0.1]), "n >= 4 increasing times"),
        (lambda: t0([0, 1, 1, 2], [0.0, 0.1, 0.1, 1.0]), "n >= 4 increasing times"),
        (lambda: w0([0, 1, 2, 3], [0.1, 0.1, 0.1]), "n >= 4 increasing times"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
