"""periodic_conv: the definition, the kernel against the reference, and what it refuses."""

import itertools

import pytest
import torch
from op_laws import (
    MARKS,
    assert_close,
    assert_equal,
    assert_no_forward_mode,
    assert_no_second_derivatives,
    by_dtype,
    poisoned,  # noqa: F401
    pull,
)

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build, periodic_conv

pytestmark = MARKS

# dimension, extents, kernel, channels before and after: more and fewer than lanes, extents below the reach
CASES = [
    ((5, 3), 3, 2, 1),
    ((4, 6), 1, 3, 5),
    ((2, 3), 5, 1, 2),
    ((3, 4, 2), 3, 17, 33),
    ((3, 2, 2, 3), 3, 9, 16),
]
TOLERANCES = {torch.float64: 1e-12, torch.float32: 3e-5}


def inputs(case, dtype, generator, batch=3):
    sites, size, before, after = case
    x = torch.randn(batch, before, *sites, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(after, before, *[size] * len(sites), generator=generator, dtype=torch.float64).to(dtype)
    return x, weight / (before * size ** len(sites)) ** 0.5


@pytest.mark.parametrize("case", CASES, ids=str)
def test_definition(case, generator):
    """A sum over displaced fields, so that it moves with them."""
    x, weight = inputs(case, torch.float64, generator)
    reach, axes = case[1] // 2, list(range(2, x.ndim))
    expected = torch.zeros(3, case[3], *case[0], dtype=torch.float64)
    for step in itertools.product(range(-reach, reach + 1), repeat=len(axes)):
        kernel = weight[(slice(None), slice(None), *(s + reach for s in step))]
        expected += torch.einsum("oi,bi...->bo...", kernel, x.roll([-s for s in step], axes))
    assert_close([periodic_conv(x, weight)], [expected], 1e-13)


@by_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_against_reference(case, dtype, generator, monkeypatch):
    x, weight = inputs(case, dtype, generator)
    grad = torch.randn(3, case[3], *case[0], generator=generator, dtype=torch.float64).to(dtype)

    def results():
        return pull(lambda *arguments: (periodic_conv(*arguments),), (x, weight), (grad,))

    found = results()
    monkeypatch.setattr(build, "native", lambda *_: None)
    for some, other in zip(found, results(), strict=True):
        torch.testing.assert_close(some, other, rtol=0, atol=TOLERANCES[dtype] * float(1 + other.abs().max()))


def test_neither_the_batch_nor_threads_change_a_digit(generator):
    x, weight = inputs(CASES[-1], torch.float32, generator)
    grad = torch.randn(3, 16, *CASES[-1][0], generator=generator)

    def results(x, grad):
        return pull(lambda *arguments: (periodic_conv(*arguments),), (x, weight), (grad,))

    y, grad_x, grad_weight = results(x, grad)
    assert_equal([y[1:2], grad_x[1:2]], results(x[1:2], grad[1:2])[:2])
    torch.set_num_threads(2)
    assert_equal(results(x, grad), (y, grad_x, grad_weight))


def test_layouts(generator):
    x, weight = inputs(CASES[0], torch.float64, generator)
    moved = x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert_equal([periodic_conv(moved, weight.mT.contiguous().mT)], [periodic_conv(x, weight)])
    assert periodic_conv(x[:0], weight).shape == (0, 1, 5, 3)


def test_derivatives_that_are_not_defined(generator):
    x, weight = inputs(CASES[0], torch.float64, generator)

    def function(*arguments):
        return (periodic_conv(*arguments),)

    assert_no_second_derivatives(function, (x, weight))
    assert_no_forward_mode(function, (x, weight))


@pytest.mark.parametrize(
    ("x", "weight", "words"),
    [
        (torch.zeros(1, 2, 4), torch.zeros(1, 2, 3), "two to four dimensions"),
        (torch.zeros(1, 2, 4, 4).long(), torch.zeros(1, 2, 3, 3), "int64"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2), r"float32 \(out, 2, k, k\), k odd"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 3, 1), "k odd"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 3, 3), r"\(1, 3, 3, 3\)"),
        (torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 3, 3).double(), "float64"),
    ],
)
def test_what_does_not_fit(x, weight, words):
    with pytest.raises(InvalidInput, match=words):
        periodic_conv(x, weight)
