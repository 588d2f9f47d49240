"""spectral_power as torch sees it: layouts, sizes, errors, what has no derivative, compilation, threads."""

import pytest
import torch

from lattice_flows import SU
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.kernels import build, spectral_power
from lattice_flows.kernels.spectral_power import LARGEST, reference

DTYPES = [torch.float64, torch.float32]
OPS = torch.ops.lattice_flows


@pytest.fixture(autouse=True)
def _poisoned_buffers():
    """Memory that an op allocates holds NaN until it is written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def haar(*shape, generator, n=3, dtype=torch.float64):
    return SU(n).haar(*shape, generator=generator, dtype=dtype)


def pull(w, s, grad):
    w = w.detach().requires_grad_()
    out = spectral_power(w, s)
    return out.detach(), *torch.autograd.grad(out, w, grad)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_digit_depends_on_the_other_matrices(n, dtype, generator):
    """Nor on how many there are: those near the identity take fewer sweeps."""
    w, grad = haar(40, generator=generator, n=n, dtype=dtype), haar(40, generator=generator, n=n, dtype=dtype)
    w = spectral_power(w, torch.tensor([0.5, 1e-3], dtype=dtype).repeat(20))
    s = torch.rand(40, generator=generator, dtype=dtype)
    everything = pull(w, s, grad)
    for some in (slice(0), slice(1), slice(2), slice(7), slice(8), slice(9), slice(17), slice(33), slice(0, 40, 2)):
        for left, right in zip(pull(w[some], s[some], grad[some]), everything, strict=True):
            assert torch.equal(left, right[some])


def plain(view):
    return view.resolve_conj().clone(memory_format=torch.contiguous_format)


LAYOUTS = {
    "transposed": lambda w: w.mT,
    "adjoint": lambda w: w.mH,
    "conjugate": lambda w: w.conj(),
    "strided": lambda w: w[::2, 1::3],
    "permuted": lambda w: w.permute(1, 0, 3, 2),
    "expanded": lambda w: w[:1].expand_as(w),
    "one matrix": lambda w: w[0, 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, generator):
    """Of the matrices, the exponents and the incoming gradient."""
    view = LAYOUTS[layout]
    w, grad = view(haar(6, 9, generator=generator)), view(haar(6, 9, generator=generator))
    s = torch.rand(*w.shape[:-2], 4, generator=generator, dtype=torch.float64)[..., 1]
    for some, expected in zip(pull(w, s, grad), pull(plain(w), plain(s), plain(grad)), strict=True):
        assert torch.equal(some, expected)


def test_exponents_broadcast(generator):
    w = haar(4, 5, generator=generator)
    s = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    for exponent in (0.3, 2, s[0, 0], s[0], s[:, :1], s[:1], -torch.complex(s, -s).conj().imag):
        expected = torch.as_tensor(exponent, dtype=torch.float64).expand(4, 5).clone()
        assert torch.equal(spectral_power(w, exponent), spectral_power(w, expected))


@pytest.mark.parametrize(
    "w",
    [
        torch.eye(3),
        torch.zeros(3, 2, dtype=torch.complex64),
        torch.ones(1, 1) + 0j,
        torch.ones(3) + 0j,
    ],
)
def test_wrong_matrices(w):
    with pytest.raises(InvalidInput, match="spectral_power needs complex"):
        spectral_power(w, 0.5)


@pytest.mark.parametrize(
    ("exponent", "message"),
    [
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (1j, "real number"),
        (torch.ones(5, dtype=torch.float64), "must be torch.float32"),
        (torch.ones(5, dtype=torch.int64), "must be torch.float32"),
        (torch.ones(4), "broadcast"),
        (torch.ones(2, 5), "broadcast"),
        (torch.ones(5, requires_grad=True), "no derivative"),
    ],
)
def test_wrong_exponents(exponent, message):
    with pytest.raises(InvalidInput, match=message):
        spectral_power(torch.eye(3, dtype=torch.complex64).expand(5, 3, 3), exponent)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(
    "bad", [[[float("nan"), 0], [0, 1]], [[float("inf"), 0], [0, 1]], [[0, 1], [0, 0]], [[2, 0], [0, 2]]]
)
def test_numbers_that_are_not_finite_or_not_unitary(bad, dtype):
    w = torch.eye(2, dtype=dtype).repeat(35, 1, 1)
    w[34] = torch.tensor(bad, dtype=dtype)
    with pytest.raises(NumericalFailure, match="NaN or Inf, or are not unitary"):
        spectral_power(w, 0.5)
    with pytest.raises(NumericalFailure, match="NaN or Inf, or are not unitary"):
        OPS.spectral_power_backward(w, torch.ones(35, dtype=dtype.to_real()), w)


def test_second_derivatives_raise(generator):
    """They are not defined: an error, never a silent zero."""
    w = haar(2, generator=generator).requires_grad_()
    (gradient,) = torch.autograd.grad(spectral_power(w, 0.5).real.sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="has no derivative"):
        gradient.abs().sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_raises(generator):
    w = haar(2, generator=generator)
    s = torch.rand(2, generator=generator, dtype=torch.float64)
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda w: spectral_power(w, s), (w,), (w,))
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda s: spectral_power(w, s), (s,), (s,))


def test_functional_gradients(generator):
    w, grad = haar(2, generator=generator), haar(2, generator=generator)
    _, vjp = torch.func.vjp(lambda w: spectral_power(w, 0.5), w)
    assert torch.equal(vjp(grad)[0], pull(w, 0.5, grad)[1])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_compiled_by_torch(generator):
    w, grad = haar(2, 5, generator=generator), haar(2, 5, generator=generator)
    s = torch.rand(5, generator=generator, dtype=torch.float64)
    compiled = torch.compile(spectral_power, fullgraph=True, backend="aot_eager")
    for exponent in (s, 0.3, 0.4):
        x = w.clone().requires_grad_()
        out = compiled(x, exponent)
        for some, eager in zip((out, *torch.autograd.grad(out, x, grad)), pull(w, exponent, grad), strict=True):
            assert torch.equal(some, eager)


def test_opcheck(generator):
    """Schema, and shapes and strides of the fake ops."""
    w, s = haar(5, generator=generator), torch.rand(5, generator=generator, dtype=torch.float64)
    torch.library.opcheck(OPS.spectral_power.default, (w, s))
    torch.library.opcheck(OPS.spectral_power.default, (w.mT, s[:1].expand(5)))
    torch.library.opcheck(OPS.spectral_power_backward.default, (w, s, w.mT))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_threads(dtype, generator):
    w, grad = haar(333, generator=generator, dtype=dtype), haar(333, generator=generator, dtype=dtype)
    s = torch.rand(333, generator=generator, dtype=dtype)
    one = pull(w, s, grad)
    torch.set_num_threads(2)
    two = pull(w, s, grad)
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("n", [3, 9])
def test_without_a_kernel(n, monkeypatch, generator):
    """For want of a compiler, or for large N, the op is its reference."""
    if n <= LARGEST:
        monkeypatch.setattr(build, "native", lambda *_: None)
    w, grad = haar(7, generator=generator, n=n), haar(7, generator=generator, n=n)
    s = torch.rand(7, generator=generator, dtype=torch.float64)
    for some, expected in zip(
        pull(w.mT, s, grad.mT),
        (reference.spectral_power(w.mT, s), reference.spectral_power_backward(w.mT, s, grad.mT)),
        strict=True,
    ):
        assert torch.equal(some, expected)
        assert some.is_contiguous()
