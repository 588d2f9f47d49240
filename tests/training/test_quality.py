"""The quality of a flow: what is shown is that of the flow, with an honest floor, on any number of ranks."""

import dataclasses
import math

import cases
import pytest
import torch

from lattice_flows import U1
from lattice_flows.actions import Wilson
from lattice_flows.config import TrainingConfig
from lattice_flows.distributed import World
from lattice_flows.errors import NumericalFailure
from lattice_flows.statistics import ess
from lattice_flows.statistics.weights import expected_acceptance
from lattice_flows.streams import keyed
from lattice_flows.training import Divergence, Quality, TrainingState, fresh_log_weights, pooled_ess, train
from lattice_flows.training.quality import FRESH, SAMPLES

SETTINGS = TrainingConfig(steps=30, batch=32, learning_rate=0.02)


def log_normal(n, sigma, seed=0):
    return sigma * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def metrics_of(batches, **others):
    """The records of steps with these log-weights."""
    values = [Divergence(torch.zeros(()), batch) for batch in batches]
    same = {"stage": "flow", "beta": 1.0, "batch": len(batches[0])} | others
    return [same | {"ess": value.ess, "log_z": value.log_z} for value in values]


def test_pooled_batches_are_one_sample():
    """A batch has its own floor; pooled, they have that of all their samples together."""
    log_w = log_normal(1600, 2.0) + 300
    value, n = pooled_ess(metrics_of(log_w.split(32)))
    assert (value, n) == (pytest.approx(ess(log_w).item(), rel=1e-9), 1600)
    batches = [ess(batch).item() for batch in log_w.split(32)]
    assert sum(batches) / 50 > 2 * value  # alone they say more


def test_batches_of_the_target_pool_with_those_of_the_model():
    """Of weights of the model, exp(-1/4) by either density: under the target their mean is one variance higher."""
    log_w = log_normal(50_000, 0.5) + 7
    model = Divergence(torch.zeros(()), log_w)
    target = Divergence(torch.zeros(()), log_normal(50_000, 0.5, seed=1) + 7 + 0.25, forward=True)
    for value in (model, target):
        assert value.ess == pytest.approx(math.exp(-0.25), abs=0.02)
        assert value.log_z == pytest.approx(7 + 0.125, abs=0.02)
    mixed = target._replace(mixed=True)
    assert math.isnan(mixed.ess)
    assert math.isnan(mixed.log_z)


def test_other_stages_and_couplings_are_not_pooled():
    batches = log_normal(128, 1.0).split(32)
    own = metrics_of(batches[2:])
    for other in ({"stage": "1+1"}, {"beta": 0.5}):
        assert pooled_ess(metrics_of(batches[:2], **other) + own) == pooled_ess(own)
    assert pooled_ess(own)[1] == 64
    assert pooled_ess([*own, own[-1] | {"ess": None, "log_z": None}]) == pooled_ess(own)
    assert pooled_ess([own[-1] | {"ess": None, "log_z": None}])[1] == 0
    assert pooled_ess([])[1] == 0


def test_expected_acceptance_is_that_of_all_pairs():
    log_w = log_normal(40, 1.5) - 900
    w = (log_w + 900).exp()
    pairs = torch.minimum(w[:, None], w[None, :])
    exact = (pairs.sum() - pairs.trace()) / (40 * 39) / w.mean()
    assert expected_acceptance(log_w).item() == pytest.approx(exact.item(), rel=1e-12)
    assert expected_acceptance(torch.zeros(9)).item() == pytest.approx(1)


class Rank(World):
    """One rank of a world, alone."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def test_fresh_samples_are_the_same_on_any_number_of_ranks():
    flow = cases.flow(U1(), (4, 4), layers=2)
    action = Wilson(flow.space, 1.0)
    alone = torch.cat([part for part, _ in fresh_log_weights(flow, action, SETTINGS)])
    assert len(alone) == SAMPLES
    for size in (2, 3, 16):
        parts = [list(fresh_log_weights(flow, action, SETTINGS, Rank(rank, size))) for rank in range(size)]
        assert len({len(own) for own in parts}) == 1  # all ranks meet as often
        together = torch.cat([part for own in parts for part, _ in own])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)


def test_fresh_samples_have_streams_of_their_own():
    """No step of a training draws them."""
    flow = cases.flow(U1(), (4, 4), layers=2)
    seen = []
    flow.sample_prior = lambda n, generator: seen.append(generator.initial_seed()) or flow.space.prior(n, generator)
    list(fresh_log_weights(flow, Wilson(flow.space, 1.0), SETTINGS))
    fresh = set(seen)
    assert fresh == {keyed(SETTINGS.seed, "shard", FRESH, k).initial_seed() for k in range(16)}
    seen.clear()
    list(train(TrainingState.start(flow, SETTINGS), Wilson(flow.space, 1.0), SETTINGS))
    assert len(seen) >= 30 * 16
    assert not fresh & set(seen)


def test_a_flow_for_a_range_of_couplings_is_taken_at_that_of_the_action():
    """And not at the one that its last step has drawn."""
    from lattice_flows.planar.hierarchical import hierarchical

    flow = hierarchical(U1(), (4, 4), seed=0, beta_range=(0.5, 3.0))
    flow.beta_input.set(3.0)
    list(fresh_log_weights(flow, Wilson(flow.space, 1.0), dataclasses.replace(SETTINGS, shards=1)))
    assert float(flow.beta_input.beta) == 1.0


def test_weights_that_are_not_finite_count_as_zero():
    log_w = torch.tensor([0.0, 0.0, math.nan, math.inf])
    assert Quality.of(log_w, seconds=1.0).ess == pytest.approx(0.5)
    with pytest.raises(NumericalFailure, match="1 of 4 fresh samples of the flow have a finite weight"):
        Quality.of(torch.tensor([0.0, *[math.nan] * 3]), seconds=1.0)
