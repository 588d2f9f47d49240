"""Laws of the residual step, with boundaries that turn along, in both precisions, up to the bound of its size."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.layers.residual import BOUND, algebra, phi
from lattice_flows.planar.residual import ResidualMap
from lattice_flows.testing import assert_conjugation_map

GROUPS = cases.GROUPS[1:4]
by_group = pytest.mark.parametrize("group", GROUPS, ids=cases.names(GROUPS))
M = 100


def case(group, dtype, generator, m=M, scale=1.0):
    residual = ResidualMap(group)
    loop, boundary = group.haar(2, m, generator=generator, dtype=dtype)
    return residual, loop, scale * torch.randn(m, residual.n_params, generator=generator, dtype=dtype), boundary


@by_group
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
@pytest.mark.parametrize("scale", [0.02, 1.0, 1e6])
def test_laws(group, dtype, scale, generator):
    residual, loop, params, boundary = case(group, dtype, generator, scale=scale)
    atol = cases.TOLERANCE[dtype]
    assert_conjugation_map(residual, loop, params, group, boundary=boundary, atol=atol, generator=generator)
    _, logdet = residual(loop, params, boundary)
    assert logdet.std() > {0.02: 0.03, 1.0: 0.2, 1e6: 0.2}[scale]


@by_group
@pytest.mark.parametrize("word", [(0, 0), (0, -1), (1, 0)])
def test_a_single_word_at_the_bound(group, word, generator):
    """All of the size in one word, coefficients 0.9 and -0.9: the strongest contraction, and the longest inverse."""
    residual, loop, params, boundary = case(group, torch.float64, generator, scale=0)
    params.unflatten(-1, (group.n, group.n, 2))[:, word[0], word[1], 0] = 1e9 * (1 - 2 * (torch.arange(M) % 2))
    assert_conjugation_map(residual, loop, params, group, boundary=boundary, generator=generator)


@by_group
@pytest.mark.parametrize("kind", ["identity", "near identity", "centre"])
def test_finite_and_unitary_near_degeneracy(group, kind, generator):
    """Loops and boundaries whose phases meet; with gradients, in both directions."""
    residual, loop, params, boundary = case(group, torch.float64, generator, m=40)
    special = cases.near_degenerate(group, kind, 40, generator)
    for inputs in ((special, params, boundary), (loop, params, special), (special, params, special)):
        inputs = [x.clone().requires_grad_() for x in inputs]
        for move in (residual.forward, residual.inverse):
            g, logdet = move(*inputs)
            assert group.defect(g).max() < 1e-12
            gradients = torch.autograd.grad(g.real.sum() + logdet.sum(), inputs)
            for value in (g, logdet, *gradients):
                assert torch.isfinite(torch.view_as_real(value) if value.is_complex() else value).all()


@by_group
def test_the_step_is_what_its_docstring_says(group, generator):
    """exp of the traceless anti-Hermitian part of sum c_jk W^(p_j) Y W^(p_k)."""
    residual, loop, params, boundary = case(group, torch.float64, generator, m=5)
    c = torch.view_as_complex(params.unflatten(-1, (group.n, group.n, 2)))
    size = c.abs().sum((-2, -1), keepdim=True)
    c = BOUND * torch.tanh(size) * c / size
    assert (c.abs().sum((-2, -1)) < BOUND + 1e-12).all()
    total = torch.zeros_like(loop)
    for j in range(group.n):
        for k in range(group.n):
            left, right = (group.power(boundary, (i - (group.n - 1) / 2) / 2) for i in (j, k))
            total = total + c[:, j, k, None, None] * (left @ loop @ right)
    expected = group.exp(group.project_algebra(total))
    assert group.distance(residual(loop, params, boundary)[0], expected).max() < 1e-11


@by_group
def test_zero_parameters_are_the_identity(group, generator):
    residual, loop, params, boundary = case(group, torch.float64, generator)
    g, logdet = residual(loop, 0 * params, boundary)
    assert group.distance(g, group.identity(M, dtype=torch.float64)).max() < 1e-14
    assert logdet.abs().max() < 1e-13
    # and there they have a gradient: a level that starts as the identity can be trained
    params = torch.zeros_like(params, requires_grad=True)
    (gradient,) = torch.autograd.grad(residual(loop, params, boundary)[1].sum(), params)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0.01


@pytest.mark.parametrize("group", GROUPS[:3], ids=cases.names(GROUPS[:3]))
@pytest.mark.parametrize("scale", [0.5, 100.0])
def test_logdet_is_that_of_the_jacobian(group, scale, generator):
    residual, loop, params, boundary = case(group, torch.float64, generator, m=4, scale=scale)
    basis = group.generators(dtype=torch.float64)
    for move in (residual.forward, residual.inverse):
        g, logdet = move(loop, params, boundary)
        image = g @ loop

        def coordinates(c, move=move, image=image):
            w = group.exp(torch.tensordot(c.to(basis.dtype), basis, dims=1)) @ loop
            away = group.project_algebra(move(w, params, boundary)[0] @ w @ image.mH)
            return group.inner(away.unsqueeze(-3), basis).sum(0)

        origin = torch.zeros(len(loop), len(basis), dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(coordinates, origin).transpose(0, 1)
        # the gradient of the inverse is Newton's, as exact as the square root of rounding
        atol = 1e-9 if move == residual.forward else 1e-6
        assert (torch.linalg.slogdet(jacobian).logabsdet - logdet).abs().max() < atol


@pytest.mark.parametrize("group", GROUPS[:2], ids=cases.names(GROUPS[:2]))
def test_gradcheck(group, generator):
    """With respect to the loop, the boundary and the parameters, in both directions."""
    residual, loop, params, boundary = case(group, torch.float64, generator, m=2)
    basis = group.generators(dtype=torch.float64)
    c, d = (torch.zeros(2, len(basis), dtype=torch.float64, requires_grad=True) for _ in range(2))
    for move in (residual.forward, residual.inverse):

        def function(c, d, params, move=move):
            w, b = (
                group.exp(torch.tensordot(x.to(basis.dtype), basis, dims=1)) @ y for x, y in ((c, loop), (d, boundary))
            )
            g, logdet = move(w, params, b)
            return torch.view_as_real(g), logdet

        assert torch.autograd.gradcheck(function, (c, d, params.requires_grad_()), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_the_series_of_phi_reaches_rounding(dtype, generator):
    """Against (e^m - 1) / m for antisymmetric m of the largest norm, 2 BOUND."""
    m = torch.randn(50, 8, 8, generator=generator, dtype=dtype)
    m = m - m.mT
    m = 2 * BOUND * m / torch.linalg.matrix_norm(m, 2)[:, None, None]
    exact = m.double()
    exact = torch.linalg.solve(exact, torch.matrix_exp(exact) - torch.eye(8, dtype=torch.float64))
    # solving enlarges rounding by the condition of m
    near = torch.linalg.cond(m.double()) < 100
    assert near.sum() > 20
    eps = torch.finfo(dtype).eps
    assert (phi(m, 2 * BOUND) - exact)[near].abs().max() < 300 * eps


def test_batches_and_failures(generator):
    residual, loop, params, boundary = case(SU(2), torch.float64, generator, m=6)
    for move in (residual.forward, residual.inverse):
        g, logdet = move(loop[:0], params[:0], boundary[:0])
        assert g.shape == (0, 2, 2)
        assert logdet.shape == (0,)
        g, logdet = move(loop, params, boundary)
        folded_g, folded = move(*(x.unflatten(0, (2, 3)) for x in (loop, params, boundary)))
        torch.testing.assert_close(folded_g.flatten(0, 1), g)
        torch.testing.assert_close(folded.flatten(), logdet)
    with pytest.raises(NumericalFailure, match="did not converge"):
        residual.inverse(loop, params * math.nan, boundary)
    with pytest.raises(InvalidInput, match=r"needs SU\(N\), got U\(1\); for U\(1\) use SpectralMap"):
        ResidualMap(U1())


def test_a_gradient_after_inference_mode(generator):
    algebra.cache_clear()
    residual, loop, params, boundary = case(SU(2), torch.float64, generator, m=3)
    with torch.inference_mode():
        residual(loop, params, boundary)
    residual(loop, params.requires_grad_(), boundary)[1].sum().backward()
    assert params.grad.abs().max() > 0
