"""spectral_power: the laws of powers, and the compiled kernel against its reference, far from and near degeneracy."""

import cmath
import math

import cases
import pytest
import torch

from lattice_flows import SU
from lattice_flows.kernels import spectral_power, spectrum
from lattice_flows.kernels.spectral_power import reference
from lattice_flows.kernels.unitary_eig.reference import unitary_eig

NS = [2, 3, 4, 5, 8]
KINDS = ["haar", "1e-2 of 1", "1e-4 of 1", "gap 1e-3", "gap 1e-6", "degenerate", "1e-2 of the centre", "identity"]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

by_case = pytest.mark.parametrize("kind", KINDS)
by_n = pytest.mark.parametrize("n", NS)
by_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(autouse=True)
def _poisoned_buffers():
    """Memory that an op allocates holds NaN until it is written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def _plain_decomposition(monkeypatch):
    """The reference then shares nothing with the compiled kernel."""
    monkeypatch.setattr(spectrum, "unitary_eig", unitary_eig)


def matrices(kind, n, generator, m=133):
    """In float64; an odd number, so that the last block of lanes is not full."""
    group = SU(n)
    frame = group.haar(m, generator=generator, dtype=torch.float64)
    if kind == "haar":
        return frame
    if kind == "identity":
        return group.identity(m, dtype=torch.float64)
    phases = torch.rand(m, n, generator=generator, dtype=torch.float64) - 0.5
    size = {"1e-2 of 1": 1e-2, "1e-4 of 1": 1e-4, "1e-2 of the centre": 1e-2}.get(kind, 1)
    phases *= size
    gap = {"gap 1e-3": 1e-3, "gap 1e-6": 1e-6, "degenerate": 0.0}.get(kind)
    if gap is not None:
        phases[:, 1] = phases[:, 0] + gap
        phases[:, 2:] += 1
        phases -= phases.mean(-1, keepdim=True)
    else:
        phases -= phases.mean(-1, keepdim=True)
    if kind == "1e-2 of the centre":
        phases += 2 * math.pi / n * torch.randint(1, n, (m, 1), generator=generator).double()
    return cases.rebuild(group, phases, frame)


def case(kind, n, dtype, generator):
    """w and exponents in `dtype`, and the condition `(M, 1, 1)` of w^s: rounding turns the frame by 1 / closing gap."""
    w = matrices(kind, n, generator)
    s = 2 * torch.rand(w.shape[:1], generator=generator, dtype=torch.float64) - 1
    condition = 1 + 1 / spectrum.gaps(spectrum.eigenphases(w)[0])[:, -1]
    return w.to(dtype.to_complex()), s.to(dtype), condition[:, None, None].to(dtype)


def largest(difference):
    return float(difference.abs().max())


def pull(power, w, *others):
    """The values, and the gradient of w for a cotangent that is the same for all."""
    w = w.detach().requires_grad_()
    out = power(w, *others)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(w.shape, generator=generator, dtype=torch.complex128).to(w.dtype)
    return out.detach(), *torch.autograd.grad(out, w, grad), grad


@by_case
@by_n
@by_dtype
def test_zero_and_one(kind, n, dtype, generator):
    w, _, _ = case(kind, n, dtype, generator)
    assert largest(spectral_power(w, 1.0) - w) < TOLERANCE[dtype]
    assert largest(spectral_power(w, 0.0) - torch.eye(n)) < TOLERANCE[dtype]


@by_case
@by_n
@by_dtype
def test_exponents_add(kind, n, dtype, generator):
    w, s, _ = case(kind, n, dtype, generator)
    t = s.flip(0)
    product = spectral_power(w, s) @ spectral_power(w, t)
    assert largest(product - spectral_power(w, s + t)) < TOLERANCE[dtype]


@by_case
@by_n
@by_dtype
def test_square_of_the_root(kind, n, dtype, generator):
    """Of powers of a power in general for |s| <= 1: the phases of w^s stay in the alcove."""
    w, s, condition = case(kind, n, dtype, generator)
    assert largest(spectral_power(spectral_power(w, 0.5), 2.0) - w) < TOLERANCE[dtype]
    powers = spectral_power(spectral_power(w, s), 0.3) - spectral_power(w, s * 0.3)
    assert largest(powers / condition) < TOLERANCE[dtype]


@by_case
@by_n
@by_dtype
def test_in_the_group(kind, n, dtype, generator):
    w, s, _ = case(kind, n, dtype, generator)
    assert SU(n).defect(spectral_power(w, s)).max() < TOLERANCE[dtype]


@by_case
@by_n
@by_dtype
def test_covariance(kind, n, dtype, generator):
    w, s, condition = case(kind, n, dtype, generator)
    v = SU(n).haar(len(w), generator=generator, dtype=dtype)
    turned = v @ spectral_power(w, s) @ v.mH - spectral_power(v @ w @ v.mH, s)
    assert largest(turned / condition) < TOLERANCE[dtype]


@by_n
def test_powers_of_an_exponential(n, generator):
    """exp(X)^s = exp(s X), values and gradients, as long as the phases of X lie in the alcove."""
    x = 0.4 * SU(n).random_algebra(60, generator=generator, dtype=torch.float64)
    assert spectrum.gaps(torch.linalg.eigvalsh(1j * x))[:, -1].min() > 0.2
    s = torch.rand(60, generator=generator, dtype=torch.float64)
    power, gradient, _ = pull(lambda x: spectral_power(torch.linalg.matrix_exp(x), s), x)
    expected, expected_gradient, _ = pull(lambda x: torch.linalg.matrix_exp(s[:, None, None] * x), x)
    assert largest(power - expected) < 1e-12
    project = SU(n).project_algebra
    assert largest(project(gradient) - project(expected_gradient)) < 1e-10


@by_case
@by_n
@by_dtype
@pytest.mark.parametrize(("exponent", "product"), [(-1.0, lambda w: w.mH), (2.0, lambda w: w @ w), (1.0, lambda w: w)])
def test_integer_powers_are_products(kind, n, dtype, exponent, product, generator):
    """Smooth everywhere, near the centre too: the condition does not enter."""
    w, _, _ = case(kind, n, dtype, generator)
    power, gradient, _ = pull(spectral_power, w, exponent)
    expected, expected_gradient, _ = pull(product, w)
    assert largest(power - expected) < TOLERANCE[dtype]
    assert largest(gradient - spectrum.tangent(w, expected_gradient)) < 5 * TOLERANCE[dtype]


@pytest.mark.usefixtures("_plain_decomposition")
@by_case
@pytest.mark.parametrize("n", range(2, 9))
@by_dtype
def test_against_the_reference_in_double(kind, n, dtype, generator):
    """Relative to the condition for values, and to its square for gradients."""
    w, s, condition = case(kind, n, torch.float64, generator)
    power, gradient, grad = pull(spectral_power, w.to(dtype.to_complex()), s.to(dtype))
    s, grad = s.to(dtype).double(), grad.to(w.dtype)
    assert largest((power - reference.spectral_power(w, s)) / condition) < TOLERANCE[dtype]
    expected = reference.spectral_power_backward(w, s, grad)
    assert largest((gradient - expected) / condition**2) < TOLERANCE[dtype]


@pytest.mark.usefixtures("_plain_decomposition")
@pytest.mark.parametrize("n", NS[:4])
@pytest.mark.parametrize("kind", ["haar", "1e-2 of 1", "gap 1e-3", "degenerate", "identity"])
@pytest.mark.parametrize("power", [spectral_power, lambda w, s: _Reference.apply(w, s)], ids=["op", "reference"])
def test_gradcheck(n, kind, power, generator):
    """Along the group, also exactly where phases meet."""
    group = SU(n)
    w = matrices(kind, n, generator, m=3)
    s = torch.tensor([-0.7, 0.3, 1.6], dtype=torch.float64)
    basis = group.generators(dtype=torch.float64)

    def along_the_group(c):
        moved = torch.linalg.matrix_exp(torch.tensordot(c.to(basis.dtype), basis, dims=1)) @ w
        return torch.view_as_real(power(moved, s))

    c = torch.zeros(3, len(basis), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along_the_group, (c,), eps=1e-5, atol=1e-7)


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, s):
        ctx.save_for_backward(w, s)
        return reference.spectral_power(w, s)

    @staticmethod
    def backward(ctx, grad):
        return reference.spectral_power_backward(*ctx.saved_tensors, grad), None


@by_n
@by_dtype
def test_gradients_are_tangent(n, dtype, generator):
    w, s, _ = case("haar", n, dtype, generator)
    _, gradient, _ = pull(spectral_power, w, s)
    x = w.mH @ gradient
    assert largest(x - SU(n).project_algebra(x)) < 20 * TOLERANCE[dtype]


@by_n
@by_dtype
def test_where_the_closing_gap_vanishes(n, dtype):
    """At the other elements of the centre: some root, in the group, and a gradient that is finite."""
    for k in range(1, n):
        w = torch.eye(n, dtype=dtype.to_complex()) * cmath.exp(2j * math.pi * k / n)
        power, gradient, _ = pull(spectral_power, w[None], 0.5)
        assert SU(n).defect(power).max() < TOLERANCE[dtype]
        assert largest(power @ power - w) < TOLERANCE[dtype]
        assert torch.view_as_real(gradient).isfinite().all()
