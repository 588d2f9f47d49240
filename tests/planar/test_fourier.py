"""Laws of the Fourier map, and that the density it makes is what its docstring says, at its sharpest, too."""

import math

import cases
import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ive

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput
from lattice_flows.planar.fourier import SHARPEST, FourierMap, _waves
from lattice_flows.planar.loop_density import LoopDensity
from lattice_flows.testing import assert_conjugation_map

GROUP = U1()
M = 2000
PI = 3.1415925  # below pi in float32, too
by_harmonics = pytest.mark.parametrize("harmonics", [1, 4, 16])
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))


def case(harmonics, dtype, generator, scale=1.0, m=M):
    fourier_map = FourierMap(GROUP, harmonics)
    k = torch.arange(1, harmonics + 1).repeat(2)
    # no harmonic outweighs the others in sharpness
    params = scale * torch.randn(m, 2 * harmonics, generator=generator, dtype=torch.float64) / k**2
    return fourier_map, GROUP.haar(m, generator=generator, dtype=dtype), params.to(dtype)


def squeezed(params, harmonics):
    """The coefficients (cos, sin) `(m, harmonics)`: of their first norm, weighted with k^2, S tanh(. / S)."""
    c = params.double().unflatten(-1, (2, harmonics))
    size = (torch.arange(1, harmonics + 1) ** 2 * c.square().sum(-2).sqrt()).sum(-1)[:, None, None]
    return (SHARPEST * torch.tanh(size / SHARPEST) / size * c).unbind(-2)


@by_harmonics
@by_dtype
def test_laws(harmonics, dtype, generator):
    fourier_map, loop, params = case(harmonics, dtype, generator, scale=1.0 / harmonics**0.5)
    atol = {torch.float64: 1e-10, torch.float32: 1e-2}[dtype]
    assert_conjugation_map(fourier_map, loop, params, GROUP, atol=atol, generator=generator)
    assert fourier_map(loop, params)[1].std() > 0.2


@by_harmonics
@by_dtype
@pytest.mark.parametrize("scale", [30.0, 1e8])
def test_sharp_densities(harmonics, dtype, scale, generator):
    """What is drawn is found again. The other way there is only as much to find as F, near 0 or 1, can hold.

    F is off by 1e-10 where a density of many harmonics is at its sharpest: less than the grid gives.
    """
    fourier_map, loop, params = case(harmonics, dtype, generator, scale=scale)
    eps = torch.finfo(dtype).eps
    # where F is hard to tell from 0 and 1
    ends = PI - 1e-3 * torch.logspace(-13, 0, 200, dtype=torch.float64)
    loop[:400] = torch.cat((-ends, ends)).to(dtype)
    g, logdet = fourier_map(loop, params)
    back, logdet_back = fourier_map.inverse(GROUP.compose(g, loop), params)
    assert GROUP.compose(back, g).abs().max() < 300 * eps
    assert (logdet + logdet_back).abs().max() < 300 * eps

    g, log_q = fourier_map.inverse(loop, params)
    back, _ = fourier_map(GROUP.compose(g, loop), params)
    known = log_q > math.log(1e4 * eps)
    assert known.double().mean() > 0.1
    assert (GROUP.compose(back, g).abs() * log_q.exp())[known].max() < 300 * eps + 3e-9


@by_harmonics
@by_dtype
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_everything_is_finite(harmonics, dtype, scale, generator):
    """At both ends of the circle, where the density may be e^-90, gradients included."""
    fourier_map, loop, params = case(harmonics, dtype, generator, scale=scale)
    loop[:100], loop[100:200] = -PI, PI
    params[50] = 0
    loop.requires_grad_(), params.requires_grad_()
    for move in (fourier_map.forward, fourier_map.inverse):
        g, logdet = move(loop, params)
        for value in (g, logdet, *torch.autograd.grad(g.sum() + logdet.sum(), (loop, params))):
            assert torch.isfinite(value).all()


@by_dtype
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e3])
def test_one_harmonic_is_the_von_mises_density(dtype, scale, generator):
    """Density and distribution function against scipy's."""
    fourier_map, angle, params = case(1, dtype, generator, scale=scale, m=300)
    cosine, sine = (c[:, 0] for c in squeezed(params, 1))
    kappa, mean = torch.hypot(cosine, sine).numpy(), torch.atan2(sine, cosine).numpy()
    expected = stats.vonmises(kappa, loc=mean)
    g, log_q = fourier_map.inverse(angle, params)
    a = angle.double().numpy()
    atol = {torch.float64: 1e-10, torch.float32: 1e-3}[dtype]
    np.testing.assert_allclose(log_q.double() - math.log(2 * math.pi), expected.logpdf(a), atol=atol, rtol=0)
    below = (GROUP.compose(g, angle) + math.pi).double() / (2 * math.pi)
    # scipy's own distribution function is good to 1e-5: Gauss-Legendre from -pi to a instead
    nodes, weights = np.polynomial.legendre.leggauss(200)
    half = (a[:, None] + math.pi) / 2
    points = half * (nodes + 1) - math.pi
    cumulative = (half * weights * stats.vonmises.pdf(points, kappa[:, None], loc=mean[:, None])).sum(-1)
    error = (below.numpy() - cumulative + 0.5) % 1 - 0.5
    assert np.abs(error).max() < {torch.float64: 1e-11, torch.float32: 2e-5}[dtype]


@by_harmonics
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_density_is_the_exponential_of_its_harmonics_and_normalised(harmonics, scale, generator):
    """On another and finer grid than the map's own."""
    fourier_map, _, params = case(harmonics, torch.float64, generator, scale=scale, m=20)
    grid = torch.arange(1000, dtype=torch.float64) * (2 * math.pi / 1000) - math.pi
    _, log_q = fourier_map.inverse(grid.expand(20, -1), params.unsqueeze(1).expand(-1, 1000, -1))
    torch.testing.assert_close(log_q.exp().mean(-1), torch.ones(20, dtype=torch.float64), atol=1e-13, rtol=0)
    k = torch.arange(1, harmonics + 1)
    cosines, sines = squeezed(params, harmonics)
    exponent = cosines @ (k[:, None] * grid).cos() + sines @ (k[:, None] * grid).sin()
    expected = exponent - exponent.logsumexp(-1, keepdim=True) + math.log(1000)
    torch.testing.assert_close(log_q, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("harmonics", "sharp"), [(1, 1e-9), (4, 1e-7), (8, 2e-6), (16, 1e-4)])
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_logdet_is_that_of_the_jacobian(harmonics, scale, sharp, generator):
    """Up to what a grid leaves of the Fourier coefficients of the sharpest densities, the uniform density being 1."""
    fourier_map, loop, params = case(harmonics, torch.float64, generator, scale=scale)
    atol = sharp if scale > 1 else 1e-8 if harmonics == 16 else 1e-11
    for move, sign in ((fourier_map.inverse, 1), (fourier_map.forward, -1)):
        angle = loop.clone().requires_grad_()
        g, logdet = move(angle, params)
        (slope,) = torch.autograd.grad((angle + g).sum(), angle)
        known = sign * logdet > math.log(1e-8)
        assert known.sum() > 100
        assert (slope**sign - (sign * logdet).exp())[known].abs().max() < (atol if sign > 0 else 1e-5 + 10 * atol)


@by_harmonics
def test_gradcheck(harmonics, generator):
    fourier_map, loop, params = case(harmonics, torch.float64, generator, m=3)
    for move in (fourier_map.forward, fourier_map.inverse):
        assert torch.autograd.gradcheck(move, (loop.requires_grad_(), params.requires_grad_()), atol=1e-6)


def test_zero_parameters_are_the_identity(generator):
    fourier_map, loop, params = case(8, torch.float64, generator)
    for move in (fourier_map.forward, fourier_map.inverse):
        g, logdet = move(loop, 0 * params)
        assert g.abs().max() < 1e-14
        assert logdet.abs().max() < 1e-14
    # and there they have a gradient: a level that starts as the identity can be trained
    params = torch.zeros_like(params, requires_grad=True)
    (gradient,) = torch.autograd.grad(fourier_map(loop, params)[1].sum(), params)
    assert (gradient.abs().amax(0) > 0.5).all()


def test_it_cuts_two_plaquettes_exactly(generator):
    """p(W_a | W) = f(W_a) f(W W_a^-1) / f_2(W) is one harmonic of the centred loop, with c = 2 beta cos(W / 2)."""
    beta = 1.7
    whole, centred = GROUP.haar(2, 500, generator=generator, dtype=torch.float64)
    wanted = 2 * beta * (whole / 2).cos()
    params = torch.stack((SHARPEST * torch.atanh(wanted / SHARPEST), torch.zeros_like(wanted)), dim=-1)
    _, log_q = FourierMap(GROUP, 1).inverse(centred, params)
    one, two = LoopDensity(GROUP, beta, 1), LoopDensity(GROUP, beta, 2)
    first = centred + whole / 2
    torch.testing.assert_close(log_q, one(first) + one(whole - first) - two(whole), atol=1e-10, rtol=0)
    # and its normalisation is a Bessel function
    kappa = wanted.numpy()
    expected = np.log(ive(0, kappa)) + kappa - 2 * (np.log(ive(0, beta)) + beta)
    np.testing.assert_allclose(two(whole), expected, atol=1e-10)


def test_maps_that_cannot_be():
    with pytest.raises(InvalidInput, match="SpectralMap"):
        FourierMap(SU(2))
    for harmonics in (0, 17):
        with pytest.raises(InvalidInput, match=f"from 1 to 16, got {harmonics}"):
            FourierMap(GROUP, harmonics)


def test_a_gradient_after_inference_mode(generator):
    _waves.cache_clear()
    fourier_map, loop, params = case(4, torch.float64, generator, m=3)
    with torch.inference_mode():
        fourier_map(loop, params)
    fourier_map(loop, params.requires_grad_())[1].sum().backward()
    assert params.grad.abs().max() > 0
