"""Training level by level: which levels, in which order, and that a stop in any of them changes nothing."""

import dataclasses
import io

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, flows
from lattice_flows.actions import Wilson
from lattice_flows.config import TrainingConfig
from lattice_flows.config.rules import combined
from lattice_flows.errors import InvalidInput
from lattice_flows.planar import level_training
from lattice_flows.planar.level_training import LevelTraining, level_stages
from lattice_flows.planar.perceptron import BetaInput
from lattice_flows.planar.splits import SplitPrior
from lattice_flows.training import TrainingState, learning_rate, total_steps
from lattice_flows.training import train as train_stages

pytestmark = pytest.mark.slow

SETTINGS = combined(TrainingConfig, LevelTraining)(
    steps=4, batch=16, level_steps=5, level_batch=16, learning_rate=0.01, level_learning_rate=0.02, warmup=2
)
SPACE = GaugeField(U1(), (4, 4))
ACTION = Wilson(SPACE, 1.0)
NAMES = ["4+4", "2+2", "1+1", "flow"]


@pytest.fixture(autouse=True)
def _small_pool(monkeypatch):
    monkeypatch.setattr(level_training, "POOL", 300)


def a_flow(group=SPACE.group, seed=0, dtype=torch.float32, levels=("c",), **settings):
    return flows.hierarchical(group, (4, 4), levels=levels, bins=4, hidden=(4,), seed=seed, dtype=dtype, **settings)


def train(state, action, settings):
    return train_stages(state, action, settings, stages=level_stages(state.flow, action, settings))


def start(**settings):
    return TrainingState.start(a_flow(**settings), SETTINGS)


def without_time(records):
    dicts = map(dataclasses.asdict, records)
    return [{name: value for name, value in record.items() if "seconds" not in name} for record in dicts]


def parameters(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_levels_from_coarse_to_fine_then_the_flow():
    """The level of 8 + 8 is left out: its loops are Haar elements at this coupling."""
    state = start()
    found = level_stages(state.flow, ACTION, SETTINGS)
    assert [stage.name for stage in found] == NAMES
    assert [stage.steps for stage in found] == [5, 5, 5, 4]
    assert total_steps(found) == 19
    records = list(train(state, ACTION, SETTINGS))
    assert [record.stage for record in records] == ["4+4"] * 5 + ["2+2"] * 5 + ["1+1"] * 5 + ["flow"] * 4
    assert [record.step for record in records] == list(range(1, 20))
    level = [learning_rate(step, SETTINGS, steps=5, peak=0.02) for step in range(5)]
    assert [record.learning_rate for record in records] == 3 * level + [learning_rate(s, SETTINGS) for s in range(4)]
    assert {record.beta for record in records} == {1.0}
    assert not any(record.skipped for record in records)
    stronger = Wilson(SPACE, 3.0)
    assert [stage.name for stage in level_stages(state.flow, stronger, SETTINGS)] == ["8+8", *NAMES]
    alone = level_stages(state.flow, stronger, dataclasses.replace(SETTINGS, level_steps=0))
    assert [stage.name for stage in alone] == ["flow"]


def test_a_stage_moves_its_own_level_alone():
    state = start()
    moved = {}
    before = [parameters(level) for level in state.flow.layers]
    for record in train(state, ACTION, SETTINGS):
        after = [parameters(level) for level in state.flow.layers]
        for k, (old, new) in enumerate(zip(before, after, strict=True)):
            if any(not torch.equal(a, b) for a, b in zip(old, new, strict=True)):
                moved.setdefault(record.stage, set()).add(k)
        before = after
    assert moved == {"4+4": {1}, "2+2": {2}, "1+1": {3}, "flow": {0, 1, 2, 3}}


@pytest.mark.parametrize(
    ("group", "levels", "interruption", "dtype"),
    [
        *((U1(), ("fa", "c"), n, torch.float32) for n in (1, 5, 8, 15, 17)),
        (SU(2), ("cr",), 12, torch.float64),
        (SU(2), ("cr",), 16, torch.float32),
    ],
    ids=str,
)
def test_a_stored_state_changes_nothing(group, levels, interruption, dtype):
    """Stopped inside a level, between two, at the start of the flow or in it: the same numbers to the last bit."""
    action = Wilson(GaugeField(group, (4, 4)), 1.0 if group == U1() else 1.6)

    def fresh(seed):
        return TrainingState.start(a_flow(group, seed, dtype, levels), SETTINGS)

    whole = fresh(0)
    records = list(train(whole, action, SETTINGS))
    assert len({record.stage for record in records}) == 4
    part = fresh(0)
    steps = train(part, action, SETTINGS)
    kept = [next(steps) for _ in range(interruption)]
    buffer = io.BytesIO()
    torch.save(part.state_dict(), buffer)
    buffer.seek(0)
    again = fresh(99)
    torch.manual_seed(1234)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    kept += train(again, action, SETTINGS)

    assert without_time(kept) == without_time(records)
    for a, b in zip(whole.flow.parameters(), again.flow.parameters(), strict=True):
        assert torch.equal(a, b)


def test_stages_that_are_done_are_not_prepared(monkeypatch):
    state = start()
    steps = train(state, ACTION, SETTINGS)
    for _ in range(15):
        next(steps)
    resumed = start()
    resumed.load_state_dict(state.state_dict())
    monkeypatch.setattr(level_training, "plaquettes", None)
    assert [record.stage for record in train(resumed, ACTION, SETTINGS)] == ["flow"] * 4


def test_levels_alone():
    """steps = 0: the levels are all there is."""
    settings = dataclasses.replace(SETTINGS, steps=0)
    records = list(train(start(), ACTION, settings))
    assert [record.stage for record in records] == ["4+4"] * 5 + ["2+2"] * 5 + ["1+1"] * 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: (cases.flow(U1(), (4, 4), layers=2), ACTION),
        lambda: (a_flow(beta_range=(0.5, 2.0)), ACTION),
        lambda: (a_flow(), type("Mine", (Wilson,), {})(SPACE, 1.0)),
    ],
    ids=["stripes", "a range of couplings", "another action"],
)
def test_what_cannot_be_trained_level_by_level(make):
    flow, action = make()
    with pytest.raises(InvalidInput, match=r"level_steps > 0 needs a hierarchical flow.*set level_steps = 0"):
        next(train(TrainingState.start(flow, SETTINGS), action, SETTINGS))
    (record, *_) = train(TrainingState.start(flow, SETTINGS), action, dataclasses.replace(SETTINGS, level_steps=0))
    assert record.stage == "flow"


def test_a_flow_for_a_range_of_couplings_draws_them():
    settings = dataclasses.replace(SETTINGS, level_steps=0, steps=60, batch=2)
    flow = a_flow(beta_range=(0.5, 2.5))
    state = TrainingState.start(flow, settings)
    seen = []
    flow.layers[-1].register_forward_pre_hook(lambda *_: seen.append(flow.beta_input.beta.item()))
    betas = torch.tensor([record.beta for record in train(state, ACTION, settings)])
    assert (betas >= 0.5).all()
    assert (betas <= 2.5).all()
    # uniform: mean and standard deviation
    assert abs(betas.mean() - 1.5) < 4 * (2 / 12**0.5) / 60**0.5
    assert betas.std() == pytest.approx(2 / 12**0.5, rel=0.3)
    # the contexts saw the coupling of the action
    torch.testing.assert_close(torch.tensor(seen), betas)
    assert sum(isinstance(module, BetaInput) for module in flow.modules()) == 1
    # resumed, it draws the same
    part = TrainingState.start(a_flow(beta_range=(0.5, 2.5)), settings)
    steps = train(part, ACTION, settings)
    kept = [next(steps).beta for _ in range(3)]
    saved = part.state_dict()
    fresh = TrainingState.start(a_flow(seed=5, beta_range=(0.5, 2.5)), settings)
    fresh.load_state_dict(saved)
    kept.append(next(train(fresh, ACTION, settings)).beta)
    torch.testing.assert_close(torch.tensor(kept), betas[:4])


def test_a_coupled_flow_needs_the_stages_of_its_recipe():
    """Else it would be trained for the coupling of the action, but see another one."""
    flow = a_flow(beta_range=(0.5, 2.5))
    with pytest.raises(InvalidInput, match=r"the flow sees beta.*stages=level_stages\(flow, action, settings\)"):
        next(train_stages(TrainingState.start(flow, SETTINGS), ACTION, SETTINGS))


def test_rectangles_are_drawn_on_the_device_of_the_stream(monkeypatch):
    seen, sample = [], SplitPrior.sample

    def spy(self, n, generator=None, dtype=None, device=None):
        seen.append(device == generator.device)
        return sample(self, n, generator, dtype, device)

    monkeypatch.setattr(SplitPrior, "sample", spy)
    settings = dataclasses.replace(SETTINGS, level_estimator="log_ratio")
    next(train(TrainingState.start(a_flow(), settings), ACTION, settings))
    assert seen
    assert all(seen)


def test_a_coupled_flow_is_trained_for_the_action_at_that_coupling():
    """The loss of a step is that of the action at the drawn beta, not at its own."""
    settings = dataclasses.replace(SETTINGS, level_steps=0, steps=1, batch=400)
    flow = a_flow(beta_range=(1.9999, 2.0), dtype=torch.float64)
    (record,) = train(TrainingState.start(flow, settings), Wilson(SPACE, 0.1), settings)
    # the flow is the identity: log w = -S of Haar links, of variance V beta^2 / 2, so that the ESS is far from 1
    assert record.ess < 0.3


def test_a_flow_for_a_range_of_couplings_is_not_annealed():
    settings = dataclasses.replace(SETTINGS, level_steps=0, beta_start=0.5, anneal_steps=2)
    with pytest.raises(InvalidInput, match="trained at all its couplings; leave beta_start out"):
        level_stages(a_flow(beta_range=(0.5, 2.5)), ACTION, settings)


def test_settings_of_levels():
    for key, value in (("level_steps", -1), ("level_batch", 0), ("level_learning_rate", 0.0), ("level_estimator", "x")):
        with pytest.raises(InvalidInput, match=key):
            LevelTraining(**{key: value})
    with pytest.raises(InvalidInput, match="steps and level_steps must not both be 0"):
        dataclasses.replace(SETTINGS, steps=0, level_steps=0)
