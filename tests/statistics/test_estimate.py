"""Errors and autocorrelation times, against chains whose autocorrelation is known."""

import math
import re

import numpy as np
import pytest
import torch
from known_chains import ar1

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import Estimate, autocorrelation, estimate


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.59781, 0.00031, "0.5978(3)"),
        (0.59781, 0.00012, "0.59781(12)"),
        (-0.59781, 0.0031, "-0.598(3)"),
        (12.34, 1.42, "12.3(1.4)"),
        (12.34, 0.14, "12.34(14)"),
        (12.34, 2.3, "12(2)"),
        (123.4, 14.2, "123(14)"),
        (1234.0, 23.0, "1230(20)"),
        (1234567.0, 1234.0, "1234600(1200)"),
        (0.5, 0.0999, "0.50(10)"),
        (0.5, 0.0951, "0.50(10)"),
        (0.5, 0.0949, "0.50(9)"),
        (0.5, 0.01951, "0.50(2)"),
        (0.5, 0.0149, "0.500(15)"),
        (0.5, 0.0171, "0.500(17)"),
        (12.34, 0.96, "12.3(1.0)"),
        (12.34, 0.996, "12.3(1.0)"),
        (12.34, 9.96, "12(10)"),
        (-0.0001, 0.02, "0.00(2)"),
        (0.0, 0.5, "0.0(5)"),
        (1e-7, 3e-9, "0.000000100(3)"),
        (0.5, 0.0, "0.5(0)"),
        (3.0, 0.0, "3(0)"),
        (0.51234567, math.nan, "0.5123"),
        (math.nan, 0.1, "nan(0.1)"),
        (0.5, math.inf, "0.5(inf)"),
    ],
)
def test_printing(value, error, expected):
    assert str(Estimate(value, error, tau_int=0.5, tau_int_error=0.0, window=1, n=100)) == expected


@pytest.mark.parametrize("a", [-0.3, 0.0, 0.5, 0.9, 0.97])
def test_known_autocorrelation_time(a):
    n = 200_000
    result = estimate(ar1(a, n, seed=7)[0])
    # pyerrors keeps anticorrelated chains at tau_int = 1/2
    exact = max(0.5, (1 + a) / (2 * (1 - a)))
    assert abs(result.tau_int - exact) < 3 * result.tau_int_error + 1e-3
    assert abs(result.value) < 3 * result.error
    assert result.error == pytest.approx(math.sqrt(2 * exact / n), rel=0.1)
    assert result.n == n
    assert result.reliable


def test_errors_are_calibrated():
    results = [estimate(chain) for chain in ar1(0.8, 2000, seed=3, chains=300)]
    pulls = np.array([r.value / r.error for r in results])
    tau_pulls = np.array([(r.tau_int - 4.5) / r.tau_int_error for r in results])
    assert abs(pulls.mean()) < 3 / math.sqrt(300)
    assert 0.9 < pulls.std() < 1.15
    assert abs(np.median(tau_pulls)) < 0.5
    assert 0.7 < tau_pulls.std() < 1.5


def test_ways_to_give_chains():
    chains = ar1(0.5, 500, seed=1, chains=3)
    expected = estimate(chains)
    assert expected.n == 1500
    for series in (list(chains), tuple(torch.from_numpy(chains)), torch.from_numpy(chains), chains[::-1]):
        assert estimate(series).error == pytest.approx(expected.error, rel=1e-12)
    assert estimate(chains[0].tolist()) == estimate(torch.from_numpy(chains[0])) == estimate(chains[:1])
    assert estimate([True, False, True, True, False, True]).value == pytest.approx(4 / 6)


def test_chains_of_different_length():
    chains = ar1(0.5, 4000, seed=1, chains=3)
    result = estimate([chains[0], chains[1, :1000], chains[2, :2500]])
    assert result.n == 7500
    assert result.value == pytest.approx(np.concatenate([chains[0], chains[1, :1000], chains[2, :2500]]).mean())
    assert result.error == pytest.approx(math.sqrt(2 * 1.5 / 7500), rel=0.15)


def test_many_chains_are_as_good_as_a_long_one():
    result = estimate(ar1(0.9, 4000, seed=5, chains=25))
    assert abs(result.tau_int - 9.5) < 3 * result.tau_int_error
    assert result.error == pytest.approx(math.sqrt(2 * 9.5 / 100_000), rel=0.1)


def assert_frozen(series):
    """No number is given for an autocorrelation time."""
    result = estimate(series)
    assert result.frozen
    assert not result.reliable
    lags, rho, tau_int, tau_int_error, window = autocorrelation(series)
    for number in (result.error, result.tau_int, result.tau_int_error, result.n_eff, *tau_int, *tau_int_error):
        assert math.isnan(number)
    assert (lags, rho, window) == (0, 1, 0)


def test_one_move_is_not_frozen():
    for series in (np.repeat([0.0, 1.0], 100), [np.zeros(50), np.repeat([0.0, 1.0], 25)]):
        result = estimate(series)
        assert not result.frozen
        assert not result.reliable
        assert math.isnan(result.error)


def test_chains_that_disagree():
    """Frozen in different sectors: nothing is known. With noise the error is that of as many numbers as chains."""
    frozen = np.repeat([[-1.0], [0.0], [0.0], [1.0]], 200, axis=1)
    assert estimate(frozen).value == 0
    assert_frozen(frozen)
    noisy = estimate(frozen + 1e-3 * np.random.default_rng(0).normal(size=frozen.shape))
    # four numbers of variance 1/2
    assert noisy.error == pytest.approx(math.sqrt(0.5 / 4), rel=0.1)
    assert not noisy.reliable


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e300])
def test_constant_series(value):
    for series in ([value] * 10, np.full((3, 7), value)):
        result = estimate(series)
        assert result.value == value
        assert_frozen(series)


def test_a_chain_shorter_than_its_autocorrelation_says_so():
    assert not estimate(ar1(0.999, 60, seed=0)[0]).reliable
    assert not estimate(np.arange(5.0)).reliable
    many = estimate(ar1(0.999, 10, seed=0, chains=1000))
    assert many.reason == "short: the window does not close"
    assert re.fullmatch(r"short: \d\d tau_int of 200", estimate(ar1(0.8, 300, seed=0)[0]).reason)
    assert estimate(ar1(0.9, 4000, seed=0)[0]).reliable


def test_autocorrelation_function():
    chain = ar1(0.8, 100_000, seed=11)[0]
    lags, rho, tau_int, tau_int_error, window = autocorrelation(chain)
    result = estimate(chain)
    assert rho[0] == 1
    np.testing.assert_allclose(rho[:10], 0.8 ** np.arange(10), atol=0.03)
    assert window == result.window
    assert tau_int[window] == pytest.approx(0.5 + rho[1 : window + 1].sum(), rel=1e-12)
    assert tau_int[window] == pytest.approx(result.tau_int, rel=3 * window / len(chain))
    assert tau_int_error[window] == result.tau_int_error
    np.testing.assert_array_equal(lags, np.arange(50_000))
    assert len(rho) == len(tau_int) == len(tau_int_error) == 50_000


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "at least"),
        ([1.0, 2.0, 3.0, 4.0], "chain 0 has 4 measurements, an error needs at least 5"),
        ([np.arange(9.0), np.arange(3.0)], "chain 1 has 3 measurements"),
        (np.zeros((0, 10)), "at least one chain"),
        ([1.0, 2.0, math.nan, 4.0, 5.0], "got nan at measurement 2"),
        ([1.0, 2.0, 4.0, 5.0, -math.inf], "got -inf at measurement 4"),
        (np.zeros((2, 2, 10)), "shape"),
        (1.0, "shape"),
        (np.zeros(10, dtype=complex), "real numbers"),
        (torch.zeros(10, dtype=torch.complex64), "real numbers"),
        (["a"] * 10, "real numbers"),
    ],
)
def test_invalid_series(series, message):
    for function in (estimate, autocorrelation):
        with pytest.raises(InvalidInput, match=message):
            function(series)
