"""circular_spline against its reference, at knots and at the cut too, and as torch sees it."""

import math

import pytest
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

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.circular_spline import circular_spline as op
from lattice_flows.kernels.circular_spline import n_params, reference
from lattice_flows.kernels.splines import knots

pytestmark = MARKS


def spline(bins=4, inverse=False):
    return lambda angle, params: op(angle, params, bins, inverse=inverse)


def inputs(generator, *batch, bins=4, dtype=torch.float64):
    """Angles and parameters, and gradients of the two results."""
    angle = 2 * math.pi * torch.rand(batch, generator=generator, dtype=torch.float64) - math.pi
    params = torch.randn(*batch, n_params(bins), generator=generator, dtype=torch.float64)
    grads = torch.randn(2, *batch, generator=generator, dtype=torch.float64).to(dtype)
    return (angle.to(dtype), params.to(dtype)), tuple(grads)


def exact(leaves, grads, bins=4, inverse=False):
    """The values and gradients of the reference."""
    forward = reference.circular_spline(*leaves, bins, inverse)
    return *forward, *reference.circular_spline_backward(*leaves, *grads, bins, inverse)


def special(params, bins, inverse, generator):
    """Angles at random; within 1e-3, 1e-6 and 1e-12 of the cut; and as near to a knot, which is at h^-1 of it."""
    m = len(params)
    angle = 2 * math.pi * torch.rand(m, generator=generator, dtype=torch.float64) - math.pi
    sign = 1 - 2 * (torch.arange(m) % 2)
    distance = sign * torch.tensor([1e-3, 1e-6, 1e-12], dtype=torch.float64)[torch.arange(m) // 2 % 3]
    curve = knots(params[:, :-1].double(), bins, circular=True)
    edges = (curve.heights if inverse else curve.widths).cumsum(0)
    knot = edges[torch.arange(m) % bins, torch.arange(m)]
    at = 2 * math.pi * knot - math.pi + (params[:, -1].double() if inverse else 0)
    third = m // 3
    angle[:third] = (math.pi + distance)[:third]
    angle[third : 2 * third] = (at + distance)[third : 2 * third]
    return reference.wrap(angle)


@by_direction
@by_dtype
@pytest.mark.parametrize("bins", [1, 2, 8, 64])
def test_values_and_gradients(bins, dtype, inverse, generator):
    """Of 20,000 angles, relative to the largest gradient of each that is more than 1.

    At knots the gradients have a step: log|dh/dangle| is continuous, its derivative is not. As rounding may put an
    angle in the next bin, they are those at the angle or to either side of it.
    """
    m = 20_000 if bins < 64 else 5_000
    (_, params), grads = inputs(generator, m, bins=bins, dtype=dtype)
    angle = special(params, bins, inverse, generator).to(dtype)
    angle = torch.where(angle.double() < math.pi, angle, -angle)  # as pi in float32 is above pi
    results = pull(spline(bins, inverse), (angle, params), grads)
    width = {torch.float64: 1e-13, torch.float32: 1e-5}[dtype]
    # the narrower the bins, the faster the gradients change within the rounding errors of an angle
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-4 * bins}[dtype]
    errors = []
    for shift in (0, width, -width):
        moved = reference.wrap(angle.double() + shift)
        expected = exact((moved, params.double()), [x.double() for x in grads], bins, inverse)
        row = []
        for some, right in zip(results, expected, strict=True):
            error = (some.double() - right).abs()
            if error.ndim > 1:
                error, right = error.amax(-1), right.abs().amax(-1)
            row.append(error / right.abs().clamp_min(1))
        row[0] = torch.minimum(row[0], (2 * math.pi - row[0]).abs())  # -pi and pi are one
        errors.append(torch.stack(row))
    step, logdet = errors[0][:2].amax(-1).tolist()
    grad_angle, grad_params = torch.stack(errors)[:, 2:].amin(0).amax(-1).tolist()
    found = {"step": step, "logdet": logdet, "angle": grad_angle, "params": grad_params}
    for name, error in found.items():
        assert error < tolerance, (name, error)


@by_direction
@by_dtype
def test_at_the_cut(dtype, inverse, generator):
    """At exactly -pi values and gradients are the limits from inside, and the step's from the other side too."""
    (angle, params), grads = inputs(generator, 50, dtype=dtype)
    cut = torch.full_like(angle, -math.pi)  # which in float32 is below -pi
    if inverse:
        params[:, -1] = 0
    step = 1e-9 if dtype == torch.float64 else 1e-5
    at = pull(spline(inverse=inverse), (cut, params), grads)
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-3}[dtype]
    assert_close(at, pull(spline(inverse=inverse), (cut + step, params), grads), tolerance)
    other = pull(spline(inverse=inverse), (-cut - step, params), grads)
    assert_close(at[:2], other[:2], tolerance)


@by_dtype
def test_any_number_of_angles(dtype, generator):
    leaves, grads = inputs(generator, 40, dtype=dtype)
    everything = pull(spline(), leaves, grads)
    for m in (0, 1, 2, 7, 17, 33):
        some = pull(spline(), [x[:m] for x in leaves], [x[:m] for x in grads])
        assert_close(some, [x[:m] for x in everything], 100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("batch", [(), (0,), (2, 0), (0, 3), (1,), (3, 5), (2, 1, 4)], ids=str)
def test_batches(batch, generator):
    leaves, grads = inputs(generator, *batch)
    results = pull(spline(), leaves, grads)
    assert [x.shape for x in results] == [torch.Size(batch)] * 3 + [leaves[1].shape]
    assert_close(results, exact(leaves, grads), 1e-11)


ANGLES = {
    "transposed": lambda a: a.mT,
    "strided": lambda a: a[::2, 1::3],
    "expanded": lambda a: a[:1].expand_as(a),
    "imaginary part of a conjugate": lambda a: torch.complex(a, -a).conj().imag,
}


@by_direction
@pytest.mark.parametrize("layout", ANGLES)
def test_layouts_of_angles(layout, inverse, generator):
    """And of the gradients that come in."""
    (angle, _), grads = inputs(generator, 6, 9)
    angle, grads = ANGLES[layout](angle), [ANGLES[layout](x) for x in grads]
    (_, params), _ = inputs(generator, *angle.shape)
    copies = pull(
        spline(inverse=inverse), (angle.resolve_neg().clone(), params), [x.resolve_neg().clone() for x in grads]
    )
    assert_equal(pull(spline(inverse=inverse), (angle, params), grads), copies)


@by_direction
@by_dtype
@pytest.mark.parametrize("layout", PARAMETERS)
def test_layouts_of_parameters(layout, dtype, inverse, generator):
    (angle, params), grads = inputs(generator, 3, 21, dtype=dtype)
    params = PARAMETERS[layout](params)
    results = pull(spline(inverse=inverse), (angle, params), grads)
    assert_equal(results, pull(spline(inverse=inverse), (angle, plain(params)), grads))


@pytest.mark.parametrize("layout", ["row by row", "plane by plane", "plane by plane in each"])
def test_gradient_of_parameters_has_their_layout(layout, generator):
    (angle, params), grads = inputs(generator, 3, 21)
    params = PARAMETERS[layout](params)
    assert pull(spline(), (angle, params), grads)[3].stride() == params.stride()


@pytest.mark.parametrize(
    ("angle", "params", "message"),
    [
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2, n_params(4)), "float32 or float64"),
        (torch.zeros(2, dtype=torch.float16), torch.zeros(2, n_params(4)), "float32 or float64"),
        (torch.zeros(2) + 0j, torch.zeros(2, n_params(4)), "float32 or float64"),
        (torch.zeros(2), torch.zeros(2, n_params(4), dtype=torch.float64), "must be torch.float32"),
        (torch.zeros(2), torch.zeros(2, n_params(5)), "for 4 bins"),
        (torch.zeros(2), torch.zeros(3, n_params(4)), "for 4 bins"),
        (torch.zeros(2), torch.zeros(n_params(4)), "for 4 bins"),
    ],
)
def test_wrong_input(angle, params, message):
    with pytest.raises(InvalidInput, match=message) as error:
        op(angle, params, 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bins", [0, 65, -1, 4.0])
def test_wrong_number_of_bins(bins):
    with pytest.raises(InvalidInput, match="bins must be an integer from 1 to 64"):
        op(torch.zeros(2), torch.zeros(2, n_params(4)), bins)


@by_direction
@by_dtype
def test_what_is_not_finite_stays_so(dtype, inverse, generator):
    """And what is beside it does not change."""
    (angle, params), grads = inputs(generator, 35, dtype=dtype)
    clean = pull(spline(inverse=inverse), (angle, params), grads)
    angle, params = angle.clone(), params.clone()
    angle[34], params[17, 3] = torch.nan, torch.nan
    others = [k for k in range(35) if k not in (17, 34)]
    for some, right in zip(pull(spline(inverse=inverse), (angle, params), grads), clean, strict=True):
        assert torch.equal(some[others], right[others])
    for part in op(angle, params, 4, inverse=inverse):
        assert not part[[17, 34]].isfinite().any()


def test_derivatives_that_are_not_there_raise(generator):
    leaves, _ = inputs(generator, 2)
    assert_no_second_derivatives(spline(), leaves)
    assert_no_forward_mode(spline(), leaves)


def test_functional_gradients(generator):
    leaves, grads = inputs(generator, 5)
    out, vjp = torch.func.vjp(spline(), *leaves)
    assert_close((*out, *vjp(grads)), pull(spline(), leaves, grads), 1e-12)


@by_direction
@pytest.mark.parametrize("native", [True, False], ids=["native", "reference"])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
def test_compiled_by_torch(native, inverse, generator, monkeypatch):
    if not native:
        monkeypatch.setattr(build, "native", lambda *_: None)
    assert_compiles(spline(inverse=inverse), *inputs(generator, 2, 5))


@by_dtype
def test_threads_change_nothing(dtype, generator):
    leaves, grads = inputs(generator, 3333, dtype=dtype)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(pull(spline(), leaves, grads))
    assert_equal(*results)


@by_direction
def test_without_a_compiler(inverse, generator, monkeypatch):
    leaves, grads = inputs(generator, 3, 7)
    leaves = leaves[0], leaves[1].mT.contiguous().mT
    compiled = pull(spline(inverse=inverse), leaves, grads)
    monkeypatch.setattr(build, "native", lambda *_: None)
    expected = pull(spline(inverse=inverse), leaves, grads)
    assert_close(compiled, expected, 1e-10)
    assert_close(exact(leaves, grads, inverse=inverse), expected, 1e-12)
    with Passing():
        assert_equal(pull(spline(inverse=inverse), leaves, grads), expected)


def test_opcheck(generator):
    """Schema, and shapes and strides of the fake ops."""
    (angle, params), grads = inputs(generator, 2, 5)
    planes = PARAMETERS["plane by plane"](params)
    for layout in (params, planes):
        torch.library.opcheck(OPS.circular_spline.default, (angle, layout, 4, False))
        torch.library.opcheck(OPS.circular_spline_backward.default, (angle, layout, *grads, 4, True))
    angle, grad = ANGLES["expanded"](angle), ANGLES["expanded"](grads[0])
    torch.library.opcheck(OPS.circular_spline.default, (angle, params, 4, False))
    torch.library.opcheck(OPS.circular_spline_backward.default, (angle, params, grad, grads[1], 4, False))
