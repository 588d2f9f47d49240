"""The tail of weights, on tails that are known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import pareto_tail
from lattice_flows.statistics.weights import fit_generalised_pareto

SHAPES = [-0.3, 0.0, 0.3, 0.7, 1.2]


# the asymptotic error of k < 0 is reached late
@pytest.mark.parametrize(("k", "n"), [(k, n) for k in SHAPES for n in (100, 1000) if k >= 0 or n > 100])
def test_fit_covers(k, n):
    repetitions = 100
    draws = genpareto.rvs(k, scale=3.0, size=(repetitions, n), random_state=np.random.default_rng(1))
    fits = np.array([fit_generalised_pareto(x) for x in draws])
    pulls = (fits[:, 0] - k) * math.sqrt(n) / (1 + k)
    # the bias of the estimator is of relative order 1/n: a few hundredths of an error
    assert abs(pulls.mean()) < 4 / math.sqrt(repetitions)
    assert abs(pulls.std() - 1) < 4 / math.sqrt(2 * repetitions)
    assert np.median(fits[:, 1]) == pytest.approx(3.0, rel=5 / math.sqrt(n * repetitions) + 2 / n)


@pytest.mark.parametrize("k", SHAPES)
def test_fit_is_as_good_as_the_most_likely(k):
    x = genpareto.rvs(k, scale=3.0, size=2000, random_state=np.random.default_rng(6))
    best_k, _, best_sigma = genpareto.fit(x, k, floc=0, scale=3.0)
    assert fit_generalised_pareto(x) == pytest.approx((best_k, best_sigma), abs=0.01)


def test_fit_follows_the_scale():
    x = genpareto.rvs(0.4, size=500, random_state=np.random.default_rng(2))
    k, sigma = fit_generalised_pareto(x)
    for scale in (1e-200, 1e-5, 1e8):
        assert fit_generalised_pareto(scale * x) == pytest.approx((k, scale * sigma), rel=1e-9)


@pytest.mark.parametrize("k", SHAPES)
def test_tail_of_known_weights(k):
    """What is above a threshold in a generalised Pareto distribution is one, of the same shape."""
    w = genpareto.rvs(k, size=(30, 20_000), random_state=np.random.default_rng(3))
    tails = [pareto_tail(np.log(row) + 900.0) for row in w]
    assert {tail.n_tail for tail in tails} == {math.ceil(3 * math.sqrt(20_000))}
    pulls = np.array([(tail.k - k) / tail.error for tail in tails])
    # the prior draws k to 1/2 by 10 / (M + 10)
    drawn = (0.5 - k) * 10 / 435 / tails[0].error
    assert abs(pulls.mean() - drawn) < 4 / math.sqrt(30)
    assert abs(pulls.std() - 1) < 4 / math.sqrt(60)
    assert all(tail.trusted == (tail.k <= 0.7) for tail in tails)


@pytest.mark.parametrize(("width", "trusted"), [(0.1, True), (0.5, True), (4.0, False), (20.0, False)])
def test_log_normal_weights(width, trusted):
    log_w = width * torch.randn(5000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    tail = pareto_tail(log_w)
    assert tail.trusted == trusted
    assert bool(tail.warning) != trusted
    if not trusted:
        assert f"Pareto k = {tail.k:.2f}" in tail.warning
    for other in (log_w + 1e4, log_w.flip(0), log_w.numpy()):
        assert pareto_tail(other).k == pytest.approx(tail.k, rel=1e-6)


@pytest.mark.parametrize(("n", "threshold"), [(100, 0.5), (1000, 2 / 3), (10_000, 0.7), (10**5, 0.7)])
def test_threshold(n, threshold):
    assert pareto_tail(torch.zeros(n)).threshold == pytest.approx(threshold)


def test_tails_that_are_none():
    flat = pareto_tail(torch.zeros(1000))
    assert (flat.k, flat.trusted, flat.warning) == (-math.inf, True, "")
    one = torch.zeros(1000)
    one[3] = 500.0
    one[5] = 1000.0
    few = torch.full((1000,), -math.inf)
    few[:3] = torch.tensor([0.0, 1.0, 2.0])
    for log_w in (one, few, torch.arange(4.0), torch.zeros(1)):
        tail = pareto_tail(log_w)
        assert (tail.k, tail.trusted) == (math.inf, False)
        assert "more samples" in tail.warning


def test_ties_and_tiny_differences():
    generator = torch.Generator().manual_seed(5)
    log_w = torch.randn(2000, generator=generator, dtype=torch.float64)
    assert math.isfinite(pareto_tail(log_w.repeat(3)).k)
    assert math.isfinite(pareto_tail(log_w.round(decimals=1)).k)
    # exp is linear there: a normal distribution, whose tail is that of an exponential one or lighter
    assert pareto_tail(1e-9 * log_w).k < 0.3


@pytest.mark.parametrize(
    ("log_w", "message"),
    [
        (torch.zeros(0), "at least one weight"),
        (torch.zeros(2, 100), "one tail at a time"),
        (torch.full((100,), math.nan), "NaN"),
        (torch.full((100,), -math.inf), "all weights are zero"),
    ],
)
def test_invalid_weights(log_w, message):
    with pytest.raises(InvalidInput, match=message):
        pareto_tail(log_w)


@pytest.mark.parametrize("x", [[], [0.0, 1.0], [1.0, math.inf], [[1.0], [2.0]]])
def test_invalid_draws(x):
    with pytest.raises(InvalidInput, match="finite and > 0"):
        fit_generalised_pareto(x)
