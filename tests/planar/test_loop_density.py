"""The density of a loop: closed forms, convolution, symmetry, and the plaquettes that are drawn from it."""

import math

import cases
import numpy as np
import pytest
import torch
from scipy.special import ive

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput
from lattice_flows.planar import exact
from lattice_flows.planar.loop_density import LoopDensity, plaquettes

GROUPS = [(U1(), 2.0), (SU(2), 3.0), (SU(3), 6.0), (SU(4), 6.0)]
by_group = pytest.mark.parametrize(("group", "beta"), GROUPS[:3], ids=str)


def series(group, beta, area):
    """The character expansion where a closed form would be used instead."""
    density = LoopDensity(group, beta, area)
    density.area = math.nan
    return density


@pytest.mark.parametrize(("group", "beta"), GROUPS, ids=str)
def test_one_plaquette_is_the_boltzmann_weight(group, beta, generator):
    loops = group.haar(500, generator=generator, dtype=torch.float64)
    closed = LoopDensity(group, beta, 1)(loops)
    torch.testing.assert_close(closed, beta * group.retrace(loops) - exact.log_partition(group, beta, 10**6) / 10**6)
    torch.testing.assert_close(series(group, beta, 1)(loops).exp(), closed.exp(), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("area", [1, 2, 3, 7])
def test_closed_forms(area, generator):
    """Sums of Bessel functions: of U(1) over cos(n a), of SU(2) over characters sin(n theta) / sin(theta)."""
    beta = 2.5
    n = np.arange(1, 60)
    angle = U1().haar(200, generator=generator, dtype=torch.float64)
    expected = 1 + 2 * (ive(n, beta) / ive(0, beta)) ** area @ np.cos(np.outer(n, angle.numpy()))
    np.testing.assert_allclose(LoopDensity(U1(), beta, area)(angle).exp(), expected, atol=1e-10)
    loops = SU(2).haar(200, generator=generator, dtype=torch.float64)
    theta = SU(2).retrace(loops).clamp(-1, 1).arccos().numpy()
    expected = n * (ive(n, beta) / ive(1, beta)) ** area @ (np.sin(np.outer(n, theta)) / np.sin(theta))
    np.testing.assert_allclose(LoopDensity(SU(2), beta, area)(loops).exp(), expected, atol=1e-9)


@by_group
@pytest.mark.parametrize("area", [1, 2, 5])
def test_normalised_with_the_exact_wilson_loop(group, beta, area, generator):
    loops = group.haar(6000, generator=generator, dtype=torch.float64)
    f = LoopDensity(group, beta, area)(loops).exp()
    for values, expected in ((f, 1.0), (f * group.retrace(loops), exact.wilson_loop(group, beta, area))):
        error = values.std() / len(values) ** 0.5
        assert error < 0.3
        assert (values.mean() - expected).abs() < 4 * error


@by_group
@pytest.mark.parametrize("areas", [(1, 1), (1, 2), (3, 2)])
def test_densities_of_two_parts_fold_into_that_of_the_whole(group, beta, areas, generator):
    """The mean over U of f_A(U) f_B(W U^-1) is f_{A+B}(W)."""
    f_a, f_b, f = (LoopDensity(group, beta, area) for area in (*areas, sum(areas)))
    u = group.haar(2000, generator=generator, dtype=torch.float64)
    near = group.exp(0.3 * group.random_algebra(3, generator=generator, dtype=torch.float64))
    for whole in (*near[:2], *group.haar(2, generator=generator, dtype=torch.float64)):
        values = (f_a(u) + f_b(group.compose(whole, group.inverse(u)))).exp()
        error = values.std() / len(values) ** 0.5
        assert (values.mean() - f(whole).exp()).abs() < 4 * error


@pytest.mark.parametrize(("group", "beta"), GROUPS, ids=str)
def test_a_class_function_of_any_batch_and_precision(group, beta, generator):
    density = LoopDensity(group, beta, 3)
    loops, V = group.haar(2, 4, 5, generator=generator, dtype=torch.float64)
    value = density(loops)
    assert value.shape == (4, 5)
    turned = group.compose(group.compose(V, loops), group.inverse(V))
    torch.testing.assert_close(density(turned), value, atol=1e-9, rtol=0)
    torch.testing.assert_close(density(group.inverse(loops)), value, atol=1e-9, rtol=0)
    single = loops.to(group.element_dtype(torch.float32))
    assert density(single).dtype == torch.float32
    torch.testing.assert_close(density(single).double(), value, atol=1e-4, rtol=1e-4)
    assert density.state_dict() == {}


@by_group
@pytest.mark.parametrize("area", [1, 2, 4])
def test_the_gradient_is_finite_and_that_of_differences(group, beta, area, generator):
    """At Haar elements, at the identity, and at the other centre elements, where the density is smallest."""
    density = LoopDensity(group, beta, area)
    identity = group.identity(3, dtype=torch.float64)
    phase = 2 * math.pi / group.n if group.element_shape else math.pi - 1e-9
    centre = identity * np.exp(1j * phase) if group.element_shape else identity + phase
    loops = torch.cat((group.haar(20, generator=generator, dtype=torch.float64), identity, centre))
    variable = loops.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(density(variable).sum(), variable)
    assert torch.isfinite(torch.view_as_real(gradient) if gradient.is_complex() else gradient).all()
    assert gradient.abs().max() < 100 * beta
    step = group.random_algebra(len(loops), generator=generator, dtype=torch.float64)
    slope = group.inner(step, group.algebra_gradient(loops, gradient))
    ahead, behind = (density(group.compose(group.exp(h * step), loops)) for h in (1e-5, -1e-5))
    smooth = density(loops) > math.log(1e-6)
    assert smooth.sum() > 20
    torch.testing.assert_close(slope[smooth], ((ahead - behind) / 2e-5)[smooth], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("group", [U1(), SU(2)], ids=str)
def test_where_the_density_is_below_rounding_it_is_finite(group, generator):
    """The rounding of the series, which may be negative, has no logarithm."""
    loops = group.haar(500, generator=generator, dtype=torch.float64).requires_grad_()
    value = LoopDensity(group, 60.0, 2)(loops)
    assert value.min() == math.log(1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), loops)
    for found in (value, torch.view_as_real(gradient) if gradient.is_complex() else gradient):
        assert torch.isfinite(found).all()


@by_group
def test_plaquettes_have_the_exact_moments(group, beta, generator):
    """<Re tr P / N> and its square, from the derivatives of log Z; independent of each other."""
    drawn = plaquettes(group, beta, 3000, generator)
    assert group.defect(drawn).max() < 1e-10
    trace = group.retrace(drawn)
    log_z = [LoopDensity(group, beta + h, 1).log_trivial for h in (-1e-3, 0.0, 1e-3)]
    mean = exact.plaquette(group, beta)
    second = (log_z[0] - 2 * log_z[1] + log_z[2]) / 1e-6 + mean**2
    for values, expected in ((trace, mean), (trace**2, second), (trace[::2] * trace[1::2], mean**2)):
        error = values.std() / len(values) ** 0.5
        assert (values.mean() - expected).abs() < 4 * error
    # no direction is preferred
    assert group.trace(drawn).imag.mean().abs() <= 4 * group.trace(drawn).imag.std() / len(drawn) ** 0.5
    again = plaquettes(group, beta, 5, torch.Generator().manual_seed(1), updates=3)
    assert torch.equal(again, plaquettes(group, beta, 5, torch.Generator().manual_seed(1), updates=3))


def test_densities_that_cannot_be():
    with pytest.raises(InvalidInput, match=r"no exact values for SU\(7\)"):
        LoopDensity(SU(7), 1.0, 2)
    with pytest.raises(InvalidInput, match="beta"):
        LoopDensity(SU(2), -1.0, 2)
    assert cases.GROUPS[:4] == [group for group, _ in GROUPS]
