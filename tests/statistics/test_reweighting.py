"""Reweighted means, against exact values at the other coupling, and their errors against repetitions."""

import math

import numpy as np
import pytest
import torch
from known_chains import ar1

from lattice_flows import U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.statistics import ess, estimate, observables_to_pyerrors, reweight

SHIFT = 0.4


@pytest.mark.parametrize("a", [0.0, 0.8])
def test_errors_cover(a):
    """x normal, w = exp(s x): the mean is s, the ESS exp(-s^2), whatever the autocorrelation."""
    repetitions = 200
    chains = ar1(a, 4000, seed=1, chains=repetitions)
    results = [reweight(chain, SHIFT * chain) for chain in chains]
    pulls = np.array([(r.estimate.value - SHIFT) / r.estimate.error for r in results])
    assert abs(pulls.mean()) < 4 / math.sqrt(repetitions)
    assert abs(pulls.std() - 1) < 4 / math.sqrt(2 * repetitions)
    shares = np.array([r.ess for r in results])
    assert abs(shares.mean() - math.exp(-(SHIFT**2))) < 4 * shares.std() / math.sqrt(repetitions)
    share_errors = np.array([r.ess_error for r in results])
    assert share_errors.mean() == pytest.approx(shares.std(), rel=0.3)
    assert share_errors.std() < 0.35 * share_errors.mean()
    assert all(r.tail.trusted for r in results)
    if a == 0:
        # Var[w (x - s)] of independent samples: exp(s^2) (1 + s^2)
        known = math.sqrt(math.exp(SHIFT**2) * (1 + SHIFT**2) / 4000)
        assert np.mean([r.estimate.error for r in results]) == pytest.approx(known, rel=0.08)


def test_equals_pyerrors_ratio():
    x = ar1(0.8, 2000, seed=2, chains=3) + 0.2 * np.arange(3)[:, None]
    log_w = 0.3 * x + 0.1 * ar1(0.9, 2000, seed=3, chains=3)
    w = np.exp(log_w)
    obs = observables_to_pyerrors({"wx": w * x, "w": w}, "A")
    ratio = obs["wx"] / obs["w"]
    ratio.gamma_method(S=2.0)
    own = reweight(x, log_w + 700.0).estimate
    assert own.value == pytest.approx(ratio.value, rel=1e-12)
    assert own.error == pytest.approx(ratio.dvalue, rel=1e-6)
    assert own.tau_int == pytest.approx(ratio.e_tauint["A"], rel=1e-6)


@pytest.mark.parametrize("target", [1.6, 2.4])
def test_in_beta(target):
    space = GaugeField(U1(), (4, 4))
    action = Wilson(space, beta=2.0)
    links = exact_samples(action, 500, generator=torch.Generator().manual_seed(4))
    log_w = action(links) - action.at(target)(links)
    result = reweight(average_plaquette(space)(links), log_w)
    known = exact_value("plaquette", action.at(target))
    assert abs(result.estimate.value - known) < 4 * result.estimate.error
    assert abs(result.estimate.value - exact_value("plaquette", action)) > 4 * result.estimate.error
    assert result.ess == pytest.approx(float(ess(log_w)), rel=1e-6)
    assert 0 < result.ess_error < 0.1


def test_equal_weights_change_nothing():
    x = ar1(0.8, 3000, seed=5, chains=2)
    result = reweight(x, np.full(x.shape, -1234.5))
    expected = estimate(x)
    assert result.estimate.value == pytest.approx(expected.value, rel=1e-10)
    assert result.estimate.error == pytest.approx(expected.error, rel=1e-10)
    assert (result.ess, result.ess_error) == pytest.approx((1, 0), abs=1e-12)
    assert result.tail.warning == ""


def test_frozen_stays_frozen():
    log_w = 0.2 * ar1(0.5, 500, seed=6, chains=4)
    for values in ([0.1], [-1.0, 0.0, 0.0, 1.0]):
        result = reweight(np.broadcast_to(np.array(values)[:, None], log_w.shape), log_w).estimate
        assert result.frozen
        assert not result.reliable
        assert math.isnan(result.tau_int)
        assert math.isnan(result.error)


def test_zero_weights_leave_their_samples_out():
    x = np.random.default_rng(7).normal(size=1000)
    log_w = np.where(x > 0, 0.0, -math.inf)
    result = reweight(x, log_w)
    assert result.estimate.value == pytest.approx(x[x > 0].mean(), rel=1e-12)
    assert result.ess == pytest.approx((x > 0).mean(), rel=1e-12)


def test_heavy_weights_are_reported():
    x = np.random.default_rng(8).normal(size=5000)
    result = reweight(x, 4 * x)
    assert "do not trust" in result.tail.warning
    assert not result.estimate.reliable


@pytest.mark.parametrize(
    ("series", "log_w", "message"),
    [
        (np.zeros(10), np.zeros(9), "one weight"),
        (np.zeros((2, 10)), np.zeros(20), "one weight"),
        (np.zeros(10), np.full(10, math.nan), "NaN"),
        (np.zeros(10), np.full(10, -math.inf), "all weights are zero"),
        (np.zeros(10), np.zeros(10, dtype=complex), "real"),
        (np.zeros(4), np.zeros(4), "at least 5"),
    ],
)
def test_invalid(series, log_w, message):
    with pytest.raises(InvalidInput, match=message):
        reweight(series, log_w)
