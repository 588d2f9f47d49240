"""The training loop: it improves, it stops, and its state is all there is."""

import dataclasses
import io
import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Wilson
from lattice_flows.actions.phi4 import Phi4
from lattice_flows.config import TrainingConfig
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.flows import affine
from lattice_flows.training import TrainingState, learning_rate, select_device, total_steps, train, whole_flow

SETTINGS = TrainingConfig(steps=30, batch=64, learning_rate=0.02, warmup=3)


SPACE = GaugeField(U1(), (4, 4))


def start(group=None, settings=SETTINGS, lattice=(4, 4), dtype=torch.float32):
    group = group or U1()
    return TrainingState.start(cases.flow(group, lattice, layers=4, dtype=dtype), settings)


def without_times(record):
    return {name: value for name, value in dataclasses.asdict(record).items() if "seconds" not in name}


@pytest.mark.parametrize("estimator", ["reparametrisation", "path", "reinforce"])
@pytest.mark.parametrize("group", [U1(), SU(2)], ids=str)
def test_it_learns(group, estimator):
    settings = dataclasses.replace(SETTINGS, estimator=estimator)
    records = list(train(start(group), Wilson(GaugeField(group, (4, 4)), 1.0), settings))
    assert [record.step for record in records] == list(range(1, 31))
    first, last = records[:5], records[-5:]
    assert sum(r.loss for r in last) < sum(r.loss for r in first) - 5
    assert sum(r.ess for r in last) > sum(r.ess for r in first)
    assert not any(record.skipped for record in records)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("interruption", [1, 13, 29])
def test_a_stored_state_changes_nothing(dtype, interruption):
    """Stopped, stored, loaded into a fresh state and continued: the same numbers to the last bit."""
    whole = start(dtype=dtype)
    records = list(train(whole, Wilson(SPACE, 1.0), SETTINGS))

    part = start(dtype=dtype)
    steps = train(part, Wilson(SPACE, 1.0), SETTINGS)
    kept = [next(steps) for _ in range(interruption)]
    buffer = io.BytesIO()
    torch.save(part.state_dict(), buffer)
    buffer.seek(0)
    fresh = TrainingState.start(cases.flow(U1(), (4, 4), layers=4, seed=99, dtype=dtype), SETTINGS)
    torch.manual_seed(1234)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    kept += train(fresh, Wilson(SPACE, 1.0), SETTINGS)

    assert [without_times(record) for record in kept] == [without_times(record) for record in records]
    for a, b in zip(whole.flow.parameters(), fresh.flow.parameters(), strict=True):
        assert torch.equal(a, b)


def test_global_random_streams_are_part_of_the_state():
    """A layer that draws from torch's global stream resumes, too."""

    class Noisy(Wilson):
        def forward(self, links):
            return super().forward(links) + torch.rand(())

    whole = start()
    torch.manual_seed(7)
    losses = [record.loss for record in train(whole, Noisy(SPACE, 1.0), SETTINGS)]
    part = start()
    torch.manual_seed(7)
    steps = train(part, Noisy(SPACE, 1.0), SETTINGS)
    kept = [next(steps).loss for _ in range(10)]
    saved = part.state_dict()
    torch.manual_seed(8)
    part.load_state_dict(saved)
    assert kept + [record.loss for record in steps] == losses


def test_learning_rate():
    settings = TrainingConfig(steps=110, learning_rate=2.0, warmup=10)
    assert learning_rate(0, settings) == pytest.approx(0.2)
    assert learning_rate(10, settings) == 2.0
    assert learning_rate(60, settings) == pytest.approx(1.0)
    assert 0 < learning_rate(109, settings) < 0.01
    rates = [record.learning_rate for record in train(start(), Wilson(SPACE, 1.0), SETTINGS)]
    assert rates == [learning_rate(step, SETTINGS) for step in range(30)]


def test_annealing():
    settings = dataclasses.replace(SETTINGS, beta_start=0.5, anneal_steps=10)
    seen = []

    class Spy(Wilson):
        def forward(self, links):
            seen.append(super().forward(links).detach())
            return super().forward(links)

    records = list(train(start(), Spy(SPACE, 2.0), settings))
    betas = [record.beta for record in records]
    assert betas[0] == 0.5
    assert betas[5] == pytest.approx(1.25)
    assert betas[10:] == [2.0] * 20
    # the first loss is at beta = 0.5: near the Haar prior it is near 0, and at beta = 2 it would fluctuate more
    assert abs(records[0].loss) < 2


class Shifted(Wilson):
    """The Wilson action plus a constant."""

    def __init__(self, space, beta, constant):
        super().__init__(space, beta)
        self.constant = constant

    def forward(self, links):
        return super().forward(links) + self.constant


def test_an_action_with_a_constant_is_annealed():
    """Its losses are higher by the constant at every coupling; weights, gradients and force are those without it."""
    settings = dataclasses.replace(SETTINGS, beta_start=0.5, anneal_steps=20)
    plain, shifted = start(dtype=torch.float64), start(dtype=torch.float64)
    action, other = Wilson(SPACE, 2.0), Shifted(SPACE, 2.0, constant=3.0)
    pairs = list(zip(train(plain, action, settings), train(shifted, other, settings), strict=True))
    assert [one.beta for one, _ in pairs] == [two.beta for _, two in pairs]
    for one, two in pairs:
        assert two.loss - one.loss == pytest.approx(3.0, abs=1e-9)
        assert two.ess == pytest.approx(one.ess, abs=1e-9)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-9)
    for a, b in zip(plain.flow.parameters(), shifted.flow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    links = SPACE.prior(3, torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(other.at(0.5).force(links), action.at(0.5).force(links))
    torch.testing.assert_close(other.at(0.5)(links) - action.at(0.5)(links), torch.full((3,), 3.0, dtype=links.dtype))


def test_an_action_without_beta_cannot_be_annealed():
    space = ScalarField((4, 4))
    flow, action = affine(space.lattice, layers=2, hidden=(4,), seed=0), Phi4(space, m2=-4.0, lambda_=6.0)
    settings = dataclasses.replace(SETTINGS, beta_start=0.5, anneal_steps=10)
    with pytest.raises(InvalidInput, match=r"beta_start = 0.5 anneals beta, but Phi4.* has none; leave beta_start out"):
        next(train(TrainingState.start(flow, settings), action, settings))
    records = list(train(TrainingState.start(flow, SETTINGS), action, SETTINGS))
    assert {record.beta for record in records} == {None}
    assert records[-1].loss < records[0].loss


def test_stages_in_order():
    """Each stage has its own batch, and steps are counted through all; a stage that is done is not begun."""
    state, action = start(), Wilson(SPACE, 1.0)
    first = whole_flow(state.flow, action, dataclasses.replace(SETTINGS, steps=3, batch=16))._replace(name="first")
    last = whole_flow(state.flow, action, dataclasses.replace(SETTINGS, steps=2, estimator="reinforce"))
    assert total_steps([first, last]) == 5
    records = list(train(state, action, SETTINGS, stages=[first, last]))
    assert [record.stage for record in records] == ["first"] * 3 + ["flow"] * 2
    assert [record.step for record in records] == [1, 2, 3, 4, 5]
    assert list(train(state, action, SETTINGS, stages=[first._replace(start=None), last._replace(start=None)])) == []


def test_gradients_are_clipped():
    gentle = dataclasses.replace(SETTINGS, steps=1, clip=1e-6)
    state = start()
    seen = []
    state.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(
            torch.stack([p.grad.square().sum() for group in optimizer.param_groups for p in group["params"]])
            .sum()
            .sqrt()
        )
    )
    (record,) = train(state, Wilson(SPACE, 1.0), gentle)
    assert record.grad_norm > 1e-3
    assert seen[0] == pytest.approx(1e-6, rel=1e-2)


class Sometimes(Wilson):
    """An action that is not finite at given calls."""

    def __init__(self, bad, value):
        super().__init__(SPACE, 1.0)
        self.bad, self.value, self.calls = bad, value, 0

    def forward(self, links):
        self.calls += 1
        return super().forward(links) * (self.value if self.calls in self.bad else 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_steps_are_skipped_and_counted(value):
    state = start(settings=dataclasses.replace(SETTINGS, max_bad_steps=3))
    before, records = None, []
    for record in train(state, Sometimes({4, 5, 9}, value), dataclasses.replace(SETTINGS, max_bad_steps=3)):
        after = [parameter.detach().clone() for parameter in state.flow.parameters()]
        if record.skipped:
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        before = after
        records.append(record)
    assert [record.step for record in records if record.skipped] == [4, 5, 9]
    assert all(torch.isfinite(parameter).all() for parameter in state.flow.parameters())


def test_too_many_bad_steps_in_a_row_stop_the_training():
    settings = dataclasses.replace(SETTINGS, max_bad_steps=3)
    records = []
    with pytest.raises(NumericalFailure, match=r"step 7.*3 times in a row.*learning_rate"):
        records.extend(train(start(), Sometimes({2, 5, 6, 7, 8}, math.nan), settings))


def test_devices():
    assert select_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert select_device("auto") == torch.device("cpu")
        with pytest.raises(InvalidInput, match="0 CUDA devices"):
            select_device("cuda:1")


def test_state_of_another_flow():
    saved = start().state_dict()
    other = TrainingState.start(cases.flow(U1(), (4, 4), layers=3), SETTINGS)
    with pytest.raises(InvalidInput, match="another flow"):
        other.load_state_dict(saved)
