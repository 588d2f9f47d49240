"""The exponential map: against eigenvectors in double precision, at every norm and degeneracy, and as torch sees it."""

import cases
import pytest
import torch

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import algebra_exp, build
from lattice_flows.kernels.algebra_exp import LARGEST, _backward, _forward, reference

NS = [2, 3, 4]
DTYPES = [torch.complex128, torch.complex64]
KINDS = {
    "random": 1.0,
    "moderate": 4.0,
    "large": 30.0,
    "1e-4": 1e-4,
    "1e-8": 1e-8,
    "zero": 0.0,
    "degenerate": 1.0,
    "large degenerate": 30.0,
    "1e-3 from degenerate": 1.0,
    "1e-6 from degenerate": 1.0,
    "large, 1e-3 from degenerate": 30.0,
    "large, 1e-6 from degenerate": 30.0,
    "mixed": 1.0,
}

by_n = pytest.mark.parametrize("n", NS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture
def poisoned():
    """torch.empty gives NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def inputs(kind, n, generator, dtype=torch.complex128, m=203):
    """Elements of the algebra, up to rounding, and gradients of their exponentials."""
    group = SU(n)
    x = group.random_algebra(m, generator=generator, dtype=torch.float64)
    if "degenerate" in kind:
        V = group.haar(m, generator=generator, dtype=torch.float64)
        twice = V @ torch.diag(torch.tensor([1j] * (n - 1) + [-(n - 1) * 1j], dtype=torch.complex128)) @ V.mH
        away = next((float(word) for word in kind.replace(",", "").split() if word[0].isdigit()), 0.0)
        x = twice + away * x
    if kind == "mixed":  # every size in one block
        x = x * torch.logspace(-8, 2, m, dtype=torch.float64)[torch.randperm(m, generator=generator), None, None]
    grad = torch.randn(x.shape, generator=generator, dtype=torch.complex128)
    return (KINDS[kind] * x).to(dtype), grad.to(dtype)


def exact(x, grad):
    """exp and its gradient by eigenvectors in double precision, with the formula of Daleckii and Krein."""
    x, grad = reference.project(x.to(torch.complex128)), grad.to(torch.complex128)
    phase, V = torch.linalg.eigh(-1j * x)
    half_sum, half_gap = (phase[:, :, None] + phase[:, None]) / 2, (phase[:, :, None] - phase[:, None]) / 2
    mixing = torch.polar(torch.sinc(half_gap / torch.pi).abs(), -half_sum) * torch.sinc(half_gap / torch.pi).sgn()
    return cases.rebuild(SU(x.shape[-1]), phase, V), reference.project(V @ (mixing * (V.mH @ grad @ V)) @ V.mH)


def norm(x):
    return x.abs().square().sum((-2, -1)).sqrt().double()


def pull(function, x, grad):
    """Value and gradient."""
    x = x.detach().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, grad)[0]


@by_n
@by_dtype
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients(n, dtype, kind, generator, poisoned):
    """To rounding errors times 1 + |x|: what the rounding of x itself does to exp(x)."""
    x, grad = inputs(kind, n, generator, dtype)
    y, grad_x = pull(algebra_exp, x, grad)
    expected, expected_grad = exact(x, grad)
    size = torch.finfo(dtype).eps * (1 + norm(x))
    assert ((y - expected).abs().amax((-2, -1)) < 12 * size).all()
    assert ((grad_x - expected_grad).abs().amax((-2, -1)) < 12 * size * norm(grad)).all()
    # a compiled kernel, unlike torch.linalg.matrix_exp, is unitary whatever the norm
    compiled = n <= LARGEST and build.native("algebra_exp", dtype.to_complex(), n)
    defect = (y.mH @ y - torch.eye(n)).abs().amax((-2, -1))
    assert (defect < 16 * (torch.finfo(dtype).eps if compiled else size)).all()
    assert (grad_x + grad_x.mH).abs().max() <= torch.finfo(dtype).eps * grad_x.abs().max()


@by_n
def test_small_elements_keep_their_digits(n, generator):
    """exp(x) - 1 = x (1 + x / 2 + ...), although 1 + x has lost x."""
    x, _ = inputs("1e-8", n, generator, torch.complex64)
    upper = torch.ones(n, n).triu(1).bool()
    y = algebra_exp(x)
    assert ((y - x)[:, upper].abs() < 1e-6 * x[:, upper].abs().amax()).all()


@by_n
@by_dtype
def test_the_nearest_element_of_the_algebra(n, dtype, generator, poisoned):
    """What x has besides, as after rounding, changes neither the value nor the gradient."""
    x, grad = inputs("random", n, generator, dtype)
    x = SU(n).project_algebra(x)
    stray = torch.randn(x.shape, generator=generator, dtype=dtype)
    stray = stray - SU(n).project_algebra(stray)
    for left, right in zip(pull(algebra_exp, x + stray, grad), pull(algebra_exp, x, grad), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=100 * torch.finfo(dtype).eps)


@by_n
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,), (17,), (3, 5), (33,)], ids=str)
def test_shapes(n, shape, generator, poisoned):
    x = SU(n).random_algebra(*shape, generator=generator, dtype=torch.float64)
    y, grad_x = pull(algebra_exp, x, x)
    assert y.shape == grad_x.shape == x.shape
    torch.testing.assert_close(y, reference.algebra_exp(x), rtol=0, atol=1e-13)


@by_n
@pytest.mark.parametrize("view", [lambda x: x.mH, lambda x: x.mT, lambda x: x[::2], lambda x: x.conj().transpose(0, 1)])
def test_views(n, view, generator, poisoned):
    """Strided, transposed and lazily conjugated inputs and gradients are what their copies are."""
    x = view(SU(n).random_algebra(6, 5, generator=generator, dtype=torch.float64))
    grad = view(torch.randn(6, 5, n, n, generator=generator, dtype=torch.complex128))
    copies = x.clone(memory_format=torch.contiguous_format), grad.clone(memory_format=torch.contiguous_format)
    for left, right in zip(pull(algebra_exp, x, grad), pull(algebra_exp, *copies), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-13)


@by_n
@pytest.mark.parametrize("kind", ["random", "zero", "degenerate", "moderate"])
def test_gradcheck(n, kind, generator):
    """With respect to real coefficients of the generators."""
    basis = SU(n).generators(dtype=torch.float64)
    base, _ = inputs(kind, n, generator, m=2)
    c = torch.zeros(2, len(basis), dtype=torch.float64, requires_grad=True)
    function = lambda c: algebra_exp(base + torch.tensordot(c.to(basis.dtype), basis, dims=1))  # noqa: E731
    assert torch.autograd.gradcheck(function, (c,))
    jacobian = torch.autograd.functional.jacobian(lambda c: torch.view_as_real(function(c)), c)
    assert jacobian.shape == (2, n, n, 2, 2, len(basis))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_derivatives_that_are_not_there_raise(generator):
    x = SU(3).random_algebra(2, generator=generator).requires_grad_()
    (gradient,) = torch.autograd.grad(algebra_exp(x).abs().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="has no derivative"):
        gradient.abs().sum().backward()
    with pytest.raises(RuntimeError, match="jvp"):
        torch.func.jvp(algebra_exp, (x.detach(),), (x.detach(),))


@by_n
def test_without_a_compiler(n, generator, monkeypatch):
    x, grad = inputs("random", n, generator)
    compiled = pull(algebra_exp, x, grad)
    monkeypatch.setattr(build, "native", lambda *_: None)
    for left, right in zip(compiled, pull(algebra_exp, x, grad), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-13)


@by_n
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_under_compilation(n, generator):
    x, grad = inputs("random", n, generator)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: 2 * algebra_exp(x), fullgraph=True, backend="aot_eager")
    for left, right in zip(pull(compiled, x, grad), pull(lambda x: 2 * algebra_exp(x), x, grad), strict=True):
        assert torch.equal(left, right)


@by_n
def test_as_an_operator(n, generator):
    x, grad = inputs("random", n, generator, m=3)
    for view in (x, x.mT):
        torch.library.opcheck(_forward, (view,))
        torch.library.opcheck(_backward, (view, grad.mT))


@by_n
def test_threads_change_nothing(n, generator):
    x, grad = inputs("mixed", n, generator)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(pull(algebra_exp, x, grad))
    assert all(map(torch.equal, *results))


@by_n
@by_dtype
def test_what_is_not_finite_stays_so(n, dtype, generator):
    """And the matrices beside it in a block are what they are without it."""
    x, grad = inputs("moderate", n, generator, dtype, m=20)
    broken = x.clone()
    broken[3], broken[7] = torch.nan, torch.inf
    kept = torch.arange(20) != 3
    kept[7] = False
    with_it, without = pull(algebra_exp, broken, grad), pull(algebra_exp, x, grad)
    for left, right in zip(with_it, without, strict=True):
        assert not left[[3, 7]].isfinite().all((-2, -1)).any()
        torch.testing.assert_close(left[kept], right[kept], rtol=0, atol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    "x",
    [torch.eye(3), torch.zeros(3, 2, dtype=torch.complex64), torch.zeros(2, 1, 1, dtype=torch.complex64),
     torch.tensor(1j), torch.zeros(3, dtype=torch.complex64)],
)  # fmt: skip
def test_wrong_input(x):
    with pytest.raises(InvalidInput, match=r"algebra_exp needs complex \(\.\.\., N, N\)") as error:
        algebra_exp(x)
    assert "\n" not in str(error.value)
