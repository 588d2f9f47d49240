"""Laws of the conjugation maps, over every group, in both precisions, far from and near degeneracy."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.layers import SpectralMap
from lattice_flows.testing import assert_conjugation_map

by_group = pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
M = 10_000


def case(group, dtype, generator, m=M, scale=1.0, bins=8):
    conjugation = SpectralMap(group, bins)
    return conjugation, scale * torch.randn(m, conjugation.n_params, generator=generator, dtype=dtype)


def special(kind, group, dtype, generator, m=M):
    """Elements near the identity, near another centre element, or with two phases 1e-6 apart."""
    if kind == "identity":
        return group.identity(m, dtype=dtype)
    if kind == "near identity":
        return group.exp(1e-3 * group.random_algebra(m, generator=generator, dtype=dtype))
    phases = torch.rand(m, group.n, generator=generator, dtype=dtype)
    if kind == "gap":
        phases[:, 1] = phases[:, 0] + 1e-6
        phases[:, -1] -= phases.sum(-1)
    elif kind == "near centre":
        phases = 1e-3 * phases + 2 * math.pi / group.n
        phases[:, -1] = -phases[:, :-1].sum(-1)
    return cases.rebuild(group, phases, group.haar(m, generator=generator, dtype=dtype))


@by_group
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_laws(group, dtype, generator):
    conjugation, params = case(group, dtype, generator)
    loop = group.haar(M, generator=generator, dtype=dtype)
    assert_conjugation_map(conjugation, loop, params, group, atol=cases.TOLERANCE[dtype], generator=generator)


@by_group
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_stays_in_the_group(group, dtype, generator):
    conjugation, params = case(group, dtype, generator, scale=3.0)
    loop = group.haar(M, generator=generator, dtype=dtype)
    g, _ = conjugation(loop, params)
    assert group.defect(g).max() < {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]


@pytest.mark.parametrize("group", cases.GROUPS[1:], ids=cases.names(cases.GROUPS[1:]))
@pytest.mark.parametrize("kind", ["near identity", "gap", "near centre"])
def test_laws_near_degeneracy(group, kind, generator):
    conjugation, params = case(group, torch.float64, generator)
    loop = special(kind, group, torch.float64, generator)
    assert_conjugation_map(conjugation, loop, params, group, atol=1e-8, generator=generator)


@pytest.mark.parametrize("group", cases.GROUPS[1:], ids=cases.names(cases.GROUPS[1:]))
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
@pytest.mark.parametrize("kind", ["identity", "near identity", "gap", "near centre"])
def test_finite_and_unitary_near_degeneracy(group, dtype, kind, generator):
    """Values and gradients, large parameters, and exact coincidence of all phases included."""
    conjugation, params = case(group, dtype, generator, m=500, scale=3.0)
    loop = special(kind, group, dtype, generator, m=500).requires_grad_()
    params.requires_grad_()
    for move in (conjugation.forward, conjugation.inverse):
        g, logdet = move(loop, params)
        assert group.defect(g).max() < {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
        gradients = torch.autograd.grad(g.real.sum() + logdet.sum(), (loop, params))
        for value in (g, logdet, *gradients):
            assert torch.isfinite(torch.view_as_real(value) if value.is_complex() else value).all()
            assert value.abs().max() < 1e6


@pytest.mark.parametrize("group", cases.GROUPS[1:], ids=cases.names(cases.GROUPS[1:]))
def test_gradient_of_the_logdet_is_bounded(group, generator):
    """On the way to any centre element, or to a wall, the gradient levels off instead of growing like 1 / distance."""
    conjugation, params = case(group, torch.float64, generator, m=1)
    frame = group.haar(generator=generator, dtype=torch.float64)
    direction = torch.rand(group.n, generator=generator, dtype=torch.float64)
    direction -= direction.mean()
    for k in range(group.n):
        centre = torch.full((group.n,), 2 * math.pi * k / group.n, dtype=torch.float64)
        centre[:k] -= 2 * math.pi
        size = []
        for distance_ in (1e-2, 1e-4, 1e-6):
            loop = cases.rebuild(group, centre + distance_ * direction, frame)[None].requires_grad_()
            (gradient,) = torch.autograd.grad(conjugation(loop, params)[1].sum(), loop)
            size.append(group.algebra_gradient(loop.detach(), gradient).abs().max())
        assert size[2] < 3 * size[0] + 1e-3, f"centre element {k}: {size}"


@by_group
def test_logdet_is_that_of_the_jacobian(group, generator):
    conjugation, params = case(group, torch.float64, generator, m=4, scale=2.0)
    loop = group.haar(4, generator=generator, dtype=torch.float64)
    basis = group.generators(dtype=torch.float64)
    e = len(group.element_shape)
    for move in (conjugation.forward, conjugation.inverse):
        g, logdet = move(loop, params)
        for i in range(4):
            image = group.compose(g[i], loop[i])

            def coordinates(c, i=i, image=image, move=move):
                w = group.compose(group.exp(torch.tensordot(c.to(basis.dtype), basis, dims=1)), loop[i])
                moved = group.compose(move(w[None], params[i : i + 1])[0][0], w)
                away = group.project_algebra(group.compose(moved, group.inverse(image)))
                return group.inner(away.unsqueeze(-1 - e), basis)

            origin = torch.zeros(len(basis), dtype=torch.float64)
            jacobian = torch.autograd.functional.jacobian(coordinates, origin)
            assert abs(torch.linalg.slogdet(jacobian).logabsdet - logdet[i]) < 1e-9


@by_group
def test_gradcheck(group, generator):
    """Derivatives along the group and with respect to the parameters, both directions."""
    conjugation, params = case(group, torch.float64, generator, m=2, bins=3)
    loop = group.haar(2, generator=generator, dtype=torch.float64)
    basis = group.generators(dtype=torch.float64)
    c = torch.zeros(2, len(basis), dtype=torch.float64, requires_grad=True)
    for move in (conjugation.forward, conjugation.inverse):

        def function(c, params, move=move):
            w = group.compose(group.exp(torch.tensordot(c.to(basis.dtype), basis, dims=1)), loop)
            g, logdet = move(w, params)
            return (torch.view_as_real(g) if g.is_complex() else g), logdet

        assert torch.autograd.gradcheck(function, (c, params.requires_grad_()), eps=1e-6, atol=1e-6)


@by_group
def test_zero_parameters_are_the_identity(group, generator):
    conjugation, params = case(group, torch.float64, generator, m=100)
    g, logdet = conjugation(group.haar(100, generator=generator, dtype=torch.float64), 0 * params)
    assert group.distance(g, group.identity(100, dtype=torch.float64)).max() < 1e-13
    assert logdet.abs().max() < 1e-12


@by_group
def test_empty_and_strided_input(group, generator):
    conjugation, params = case(group, torch.float64, generator, m=12)
    loop = group.haar(12, generator=generator, dtype=torch.float64)
    g, logdet = conjugation(loop[:0], params[:0])
    assert g.shape == (0, *group.element_shape)
    assert logdet.shape == (0,)
    whole, strided = conjugation(loop, params), conjugation(loop[::3], params[::3])
    assert group.distance(whole[0][::3], strided[0]).max() < 1e-13
    transposed = params.T.contiguous().T
    torch.testing.assert_close(conjugation(loop, transposed)[1], whole[1])


class Bare(SU):
    """A group without a spectral map."""

    n_spectral_params = Group.n_spectral_params
    spectral_flow = Group.spectral_flow


def test_numbers_of_parameters_and_groups_without_a_spectral_map():
    with pytest.raises(InvalidInput, match="no spectral map in this package: give the coupling a conjugation map"):
        SpectralMap(Bare(2))
    for group, n_params in ((U1(), 13), (SU(2), 13), (SU(3), 24)):
        assert SpectralMap(group, bins=4).n_params == n_params
    with pytest.raises(InvalidInput, match="bins must be"):
        SpectralMap(SU(2), bins=0)
