"""Chains that are stuck or frozen: no error, but words, whatever the autocorrelation function looks like."""

import math

import numpy as np
import pytest
import torch
from known_chains import ar1

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import Moves, acceptance, estimate, jackknife, longest_rejection_run, reweight


def lasting(stays, seed=0):
    """A chain of independent numbers, each of which lasts for some updates."""
    return np.repeat(np.random.default_rng(seed).normal(size=len(stays)), stays)


def geometric(rate, n, seed=0):
    """A chain that accepts independent numbers at a rate."""
    accepted = np.random.default_rng(seed).random(n) < rate
    accepted[0] = True
    return lasting(np.diff(np.flatnonzero(accepted), append=n), seed), accepted


STUCK = {
    "few states": ([125] * 8, "stuck: 8 distinct configurations"),
    "a long rejection run": ([5] * 80 + [601], "stuck: one configuration for 60 % of the chain"),
}


@pytest.mark.parametrize("name", STUCK)
def test_a_stuck_chain_has_no_error(name):
    stays, reason = STUCK[name]
    series = lasting(stays)
    result = estimate(series)
    assert (result.reason, result.reliable) == (reason, False)
    assert math.isnan(result.error)
    assert math.isnan(result.n_eff)
    assert str(result) == f"{result.value:.4g}, {reason}"
    derived = jackknife(np.square, series)
    assert math.isnan(derived.error)
    assert derived.value == pytest.approx(result.value**2)
    assert (derived.reason, derived.reliable) == (reason, False)
    weighted = reweight(series, 0.1 * series).estimate
    assert (weighted.reason, weighted.reliable) == (reason, False)
    # among others that move
    assert "stuck: one configuration for " in estimate([*ar1(0.0, len(series), seed=1, chains=3), series]).reason


def test_states_that_last_very_differently_are_no_reliable_error():
    """In a chain of a flow, the few of large weight decide."""
    series = lasting(np.random.default_rng(0).permutation([2] * 6000 + [400] * 30))
    result = estimate(series)
    assert result.reason == "short: 6030 distinct configurations count as 119"
    assert result.error >= 0.99 * series.std() / math.sqrt(120)


def test_a_charge_of_a_stuck_chain_has_no_error():
    """Its own changes do not tell: the moves of the configurations do."""
    charge = np.where(np.arange(1000) % 10 < 5, 0.0, 1.0)
    accepted = np.arange(1000) % 125 == 0
    assert estimate(charge).reason == ""
    assert estimate(charge, Moves.of(accepted)).reason == "stuck: 8 distinct configurations"


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_no_more_independent_measurements_than_moves(rate):
    """Independent states that last for a geometric time: n_eff = n rate / (2 - rate), for any observable."""
    series, accepted = geometric(rate, 20_000)
    moves = Moves.of(accepted)
    np.testing.assert_array_equal(moves.stays[0], Moves.of_values([series]).stays[0])
    assert (moves.distinct, moves.lengths) == (accepted.sum(), [20_000])
    assert moves.effective == pytest.approx(20_000 * rate / (2 - rate), rel=0.1)
    for own in (estimate(series), estimate(np.random.default_rng(1).normal(size=20_000), moves)):
        assert own.reliable
        assert own.n_eff <= moves.effective * (1 + 1e-9) <= moves.distinct
    own = estimate(series)
    assert own.error == pytest.approx(series.std() / math.sqrt(own.n_eff), rel=0.02)


def test_chains_that_move_are_not_stuck():
    """Few values, few measurements, rejections by chance, many short chains."""
    rng = np.random.default_rng(2)
    charge = rng.integers(-1, 2, size=(8, 250)).astype(float)
    assert estimate(charge).reason == ""
    assert estimate(charge).n_eff > 1500
    rare = (rng.random(5000) < 0.02).astype(float)
    assert estimate(rare).reason == ""
    assert estimate(rng.normal(size=150)).reason == ""
    assert "stuck" not in estimate(geometric(0.8, 100)[0]).reason
    assert estimate([geometric(0.8, 50, seed)[0] for seed in range(40)]).reason == ""
    assert "stuck" not in estimate(rng.normal(size=20)).reason


def test_few_changes_of_a_value_are_no_error():
    """Two excursions of a charge have no autocorrelation time, though the configurations move."""
    charge = np.zeros(10_000)
    charge[3000:3020] = charge[8000:8010] = 1.0
    for moves in (None, Moves.of(np.ones(10_000))):
        assert estimate(charge, moves).reason == "stuck: 4 changes of the value"


def test_a_frozen_chain_among_moving_ones_is_named():
    chains = ar1(0.5, 500, seed=3, chains=16)
    chains[3], chains[7] = 1.5, 0.0
    result = estimate(chains)
    assert (result.frozen, result.reason) == ((3, 7), "frozen: chains 3, 7")
    assert math.isnan(result.error)
    charge = np.random.default_rng(4).integers(-2, 3, size=(16, 100)).astype(float)
    charge[5] = 0  # as the others are now and then
    assert estimate(charge).reason == "frozen: chain 5"
    assert estimate(np.repeat(np.arange(16.0)[:, None], 50, axis=1)).reason == "frozen: no chain moves"


def test_a_charge_that_is_constant_by_chance_is_not_frozen():
    """Of 64 chains of 20 independent charges, a tenth of which differ from 0, some see none of these."""
    charge = (np.random.default_rng(5).random((64, 20)) < 0.1).astype(float)
    assert any((chain == 0).all() for chain in charge)
    result = estimate(charge)
    assert (result.frozen, result.reason) == ((), "")
    assert abs(result.value - 0.1) < 4 * result.error


def test_all_counts_updates():
    """A chain that is measured at every fourth update has its own tau_int, window and lags."""
    series = ar1(0.9, 40_000, seed=6)[0]
    fine, coarse = estimate(series), estimate(series[::4], every=4)
    assert coarse.tau_int == pytest.approx(fine.tau_int, rel=0.15)
    assert coarse.n_eff == pytest.approx(fine.n_eff, rel=0.15)
    assert coarse.window % 4 == 0
    assert coarse.tau_int_error == pytest.approx(4 * estimate(series[::4]).tau_int_error)
    assert (coarse.error, coarse.reliable) == (estimate(series[::4]).error, True)


def test_moves_of_other_chains():
    series = np.random.default_rng(0).normal(size=100)
    with pytest.raises(InvalidInput, match=r"moves must be those of the chains, of \[100\] .*, got \[99\]"):
        estimate(series, Moves.of(np.ones(99)))
    with pytest.raises(InvalidInput, match="every must be >= 1 updates, got 0"):
        estimate(series, every=0)


@pytest.mark.parametrize(
    ("accepted", "rate", "longest"),
    [
        ([True], 1.0, 0),
        ([False], 0.0, 1),
        ([False, False, True, False], 0.25, 2),
        ([True, False, False, False], 0.25, 3),
        ([1, 0, 1, 0, 0, 1], 0.5, 2),
        ([[True, False, False], [False, True, True]], 0.5, 2),  # a run does not go on in the next chain
        (np.zeros((2, 3), dtype=bool), 0.0, 3),
        (torch.tensor([True, False]), 0.5, 1),
    ],
)
def test_acceptance(accepted, rate, longest):
    assert acceptance(accepted) == rate
    assert longest_rejection_run(accepted) == longest


@pytest.mark.parametrize("accepted", [[], True, [0.5, 1.0], [[], []]])
def test_invalid_acceptance(accepted):
    for function in (acceptance, longest_rejection_run):
        with pytest.raises(InvalidInput, match="accepted must"):
            function(accepted)
