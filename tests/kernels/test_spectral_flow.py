"""spectral_flow against its reference, from random to degenerate matrices, and as torch sees it."""

import accuracy
import pytest
import samples
import torch
from op_laws import (
    MARKS,
    OPS,
    PARAMETERS,
    Passing,
    assert_close,
    assert_compiles,
    assert_equal,
    assert_no_forward_mode,
    assert_no_second_derivatives,
    by_direction,
    by_dtype,
    plain,
    poisoned,  # noqa: F401
    pull,
)

from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.kernels import build
from lattice_flows.kernels.spectral_flow import KEEP_FRAMES_FROM, LARGEST, n_params, reference
from lattice_flows.kernels.spectral_flow import spectral_flow as op

pytestmark = MARKS


def flow(bins=4, inverse=False):
    return lambda w, params: op(w, params, bins, inverse=inverse)


def inputs(n, generator, *batch, bins=4, dtype=torch.float64):
    """Matrices and parameters, and gradients of the two results."""
    m = torch.Size(batch).numel()
    w = samples.haar(n, m, generator).to(dtype.to_complex()).reshape(*batch, n, n)
    params = torch.randn(*batch, n_params(n, bins), generator=generator, dtype=torch.float64).to(dtype)
    grad_g = torch.randn(w.shape, generator=generator, dtype=torch.complex128).to(w.dtype)
    grad_logdet = torch.randn(batch, generator=generator, dtype=torch.float64).to(dtype)
    return (w, params), (grad_g, grad_logdet)


def exact(leaves, grads, bins=4, inverse=False):
    """The values and gradients of the reference."""
    forward = reference.spectral_flow(*leaves, bins, inverse)
    return *forward, *reference.spectral_flow_backward(*leaves, *grads, bins, inverse)


@by_direction
@by_dtype
@pytest.mark.parametrize("n", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", samples.KINDS)
def test_values_and_gradients(kind, n, dtype, inverse):
    """In units of what is allowed, which the module `accuracy` says."""
    m = {torch.float32: 300, torch.float64: 150}[dtype] // (3 if n == 8 else 1)
    errors = accuracy.worst([kind], n, m, dtype, inverse)[kind]
    assert errors.pop("largest gradient") < 1e4
    assert {"unitarity", "g", "logdet", "grad params"} <= set(errors)
    for name, error in errors.items():
        assert error <= 1, (name, error)


def test_the_reference_is_independent_of_compiled_kernels(generator, monkeypatch):
    def forbidden(*_):
        raise AssertionError("the reference asked for a compiled kernel")

    monkeypatch.setattr(build, "native", forbidden)
    exact(*inputs(3, generator, 5))
    with pytest.raises(AssertionError, match="asked for"):  # as the op does
        op(*inputs(3, generator, 5)[0], 4)


@by_direction
@by_dtype
@pytest.mark.parametrize("n", [2, 3, 5])
def test_no_digit_depends_on_the_other_matrices(n, dtype, inverse, generator):
    """Nor on how many there are: some take more sweeps than others, or double precision."""
    (w, params), grads = inputs(n, generator, 40, dtype=dtype)
    w = torch.cat([samples.matrices(kind, n, 5, generator, w.dtype) for kind in samples.KINDS])
    leaves = w[torch.randperm(40, generator=generator)], params
    everything = pull(flow(inverse=inverse), leaves, grads)
    for some in (slice(0), slice(1), slice(2), slice(7), slice(17), slice(33), slice(3, 40, 5)):
        found = pull(flow(inverse=inverse), [x[some] for x in leaves], [x[some] for x in grads])
        for left, right in zip(found, everything, strict=True):
            assert torch.equal(left, right[some])


@pytest.mark.parametrize("batch", [(), (0,), (2, 0), (0, 3), (1,), (3, 5), (2, 1, 4)], ids=str)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_batches(n, batch, generator):
    leaves, grads = inputs(n, generator, *batch)
    results = pull(flow(), leaves, grads)
    assert [x.shape for x in results] == [leaves[0].shape, torch.Size(batch), leaves[0].shape, leaves[1].shape]
    assert_close(results, exact(leaves, grads), 1e-10)


MATRICES = {
    "transposed": lambda w: w.mT,
    "adjoint": lambda w: w.mH,
    "conjugate": lambda w: w.conj(),
    "strided": lambda w: w[::2, 1::3],
    "permuted": lambda w: w.transpose(0, 1),
    "expanded": lambda w: w[:1].expand_as(w),
}


@pytest.mark.parametrize("layout", MATRICES)
@pytest.mark.parametrize("n", [3, 5])
def test_layouts_of_matrices(layout, n, generator):
    """And of the gradients that come in."""
    (w, _), (grad_g, _) = inputs(n, generator, 6, 9)
    w, grad_g = MATRICES[layout](w), MATRICES[layout](grad_g)
    (_, params), (_, grad_logdet) = inputs(n, generator, *w.shape[:-2])
    copies = pull(flow(), (plain(w), params), (plain(grad_g), grad_logdet))
    assert_equal(pull(flow(), (w, params), (grad_g, grad_logdet)), copies)
    strided = grad_logdet.unsqueeze(-1).expand(*grad_logdet.shape, 2)[..., 0]
    assert_equal(pull(flow(), (w, params), (grad_g, strided.mT.contiguous().mT)), copies)


@by_direction
@by_dtype
@pytest.mark.parametrize("layout", PARAMETERS)
def test_layouts_of_parameters(layout, dtype, inverse, generator):
    (w, params), grads = inputs(3, generator, 3, 21, dtype=dtype)
    params = PARAMETERS[layout](params)
    results = pull(flow(inverse=inverse), (w, params), grads)
    assert_equal(results, pull(flow(inverse=inverse), (w, plain(params)), grads))


@pytest.mark.parametrize("layout", ["row by row", "plane by plane", "plane by plane in each"])
def test_gradient_of_parameters_has_their_layout(layout, generator):
    """So that the backward pass of the convolution before needs no copy either."""
    (w, params), grads = inputs(3, generator, 3, 21)
    params = PARAMETERS[layout](params)
    gradient = pull(flow(), (w, params), grads)[3]
    assert gradient.stride() == params.stride()


@by_direction
@by_dtype
@pytest.mark.parametrize("bins", [1, 2, 8, 64])
def test_numbers_of_bins(bins, dtype, inverse, generator):
    leaves, grads = inputs(3, generator, 21, bins=bins, dtype=dtype)
    w, *others = (x.to(torch.complex128 if x.is_complex() else torch.float64) for x in (*leaves, *grads))
    # what rounding takes away from unitarity the reference in double precision would not accept
    expected = exact((accuracy._nearest_unitary(w), others[0]), others[1:], bins, inverse)
    for some, right in zip(pull(flow(bins, inverse), leaves, grads), expected, strict=True):
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-3}[dtype] * max(1, right.abs().max().item())
        torch.testing.assert_close(some.to(right.dtype), right, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("w", "params", "message"),
    [
        (torch.eye(3), torch.zeros(n_params(3, 4)), "needs complex"),
        (torch.zeros(3, 2) + 0j, torch.zeros(n_params(3, 4)), "needs complex"),
        (torch.ones(1, 1) + 0j, torch.zeros(n_params(3, 4)), "needs complex"),
        (torch.ones(3) + 0j, torch.zeros(n_params(3, 4)), "needs complex"),
        (torch.eye(3) + 0j, torch.zeros(n_params(3, 4), dtype=torch.float64), "must be torch.float32"),
        (torch.eye(3) + 0j, torch.zeros(n_params(3, 4)) + 0j, "must be torch.float32"),
        (torch.eye(3) + 0j, torch.zeros(n_params(3, 5)), "for 4 bins"),
        (torch.eye(3) + 0j, torch.zeros(n_params(2, 4)), "for 4 bins"),
        (torch.eye(3) + 0j, torch.zeros(1, n_params(3, 4)), "for 4 bins"),
        ((torch.eye(3) + 0j).expand(2, 3, 3), torch.zeros(n_params(3, 4)), "for 4 bins"),
    ],
)
def test_wrong_input(w, params, message):
    with pytest.raises(InvalidInput, match=message) as error:
        op(w, params, 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bins", [0, 65, -1, 4.0])
def test_wrong_number_of_bins(bins):
    with pytest.raises(InvalidInput, match="bins must be an integer from 1 to 64"):
        op(torch.eye(3) + 0j, torch.zeros(n_params(3, 4)), bins)


@by_direction
@by_dtype
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("kind", ["nan", "inf", "twice", "random", "zero"])
def test_matrices_that_are_not_finite_or_not_unitary(kind, n, dtype, inverse, generator):
    """One among many, also in the last, incomplete block."""
    (w, params), grads = inputs(n, generator, 35, dtype=dtype)
    w[34] = {
        "nan": torch.full_like(w[0], torch.nan),
        "inf": torch.full_like(w[0], torch.inf),
        "twice": 2 * w[34],
        "random": torch.randn(n, n, generator=generator, dtype=torch.complex128).to(w.dtype),
        "zero": torch.zeros_like(w[0]),
    }[kind]
    with pytest.raises(NumericalFailure, match="NaN or Inf, or are not unitary"):
        op(w, params, 4, inverse=inverse)
    backward = (w[None], params[None], w.real.new_empty(0), *(grad[None] for grad in grads), 4, inverse)
    with pytest.raises(NumericalFailure, match="NaN or Inf, or are not unitary"):
        OPS.spectral_flow_backward(*backward)


@by_direction
@by_dtype
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_parameters_that_are_not_finite(n, value, dtype, inverse, generator):
    """Each in turn: log-determinants are finite where those of the reference are, which does not use them all."""
    m = n_params(n, 4)
    (w, params), _ = inputs(n, generator, 1, dtype=dtype)
    w, params = w.expand(m, n, n), params.expand(m, m).clone()
    params[range(m), range(m)] = value
    g, logdet = op(w, params, 4, inverse=inverse)
    expected_g, expected = reference.spectral_flow(w, params, 4, inverse)
    assert 0 < (~logdet.isfinite()).sum() < m
    assert torch.equal(logdet.isfinite(), expected.isfinite())
    finite = torch.view_as_real(g).isfinite().flatten(1).all(1)
    assert not (finite & ~torch.view_as_real(expected_g).isfinite().flatten(1).all(1)).any()


def test_derivatives_that_are_not_there_raise(generator):
    leaves, _ = inputs(3, generator, 2)
    assert_no_second_derivatives(flow(), leaves)
    assert_no_forward_mode(flow(), leaves)


@pytest.mark.parametrize("n", [3, 5])
def test_functional_gradients(n, generator):
    leaves, grads = inputs(n, generator, 5)
    out, vjp = torch.func.vjp(flow(), *leaves)
    assert_close((*out, *vjp(grads)), pull(flow(), leaves, grads), 1e-11)


@by_direction
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
@pytest.mark.parametrize("n", [3, 5, 9])
def test_compiled_by_torch(n, inverse, generator):
    """N = 5 keeps frames, N = 9 runs the reference."""
    assert_compiles(flow(inverse=inverse), *inputs(n, generator, 2, 5))


@pytest.mark.parametrize("n", [3, 5])
def test_frames(n, generator, monkeypatch):
    """Kept from KEEP_FRAMES_FROM on, where there will be a backward pass; they change nothing."""
    kept = []
    original = build.call

    def call(function, *arguments):
        kept.append(arguments[11].numel() > 0 if "backward" not in function.__name__ else None)
        return original(function, *arguments)

    monkeypatch.setattr(build, "call", call)
    leaves, grads = inputs(n, generator, 3, 7)
    with_frames = pull(flow(), leaves, grads)
    assert kept == [n >= KEEP_FRAMES_FROM, None]
    kept.clear()
    with torch.no_grad():
        flow()(*(x.detach().requires_grad_() for x in leaves))
    flow()(*leaves)
    assert kept == [False, False]
    without = OPS.spectral_flow_backward(*leaves, leaves[1].new_empty(0), *grads, 4, False)
    assert_close(with_frames[2:], without, 1e-11)


@by_dtype
@pytest.mark.parametrize("n", [3, 5])
def test_threads_change_nothing(n, dtype, generator):
    leaves, grads = inputs(n, generator, 333, dtype=dtype)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(pull(flow(), leaves, grads))
    assert_equal(*results)


@by_direction
def test_beyond_the_compiled_sizes(inverse, generator):
    leaves, grads = inputs(LARGEST + 1, generator, 5)
    assert_equal(pull(flow(inverse=inverse), leaves, grads), exact(leaves, grads, inverse=inverse))


@by_direction
@pytest.mark.parametrize("n", [2, 3, 5])
def test_without_a_compiler(n, inverse, generator, monkeypatch):
    leaves, grads = inputs(n, generator, 3, 7)
    leaves = leaves[0].mH, leaves[1].mT.contiguous().mT
    compiled = pull(flow(inverse=inverse), leaves, grads)
    monkeypatch.setattr(build, "native", lambda *_: None)
    expected = pull(flow(inverse=inverse), leaves, grads)
    assert_close(compiled, expected, 1e-10)
    assert_close(exact(leaves, grads, inverse=inverse), expected, 1e-12)
    with Passing():
        assert_equal(pull(flow(inverse=inverse), leaves, grads), expected)


@pytest.mark.parametrize("n", [2, 5])
def test_opcheck(n, generator):
    """Schema, and shapes and strides of the fake ops."""
    (w, params), (grad_g, grad_logdet) = inputs(n, generator, 2, 5)
    planes = PARAMETERS["plane by plane"](params)
    torch.library.opcheck(OPS.spectral_flow.default, (w.mT, planes, 4, False, False))
    # without comparing two runs: the frames have room that is never written
    tests = "test_schema", "test_faketensor"
    torch.library.opcheck(OPS.spectral_flow.default, (w.mT, planes, 4, False, True), test_utils=tests)
    frames = OPS.spectral_flow(w, planes, 4, False, n >= KEEP_FRAMES_FROM)[2]
    torch.library.opcheck(OPS.spectral_flow_backward.default, (w, planes, frames, grad_g.mT, grad_logdet, 4, True))
