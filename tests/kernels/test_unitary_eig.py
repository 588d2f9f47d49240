"""unitary_eig: the compiled kernel against the reference, and the op as torch sees it."""

import math

import cases
import pytest
import torch

from lattice_flows import SU
from lattice_flows.errors import NumericalFailure
from lattice_flows.kernels import unitary_eig
from lattice_flows.kernels.unitary_eig import reference

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}
OP = torch.ops.lattice_flows.unitary_eig.default
KINDS = ["haar", "near 1", "gap 1e-6", "degenerate", "near the centre", "near -1", "identity"]

by_n = pytest.mark.parametrize("n", range(2, 9))
by_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@pytest.fixture(autouse=True)
def _poisoned_buffers():
    """Memory that an op allocates holds NaN until it is written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def matrices(kind, n, generator, m=133):
    """Unitary, of any determinant, in float64; an odd number, so that the last block of lanes is not full."""
    frame = SU(n).haar(m, generator=generator, dtype=torch.float64)
    phases = 6 * torch.rand(m, n, generator=generator, dtype=torch.float64) - 3
    if kind.startswith("near"):
        middle = {"near 1": 0, "near the centre": 2 * math.pi / n, "near -1": math.pi}[kind]
        phases = middle + 1e-4 * phases
    elif kind == "identity":
        phases *= 0
    elif kind != "haar":
        phases[:, 1] = phases[:, 0] + (1e-6 if kind == "gap 1e-6" else 0)
    return cases.rebuild(SU(n), phases, frame)


def rebuilt(phases, frame, function):
    return (frame * torch.exp(1j * function(phases)).unsqueeze(-2)) @ frame.mH


@pytest.mark.parametrize("kind", KINDS)
@by_n
@by_dtype
def test_decomposition(kind, n, dtype, generator):
    w = matrices(kind, n, generator).to(dtype.to_complex())
    phases, frame = unitary_eig(w)
    assert (frame.mH @ frame - torch.eye(n)).abs().max() < 10 * torch.finfo(dtype).eps
    assert (rebuilt(phases, frame, lambda x: x) - w).abs().max() < TOLERANCE[dtype]
    assert phases.abs().max() <= torch.tensor(math.pi, dtype=dtype)


@pytest.mark.parametrize("kind", KINDS)
@by_n
@by_dtype
def test_against_the_reference_in_double(kind, n, dtype, generator):
    """In what does not depend on the frame: a smooth function of the phases, that is one of the angle too."""
    w = matrices(kind, n, generator)
    result = rebuilt(*unitary_eig(w.to(dtype.to_complex())), torch.sin)
    assert (result - rebuilt(*reference.unitary_eig(w), torch.sin)).abs().max() < TOLERANCE[dtype]


@by_dtype
def test_small_phases_keep_their_relative_precision(dtype, generator):
    for n in (2, 3, 8):
        expected = torch.tensor([1e-6, 2e-9] + [-3e-7 * k for k in range(1, n - 1)], dtype=torch.float64)
        w = torch.diag(torch.complex(expected.cos(), expected.sin())).to(dtype.to_complex())
        phases, _ = unitary_eig(w)
        torch.testing.assert_close(
            phases.sort().values.double(), expected.sort().values, rtol=8 * torch.finfo(dtype).eps, atol=0
        )


@pytest.mark.parametrize("n", [3, 5])
@by_dtype
def test_no_digit_depends_on_the_other_matrices(n, dtype, generator):
    """Nor on how many there are: some take more sweeps than others."""
    w = torch.cat([matrices(kind, n, generator, 7) for kind in KINDS]).to(dtype.to_complex())
    w = w[torch.randperm(len(w), generator=generator)]
    everything = unitary_eig(w)
    for some in (slice(1), slice(17), slice(2, 49, 3)):
        for left, right in zip(unitary_eig(w[some]), everything, strict=True):
            assert torch.equal(left, right[some])


@pytest.mark.parametrize("n", [3, 9])
def test_layouts_and_sizes(n, generator):
    """N = 9 has no kernel and runs the reference."""
    w = SU(n).haar(5, 7, generator=generator, dtype=torch.float64)
    for view in (w.mH, w.conj(), w[::2, 1:], w.mT, w[:0], w[0, 0]):
        plain = view.resolve_conj().clone(memory_format=torch.contiguous_format)
        phases, frame = unitary_eig(view)
        expected = rebuilt(*unitary_eig(plain), torch.sin)
        torch.testing.assert_close(rebuilt(phases, frame, torch.sin), expected, rtol=0, atol=1e-13)
        assert phases.is_contiguous()
        assert frame.is_contiguous()


def test_opcheck(generator):
    """Schema, and shapes and strides of the fake op."""
    w = SU(3).haar(5, generator=generator, dtype=torch.float64)
    torch.library.opcheck(OP, (w,))
    torch.library.opcheck(OP, (w.mT,))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_compiled_by_torch_and_threads(generator):
    w = SU(3).haar(333, generator=generator, dtype=torch.float64)
    one = unitary_eig(w)
    compiled = torch.compile(unitary_eig, fullgraph=True, backend="aot_eager")(w)
    torch.set_num_threads(2)
    two = unitary_eig(w)
    torch.set_num_threads(1)
    for a, b, c in zip(one, compiled, two, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@pytest.mark.parametrize("implementation", [unitary_eig, reference.unitary_eig])
@pytest.mark.parametrize("bad", [[[0, 1], [0, 0]], [[2, 0], [0, 2]], [[float("inf"), 0], [0, 1]]])
def test_not_unitary(implementation, bad):
    """Where rotations would converge, or find nothing wrong."""
    with pytest.raises(NumericalFailure, match="not unitary"):
        implementation(torch.tensor(bad, dtype=torch.complex128)[None])


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_no_derivative(generator):
    """Asking for one raises; it is not left out of a sum in silence."""
    w = SU(3).haar(2, generator=generator)
    for out in unitary_eig(w.clone().requires_grad_()):
        with pytest.raises(NotImplementedError, match="no derivative"):
            out.abs().sum().backward()
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no derivative"):
        unitary_eig(torch.autograd.forward_ad.make_dual(w, w))
