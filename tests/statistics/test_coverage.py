"""Errors that can be relied on cover the truth as often as errors should: 68 percent within one, 95 within two."""

import math
import re

import numpy as np
import pytest
import torch
from known_chains import ar1
from scipy.optimize import brentq
from scipy.special import i0, i1, iv

from lattice_flows.sampling import log_z_ratio
from lattice_flows.statistics import Moves, estimate, estimate_ess

pytestmark = pytest.mark.slow

TAUS = (0.5, 1.5, 5.0, 16.0)
LENGTHS = (113, 160, 226, 320, 453, 640, 905)
"""Of chains, in units of tau_int; the longer ones at equal distances of their logarithms."""
EDGE = 320
"""Of the lengths that a reader sees, from 200 on."""


def chains(tau, length):
    """Of a length in units of tau_int."""
    a = (2 * tau - 1) / (2 * tau + 1)
    return ar1(a, int(tau * length), seed=int(1000 * tau) + length, chains=200)


def within(pulls, errors):
    """The share of pulls within so many errors."""
    return float((np.abs(pulls) < errors).mean())


def test_short_chains_have_no_reliable_error():
    for length, share in {40: (0, 0.05), 80: (0, 0.05), 320: (0.9, 1), 640: (0.98, 1)}.items():
        found = [own.reliable for tau in TAUS for own in map(estimate, chains(tau, length))]
        assert share[0] <= np.mean(found) <= share[1]


def test_autoregressive_chains():
    """At the edge of what is called reliable, too; the interval of tau_int is not symmetric."""
    seen, values, taus = [], [], []
    for tau in TAUS:
        for own in (own for length in LENGTHS for own in map(estimate, chains(tau, length)) if own.reliable):
            seen.append(own.n / own.tau_int)
            values.append(own.value / own.error)
            inside = [low <= tau <= high for low, high in map(own.tau_int_range, (1, 2))]
            # pyerrors keeps tau_int >= 1/2, so that at 1/2 its error is too large
            taus.append([*inside, tau > own.tau_int_range(2)[1]] if tau > 0.5 else [math.nan] * 3)
    edge = np.array(seen) < EDGE
    for there in (edge, ~edge):
        pulls, (one, two, above) = np.array(values)[there], np.nanmean(np.array(taus)[there], 0)
        assert within(pulls, 1) == pytest.approx(0.68, abs=0.04)
        assert within(pulls, 2) == pytest.approx(0.95, abs=0.02)
        assert one == pytest.approx(0.68, abs=0.04)
        assert two == pytest.approx(0.95, abs=0.02)
        assert above < 0.05  # of symmetric errors .06


def test_many_short_chains():
    """Chains that end before their autocorrelation, tau_int = 9.5, are not reliable, however many they are."""
    for n, reliable in ((10, False), (50, False), (300, True)):
        found = [estimate(own) for own in ar1(0.9, n, seed=n, chains=40 * 100).reshape(40, 100, n)]
        assert {own.reliable for own in found} == {reliable}
    assert within([own.value / own.error for own in found], 2) > 0.87


def weights(rng, repetitions, n):
    """Log-normal weights of sigma .25 to 1.5, and those of Pareto k .1 to .5: log-weights, exact ESS, exact log Z."""
    for sigma in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
        yield sigma * rng.normal(size=(repetitions, n)), math.exp(-(sigma**2)), sigma**2 / 2
    for k in (0.1, 0.2, 0.3, 0.4, 0.499):
        yield k * rng.exponential(size=(repetitions, n)), (1 - 2 * k) / (1 - k) ** 2, -math.log(1 - k)


def test_effective_sample_sizes():
    """Where an error is given, it is one; elsewhere the bound is one."""
    rng, pulls, given, above = np.random.default_rng(0), [], [], []
    for n in (500, 2000, 10_000):
        for log_w, exact, _ in weights(rng, 60, n):
            found = [estimate_ess(own) for own in log_w]
            pulls += [(own.value - exact) / own.error for own in found if own.reliable]
            given.append(np.mean([own.reliable for own in found]))
            words = [own.reason for own in found if not own.reliable]
            above += [float(re.match("at most (.+), as Pareto k", reason)[1]) > exact for reason in words]
    assert within(pulls, 1) == pytest.approx(0.68, abs=0.04)
    assert within(pulls, 2) == pytest.approx(0.95, abs=0.02)
    assert within(pulls, 3) > 0.96
    assert np.mean(above) > 0.95
    large = given[-11:]  # of 10,000 weights: log-normal ones, then Pareto
    assert min(large[:4] + large[6:8]) > 0.9
    assert max(large[5], large[10]) <= 0.3


def test_free_energies():
    """The jackknife error of log Z needs a second moment alone, and covers for all these weights."""
    rng, pulls = np.random.default_rng(1), []
    for n in (200, 2000):
        for log_w, _, exact in weights(rng, 100, n):
            value, error = (own.numpy() for own in log_z_ratio(torch.from_numpy(log_w)))
            pulls.append((value - exact) / error)
    assert within(pulls, 1) == pytest.approx(0.68, abs=0.04)
    assert within(pulls, 2) == pytest.approx(0.95, abs=0.02)


SITES, BETA, UPDATES = 16, 1.0, 4000


def share_of(other):
    """The ESS of plaquettes at another beta as proposals for those at `BETA`."""
    return (i0(BETA) ** 2 / (i0(2 * BETA - other) * i0(other))) ** SITES


def test_two_hundred_flows():
    """Independence Metropolis on 16 free U(1) plaquettes by proposals at wrong couplings, with an ESS of .0005 to .5.

    The mean of cos is the worst observable there is: a function of the weight. A chain that has not met the
    configurations of large weight is 5 to 100 errors off.
    """
    rng = np.random.default_rng(0)
    wrong = [brentq(lambda b, goal=goal: share_of(b) - goal, -8, BETA) for goal in np.geomspace(5e-4, 0.5, 200)]
    off, called, deviations = 0, 0, []
    exact = {"mean": i1(BETA) / i0(BETA), "one": i1(BETA) / i0(BETA), "two": iv(2, BETA) / i0(BETA)}
    for part in np.array_split(wrong, 10):
        angles = rng.vonmises(0, np.abs(part)[:, None, None], size=(len(part), UPDATES, SITES))
        angles += math.pi * (part < 0)[:, None, None]
        cos = np.cos(angles)
        log_w = (BETA - part)[:, None] * cos.sum(-1)
        kept, accepted = chains_of(log_w, rng)
        values = {"mean": cos.mean(-1), "one": cos[..., 0], "two": np.cos(2 * angles[..., 0])}
        for name, own in values.items():
            for series, moved in zip(np.take_along_axis(own, kept, 1), accepted, strict=True):
                result = estimate(series, Moves.of(moved))
                off += abs(series.mean() - exact[name]) > 5 * series.std() / math.sqrt(UPDATES * 0.05)
                called += result.reliable
                if result.reliable:
                    deviations.append((result.value - exact[name]) / result.error)
    assert off > 50  # chains that are very wrong, so that there is something to find
    assert called > 120
    assert within(deviations, 3) >= 0.98


def chains_of(log_w, rng):
    """Independence Metropolis: the proposals that chains stand at, and whether they moved."""
    chains, n = log_w.shape
    kept, accepted = np.zeros((chains, n), int), np.ones((chains, n), bool)
    uniform = np.log(rng.random((chains, n)))
    for t in range(1, n):
        now = np.take_along_axis(log_w, kept[:, t - 1 : t], 1)[:, 0]
        accepted[:, t] = uniform[:, t] < log_w[:, t] - now
        kept[:, t] = np.where(accepted[:, t], t, kept[:, t - 1])
    return kept, accepted
