"""Eigenphases, the alcove, and maps of the phases, near and far from degeneracy."""

import math

import cases
import pytest
import torch

from lattice_flows import SU
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.kernels import spectrum, unitary_eig

NS = [2, 3, 4, 5, 8]


def matrices(kind, n, generator, dtype=torch.float64, m=2000):
    group = SU(n)
    V = group.haar(m, generator=generator, dtype=dtype)
    if kind == "haar":
        return V
    phases = torch.rand(m, n, generator=generator, dtype=dtype) - 0.5
    if kind == "near identity":
        phases = phases * 1e-3
    elif kind == "gap":
        phases[:, 1] = phases[:, 0] + 1e-6
    elif kind == "degenerate":
        phases[:, 1] = phases[:, 0]
    elif kind == "mirrored":
        # two phases at equal distance from the angle that eigenvectors are told apart by
        phases[:, 1] = 2 * 0.9 - phases[:, 0]
    elif kind == "centre":
        phases = phases * 1e-3 + 2 * math.pi / n
        phases[:, -1] -= 2 * math.pi
    elif kind == "identity":
        phases = phases * 0
    if kind not in ("identity", "centre"):
        phases[:, -1] -= phases.sum(-1)
    elif kind == "centre":
        phases[:, -1] = -phases[:, :-1].sum(-1)
    return cases.rebuild(group, phases, V)


KINDS = ["haar", "near identity", "gap", "degenerate", "mirrored", "centre", "identity"]


@pytest.mark.parametrize("n", NS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decomposition(n, kind, dtype, generator):
    w = matrices(kind, n, generator, dtype)
    phases, frame = spectrum.eigenphases(w)
    eps = 200 * torch.finfo(dtype).eps
    assert (frame.mH @ frame - torch.eye(n)).abs().max() < eps
    assert (cases.rebuild(SU(n), phases, frame) - w).abs().max() < eps
    # the alcove
    assert (phases.diff(dim=-1) >= 0).all()
    assert phases.sum(-1).abs().max() < eps
    assert (phases[:, -1] - phases[:, 0]).max() <= 2 * math.pi + eps
    gaps = spectrum.gaps(phases)
    assert (gaps > 0).all()
    torch.testing.assert_close(spectrum.phases_from_gaps(gaps), phases, atol=eps, rtol=0)


def test_permutations_and_signs_converge():
    """Structured matrices, on which an unlucky choice of rotations would stall."""
    for n in NS:
        shift = torch.roll(torch.eye(n, dtype=torch.complex128), 1, 0)
        signs = torch.diag(torch.tensor([-1.0, -1.0] + [1.0] * (n - 2), dtype=torch.complex128))
        for w in (shift, shift @ shift, signs, shift @ signs):
            phases, frame = unitary_eig(w)
            rebuilt = (frame * torch.exp(1j * phases)) @ frame.mH
            assert (rebuilt - w).abs().max() < 1e-14


def test_log_vandermonde_is_the_haar_density(generator):
    """For SU(2) the density of theta is sin^2(theta) up to a constant: <cos^2 theta> under it is 1/4."""
    phases, _ = spectrum.eigenphases(SU(2).haar(20_000, generator=generator, dtype=torch.float64))
    assert ((phases[:, 1].cos() ** 2).mean() - 0.25).abs() < 4 * (1 / 16 / 20_000) ** 0.5
    theta = torch.linspace(0.1, 3.0, 7, dtype=torch.float64)
    pair = torch.stack((-theta, theta), dim=-1)
    expected = (4 * theta.sin() ** 2).log()
    torch.testing.assert_close(spectrum.log_vandermonde(spectrum.gaps(pair)), expected, atol=1e-13, rtol=0)


def test_log_vandermonde_against_the_definition(generator):
    for n in NS:
        phases, _ = spectrum.eigenphases(SU(n).haar(50, generator=generator, dtype=torch.float64))
        z = torch.exp(1j * phases)
        i, j = torch.triu_indices(n, n, 1)
        expected = 2 * (z[:, i] - z[:, j]).abs().log().sum(-1)
        torch.testing.assert_close(spectrum.log_vandermonde(spectrum.gaps(phases)), expected, atol=1e-11, rtol=0)


def test_log_vandermonde_gradient(generator):
    gaps = torch.rand(6, 4, generator=generator, dtype=torch.float64) + 0.1
    gaps = (2 * math.pi * gaps / gaps.sum(-1, keepdim=True)).requires_grad_()
    assert torch.autograd.gradcheck(spectrum.log_vandermonde, (gaps,))


@pytest.mark.parametrize("n", NS[:4])
@pytest.mark.parametrize("kind", ["haar", "gap", "near identity"])
def test_gradients(n, kind, generator):
    """gradcheck of phases, of functions of them, and of the displacement with its turning frame."""
    group = SU(n)
    # a wider gap than elsewhere: finite differences need room
    base = matrices(kind, n, generator, m=3) if kind != "gap" else _gapped(group, 1e-2, generator)
    scale = 1e-3 if kind == "near identity" else 1.0
    basis = group.generators(dtype=torch.float64)

    def moved(c):
        return group.compose(group.exp(scale * torch.tensordot(c.to(basis.dtype), basis, dims=1)), base)

    def function(c):
        w = moved(c)
        phases, frame = spectrum.eigenphases(w)
        gaps = spectrum.gaps(phases)
        new = gaps * (1 + 0.3 * torch.sin(gaps))
        new = 2 * math.pi * new / new.sum(-1, keepdim=True)
        g = spectrum.displacement(w, spectrum.phases_from_gaps(new - gaps), frame, gaps, new)
        return phases, torch.view_as_real(g), spectrum.log_vandermonde(gaps)

    c = torch.zeros(3, len(basis), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (c,), eps=1e-5, atol=1e-6)


def _gapped(group, gap, generator):
    phases = torch.rand(3, group.n, generator=generator, dtype=torch.float64) - 0.5
    phases[:, 1] = phases[:, 0] + gap
    phases[:, -1] -= phases.sum(-1)
    return cases.rebuild(group, phases, group.haar(3, generator=generator, dtype=torch.float64))


def test_second_derivatives_raise(generator):
    """They are not defined: an error, never a silent zero."""
    w = SU(3).haar(2, generator=generator, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(spectrum.eigenphases(w)[0].square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.abs().sum().backward()


def test_odd_shapes():
    phases, frame = unitary_eig(torch.eye(3, dtype=torch.complex64).expand(2, 0, 3, 3))
    assert phases.shape == (2, 0, 3)
    assert frame.shape == (2, 0, 3, 3)
    assert unitary_eig(torch.eye(3, dtype=torch.complex64))[0].shape == (3,)


@pytest.mark.parametrize("w", [torch.eye(3), torch.zeros(3, 2, dtype=torch.complex64)])
def test_wrong_input(w):
    with pytest.raises(InvalidInput, match="complex"):
        unitary_eig(w)


def test_numbers_that_are_not_finite_or_not_unitary(generator):
    with pytest.raises(NumericalFailure, match="NaN"):
        unitary_eig(torch.full((2, 2), complex("nan")))
    with pytest.raises(NumericalFailure, match="not unitary"):
        unitary_eig(torch.randn(5, 4, 4, generator=generator, dtype=torch.complex64))
