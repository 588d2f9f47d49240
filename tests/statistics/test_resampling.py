"""Jackknife and bootstrap: errors that are the spread of repetitions, on chains whose autocorrelation is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from known_chains import ar1

from lattice_flows import U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import wilson_loops
from lattice_flows.planar import exact
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.statistics import bootstrap, effective_potential, estimate, jackknife
from lattice_flows.statistics.resampling import optimal_bin_size

A = 0.8
TAU = (1 + A) / (2 * (1 - A))


def seeded_bootstrap(f, samples, bin_size=None):
    return bootstrap(f, samples, torch.Generator().manual_seed(0), draws=200, bin_size=bin_size)


METHODS = pytest.mark.parametrize("method", [jackknife, seeded_bootstrap])


def ratio(means):
    return means[0] / means[1]


def pairs(n, seed, chains):
    """(chains, n, 2) with means 2 and 4: the ratio is 1/2, and its error to first order is that of (x - y / 2) / 4."""
    x, y = ar1(A, n, seed, chains), ar1(A, n, seed + 1, chains)
    return np.stack([2 + 0.3 * x, 4 + 0.3 * (0.6 * x + 0.8 * y)], axis=-1)


@METHODS
def test_errors_cover(method):
    n, repetitions = 4000, 200
    results = [method(ratio, samples) for samples in pairs(n, 1, repetitions)]
    pulls = np.array([(float(r.value) - 0.5) / float(r.error) for r in results])
    assert abs(pulls.mean()) < 4 / math.sqrt(repetitions)
    assert abs(pulls.std() - 1) < 4 / math.sqrt(2 * repetitions)
    # Var(x - y/2) with cross terms: 0.09 (1 + 1/4 - 0.6)
    known = math.sqrt(0.09 * (1.25 - 0.6) * 2 * TAU / n) / 4
    assert np.mean([r.error for r in results]) == pytest.approx(known, rel=0.08)
    assert all(r.reliable for r in results)


@METHODS
def test_several_chains_are_as_good_as_a_long_one(method):
    samples = pairs(2000, 5, 8)
    result = method(ratio, list(samples))
    known = math.sqrt(0.09 * (1.25 - 0.6) * 2 * TAU / 16_000) / 4
    assert float(result.error) == pytest.approx(known, rel=0.2)
    assert float(result.value) == pytest.approx(ratio(samples.mean((0, 1))), rel=1e-12)
    assert result.tau_int == pytest.approx(TAU, rel=0.2)
    cut = [samples[0], samples[1, :700], torch.from_numpy(samples[2, :1501])]
    every = np.concatenate(cut).mean(0)
    assert float(method(ratio, cut).value) == pytest.approx(ratio(every), rel=1e-12)


def test_jackknife_of_a_mean_is_the_gamma_method():
    chains = ar1(0.9, 20_000, seed=3, chains=2)
    own = jackknife(lambda mean: mean, list(chains))
    expected = estimate(chains)
    assert float(own.value) == pytest.approx(expected.value, rel=1e-12)
    assert float(own.error) == pytest.approx(expected.error, rel=0.15)
    assert own.bin_size == optimal_bin_size(expected.tau_int, 40_000)
    assert own.bin_size > 10 * expected.tau_int


def curved(means):
    """Which sees a common factor of the means."""
    return means[0] ** 2 / means[1]


def five_bins():
    """23 measurements, in five bins of at least four."""
    x = np.random.default_rng(1).normal(size=(23, 2)) + 5
    return x, [range(a, b) for a, b in pairwise([0, 4, 9, 13, 18, 23])]


def test_jackknife_against_its_definition():
    x, bins = five_bins()
    result = jackknife(curved, x, bin_size=4)
    theta = [curved(np.mean([x[i] for i in range(23) if i not in own], axis=0)) for own in bins]
    assert (result.bins, result.bin_size) == (5, 4)
    assert float(result.error) == pytest.approx(math.sqrt(4 / 5 * np.sum((theta - np.mean(theta)) ** 2)), rel=1e-12)


def test_bootstrap_against_its_definition():
    x, bins = five_bins()
    result = bootstrap(curved, x, torch.Generator().manual_seed(2), draws=7, bin_size=4)
    generator = torch.Generator().manual_seed(2)
    drawn = [torch.randint(5, (5,), generator=generator).tolist() for _ in range(7)]
    theta = [curved(np.mean(np.concatenate([x[bins[b]] for b in one]), axis=0)) for one in drawn]
    assert (result.bins, result.bin_size) == (5, 4)
    assert float(result.error) == pytest.approx(np.std(theta), rel=1e-12)


@METHODS
def test_shapes_and_precisions(method):
    x = np.random.default_rng(2).normal(size=(500, 3, 2)).astype(np.float32)
    table = method(lambda means: means**2, x)
    assert table.value.shape == table.error.shape == (3, 2)
    assert table.value.dtype == np.float64
    np.testing.assert_allclose(table.value, x.astype(np.float64).mean(0) ** 2, rtol=1e-12)
    single = method(lambda mean: mean**2, torch.from_numpy(x[:, 2, 1]), bin_size=table.bin_size)
    np.testing.assert_allclose(single.error, table.error[2, 1])


def test_bootstrap_is_a_function_of_the_generator():
    x = pairs(500, 3, 1)[0]
    assert seeded_bootstrap(ratio, x).error == seeded_bootstrap(ratio, x).error
    other = bootstrap(ratio, x, torch.Generator().manual_seed(1), draws=200)
    assert other.error != seeded_bootstrap(ratio, x).error


@METHODS
def test_frozen_observables(method):
    """Of one that stands still in every chain, differently, nothing is known; a constant beside others is known."""
    moving = ar1(0.5, 400, seed=2, chains=4)
    frozen = np.broadcast_to(np.array([-1.0, 0.0, 0.0, 1.0])[:, None], moving.shape)
    result = method(lambda means: means[1], list(np.stack([moving, frozen], axis=-1)))
    assert (result.bins, result.bin_size, result.reliable) == (4, 400, False)
    assert math.isnan(result.tau_int)
    assert (float(result.value), math.isnan(result.error), result.reason) == (0, True, "frozen: no chain moves")
    same = method(ratio, np.stack([moving[0] + 4, np.ones(400)], axis=-1))
    assert same.reliable
    assert float(same.error) == pytest.approx(estimate(moving[0]).error, rel=0.25)
    nothing = method(ratio, np.ones((10, 2)))
    assert (float(nothing.value), math.isnan(nothing.error), nothing.reliable) == (1, True, False)


def test_short_chains_and_short_bins_are_not_reliable():
    slow = ar1(0.99, 1000, seed=1)[0]
    assert not jackknife(lambda mean: mean, slow).reliable
    long = ar1(0.9, 50_000, seed=1)[0]
    assert jackknife(lambda mean: mean, long).reliable
    assert not jackknife(lambda mean: mean, long, bin_size=10).reliable
    assert not jackknife(lambda mean: mean, long, bin_size=10_000).reliable
    # chains that end before their autocorrelation does
    assert not jackknife(lambda mean: mean, list(ar1(0.8, 12, seed=1, chains=1000))).reliable


def test_potential_of_two_dimensions():
    """W(R, T) is an area law: the potential of jackknifed loops is R times the string tension."""
    generator = torch.Generator().manual_seed(3)
    space = GaugeField(U1(), (8, 8))
    links = exact_samples(Wilson(space, beta=2.0), 1500, generator=generator)
    loops = wilson_loops(space, 3, 3)(links)
    potential = jackknife(effective_potential, loops)
    loop = np.array([[exact.wilson_loop(U1(), 2.0, r * t, volume=64) for t in (1, 2, 3)] for r in (1, 2, 3)])
    pulls = (potential.value - effective_potential(loop)) / potential.error
    assert np.abs(pulls).max() < 4
    assert potential.value.shape == (3, 2)


def test_optimal_bin_size():
    for tau in (0.5, 3.0, 50.0):
        for n in (100, 10_000, 10**6):
            best = optimal_bin_size(tau, n)

            def loss(size, tau=tau, n=n):
                return tau / size / 2 + math.sqrt(size / (2 * n))

            assert loss(best) <= min(loss(best + 1), loss(best - 1) if best > 1 else math.inf) * (1 + 1e-2)


@pytest.mark.parametrize(
    ("samples", "bin_size", "message"),
    [
        (np.zeros((4, 2)), None, "chain 0 has 4 measurements"),
        ([np.zeros((9, 2)), np.zeros((9, 3))], None, "chain 1 must have shape"),
        (np.full((9, 2), math.nan), None, "must be finite"),
        (np.zeros((9, 2), dtype=complex), None, "real numbers"),
        (np.random.default_rng(0).normal(size=(9, 2)), 0, "bin_size must be >= 1"),
        (np.random.default_rng(0).normal(size=(9, 2)), 9, "at least two bins"),
        (1.0, None, "must have shape"),
    ],
)
def test_invalid(samples, bin_size, message):
    for method in (jackknife, seeded_bootstrap):
        with pytest.raises(InvalidInput, match=message):
            method(ratio, samples, bin_size=bin_size)
    with pytest.raises(InvalidInput, match="at least two draws"):
        bootstrap(ratio, np.ones((10, 2)), torch.Generator(), draws=1)
