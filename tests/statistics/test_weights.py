"""Effective sample sizes: limits, invariances, and an error that is the spread of repetitions."""

import math
import re

import pytest
import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import ess, ess_error, estimate_ess, forward_ess

INF = math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_limits(dtype):
    assert ess(torch.zeros(7, dtype=dtype)) == 1
    assert float(ess(torch.full((1000,), -300, dtype=dtype))) == pytest.approx(1, rel=1e-6)
    if dtype.is_floating_point:
        one_weight = torch.full((8,), -INF, dtype=dtype)
        one_weight[3] = 5.0
        assert float(ess(one_weight)) == pytest.approx(1 / 8, rel=1e-12)
        assert ess(one_weight).dtype == dtype


def test_known_value_and_shift():
    log_w = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).log()
    assert float(ess(log_w)) == pytest.approx(36 / (3 * 14), rel=1e-14)
    for shift in (-1e5, 1e5):
        assert float(ess(log_w + shift)) == pytest.approx(36 / (3 * 14), rel=1e-9)


def test_never_above_one():
    log_w = 1e-9 * torch.randn(200, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (ess(log_w) <= 1).all()


def test_batches():
    log_w = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0))
    values, errors = ess(log_w), ess_error(log_w, blocks=7)
    assert values.shape == errors.shape == (3, 4)
    assert values[2, 1] == ess(log_w[2, 1])
    torch.testing.assert_close(errors[2, 1], ess_error(log_w[2, 1], blocks=7))


def test_gradient():
    log_w = torch.tensor([0.3, -0.2, -INF, 1.0], dtype=torch.float64, requires_grad=True)
    ess(log_w).backward()
    p = log_w.detach().softmax(-1)
    expected = 2 * ess(log_w.detach()) * (p - p.square() / p.square().sum())
    torch.testing.assert_close(log_w.grad, expected)


@pytest.mark.parametrize("n", [250, 1000])
def test_error_is_the_spread_of_repetitions(n):
    log_w = 0.5 * torch.randn(400, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, errors = ess(log_w), ess_error(log_w)
    assert float(errors.mean() / values.std()) == pytest.approx(1, rel=0.1)
    # the mean of log-normal weights is known
    assert abs(values.mean() - math.exp(-0.25)) < 4 * values.std() / 20


def test_error_against_a_plain_jackknife():
    log_w = torch.randn(23, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    blocks = [range(i, min(i + 4, 23)) for i in range(0, 23, 4)]
    theta = torch.stack([ess(torch.stack([log_w[i] for i in range(23) if i not in block])) for block in blocks])
    count = len(blocks)
    expected = ((count - 1) / count * (theta - theta.mean()).square().sum()).sqrt()
    torch.testing.assert_close(ess_error(log_w, blocks=5), expected, rtol=1e-12, atol=0)


def test_error_survives_one_dominating_weight():
    log_w = torch.zeros(100, dtype=torch.float64)
    log_w[17] = 2000.0
    assert torch.isfinite(ess_error(log_w, blocks=10))


def test_forward_ess_against_its_definition_and_a_plain_jackknife():
    log_w = torch.randn(23, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def plain(log_w):
        return 1 / (log_w.exp().mean() * (-log_w).exp().mean())

    blocks = [range(i, min(i + 4, 23)) for i in range(0, 23, 4)]
    theta = torch.stack([plain(torch.stack([log_w[i] for i in range(23) if i not in block])) for block in blocks])
    count = len(blocks)
    value, error = forward_ess(log_w, blocks=5)
    torch.testing.assert_close(value, plain(log_w), rtol=1e-12, atol=0)
    expected = ((count - 1) / count * (theta - theta.mean()).square().sum()).sqrt()
    torch.testing.assert_close(error, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("extreme", [2000.0, -2000.0, -INF])
def test_forward_ess_survives_one_extreme_weight(extreme):
    log_w = torch.zeros(100, dtype=torch.float64)
    log_w[17] = extreme
    value, error = forward_ess(log_w, blocks=10)
    assert value == 0
    assert torch.isfinite(error)


@pytest.mark.parametrize(
    ("log_w", "message"),
    [
        (torch.tensor([]), "at least one weight"),
        (torch.tensor(1.0), "at least one weight"),
        (torch.tensor([0.0, math.nan]), "NaN"),
        (torch.tensor([0.0, INF]), "NaN or \\+inf"),
        (torch.tensor([-INF, -INF]), "all weights are zero"),
        (torch.tensor([[0.0, 1.0], [-INF, -INF]]), "all weights are zero"),
        (torch.tensor([1.0 + 0j]), "real"),
    ],
)
def test_invalid_weights(log_w, message):
    for function in (ess, ess_error):
        with pytest.raises(InvalidInput, match=message):
            function(log_w)


@pytest.mark.parametrize(
    ("log_w", "blocks"),
    [(torch.zeros(10), 0), (torch.zeros(10), 1), (torch.zeros(1), 10), (torch.tensor([0.0, 0.0, -INF, -INF]), 2)],
)
def test_too_little_for_a_jackknife(log_w, blocks):
    with pytest.raises(InvalidInput, match="at least two blocks"):
        ess_error(log_w, blocks)


@pytest.mark.parametrize(
    ("log_w", "words"),
    [
        (torch.zeros(1000), "1, the largest weights are equal: no tail to judge by"),
        (torch.tensor([0.0, -INF]).repeat(500), "0.5, the largest weights are equal: no tail to judge by"),
        (torch.arange(8.0), r"0\.27\d+, an upper bound: too few weights stand out for a Pareto k"),
        (
            4 * torch.randn(1000, generator=torch.Generator().manual_seed(0)),
            r"0\.0\d+, at most 0\.0\d+, as Pareto k = 1\.\d+ ",
        ),
    ],
)
def test_no_error_of_an_ess_without_a_tail_that_allows_one(log_w, words):
    result = estimate_ess(log_w)
    assert re.match(words, str(result))
    assert math.isnan(result.error)
    assert not result.reliable


def test_error_of_an_ess_is_a_jackknife_with_a_longer_tail():
    log_w = 0.5 * torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result, plain = estimate_ess(log_w + 700), float(ess(log_w))
    assert plain - 1.5 * result.error < result.value < plain
    assert 0.9 < result.error / float(ess_error(log_w)) < 2
    for same in (log_w.flip(0), log_w.numpy(), torch.cat([log_w, torch.tensor([-INF])])):
        again = estimate_ess(same)
        assert (again.value, again.error) == pytest.approx((result.value, result.error), rel=1e-3)


@pytest.mark.parametrize("scale", [8.0, 20.0, 100.0])
@pytest.mark.parametrize("zeros", [0, 100])
def test_bound_of_an_ess_of_one_weight(scale, zeros):
    """Where it has all the rest, and where most weights are zero."""
    log_w = scale * torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_w[:zeros] = -INF
    result = estimate_ess(log_w)
    assert result.value < 0.02
    assert 0 < float(re.match("at most (.+), as Pareto", result.reason)[1]) < 0.1


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3])
def test_error_of_an_ess_of_weights_that_hardly_differ(scale):
    log_w = scale * torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = estimate_ess(log_w)
    assert result.value == pytest.approx(1 - scale**2, rel=0, abs=3 * result.error + 1e-15)
    assert result.error == pytest.approx(scale**2 * math.sqrt(2 / 2000), rel=0.5, abs=1e-15)
