"""Stochastic flows: exact free energies and means, gains of layers, and the predictions of linear response."""

import functools

import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField, flows
from lattice_flows.actions import Wilson
from lattice_flows.actions.phi4 import Phi4
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import average_plaquette
from lattice_flows.operators import production
from lattice_flows.planar.exact import exact_value, log_z
from lattice_flows.sampling import IndependenceMetropolis, StochasticFlow, log_z_ratio, weighted_mean
from lattice_flows.sampling.base import start
from lattice_flows.sampling.stochastic_flow import heat_bath_cycle
from lattice_flows.statistics import ess, estimate
from lattice_flows.streams import Streams
from lattice_flows.training.response import Response, fit_couplings, fits_along

CASES = [(U1(), 0.0, 2.0), (SU(2), 0.0, 2.0), (SU(2), 2.0, 3.0)]
STAGES, PATHS = 8, 192


def wilson(group, beta):
    return Wilson(GaugeField(group, (8, 8)), 1.0).at(beta)


@functools.cache
def samples(group, beta):
    """Independent configurations where paths begin."""
    streams, sampler = Streams(5, PATHS), heat_bath_cycle(wilson(group, beta))
    state = sampler.init(start(sampler.action.space, streams, dtype=torch.float64))
    for _ in range(40 if beta else 0):
        state, _ = sampler.step(state, streams)
    return state.x


@functools.cache
def response(group, first, last, layers):
    """That of layers of the production operators, or without layers."""
    action, streams = wilson(group, last), Streams(1, 32)
    betas, x = fit_couplings(first, action), samples(group, first)[:32]
    return Response.of(betas, list(fits_along(action, betas, heat_bath_cycle, operators(group, layers), x, streams)))


def operators(group, layers):
    return production(group, 2) if layers else ()


def flow_of(group, first, last, layers, stages=STAGES):
    found, action = response(group, first, last, layers), wilson(group, last)
    betas = found.schedule(stages)
    return StochasticFlow(
        action,
        betas[1:].tolist(),
        operators=operators(group, layers),
        coefficients=found.coefficients(betas),
        first=first,
        ensemble=samples(group, first) if first else None,
        dtype=torch.float64,
    )


@functools.cache
def paths(group, first, last, layers):
    """Ends and log-weights of paths."""
    flow = flow_of(group, first, last, layers)
    x, log_w = flow.draw(PATHS, Streams(2, 1))
    return flow, x, log_w - flow.schedule[-1].action(x)


@pytest.mark.parametrize("layers", [False, True], ids=["updates", "layers"])
@pytest.mark.parametrize(("group", "first", "last"), CASES, ids=str)
def test_weights_are_exact(group, first, last, layers):
    """<w> = Z / Z_0, but for the steps of layers, and the weighted plaquette."""
    flow, x, log_w = paths(group, first, last, layers)
    value, error = log_z_ratio(log_w)
    steps = flow.integration_errors(16, Streams(4, 1))
    exact = log_z(wilson(group, last)) - log_z(wilson(group, first))
    assert error < (0.2 if layers else 0.7)
    assert abs(value - steps.mean() - exact) < 4 * (error**2 + steps.var() / len(steps)) ** 0.5
    assert bool(steps.any()) == layers
    mean, error = weighted_mean(average_plaquette(flow.space)(x), log_w)
    assert abs(mean - exact_value("plaquette", wilson(group, last))) < 4 * error
    assert flow.space.group.defect(x).max() < 1e-10


@pytest.mark.parametrize(("group", "first", "last"), CASES, ids=str)
def test_layers_gain_what_is_predicted(group, first, last):
    """The dissipated work, half the variance of log w, is that of linear response."""
    plain, better = (paths(group, first, last, layers)[2] for layers in (False, True))
    assert ess(better) > 1.5 * ess(plain)
    assert response(group, first, last, True).work(STAGES) < 0.2 * response(group, first, last, False).work(STAGES)
    for log_w, layers in ((plain, False), (better, True)):
        measured = float(log_w.var()) / 2  # with a relative error of sqrt(2 / PATHS) = 0.1
        assert abs(response(group, first, last, layers).work(STAGES) / measured - 1) < 0.4


def test_the_chain_of_its_proposals_has_the_exact_mean():
    group, first, last = CASES[2]
    flow, action = flow_of(group, first, last, True, stages=4), wilson(group, last)
    sampler, streams = IndependenceMetropolis(flow, action, batch=64), Streams(6, 1)
    state, plaquette, values = sampler.begin(streams), average_plaquette(flow.space), []
    for _ in range(256):
        state, _ = sampler.step(state, streams)
        values.append(float(plaquette(state.x)))
    found = estimate(values)
    assert 0.5 < len(set(values)) / 256 < 1
    assert found.error < 0.01
    assert abs(found.value - exact_value("plaquette", action)) < 4 * found.error


def test_it_stands_among_the_flows():
    assert flows.StochasticFlow is StochasticFlow
    assert "SU(2), 8x8), beta = 2 to 3, 8 stages, layers of 2 operators" in repr(flow_of(*CASES[2], True))


def test_stages_of_a_schedule_dissipate_the_same():
    """For a work density (1 + beta)^2, with coefficients that are linear in beta."""
    betas = torch.linspace(0, 3, 31, dtype=torch.float64)
    parts = torch.stack([(1 + betas) ** 2, 0 * betas + 0.5, 0 * betas + 2], 1)
    found = Response(betas, betas[:, None] * torch.tensor([1.0, 2.0], dtype=torch.float64), parts)
    schedule = found.schedule(5)
    ends = (1 + schedule) ** 2 / 2  # the integral of sqrt(w)
    torch.testing.assert_close(ends.diff(), torch.full((5,), 1.5, dtype=torch.float64), atol=1e-3, rtol=0)
    assert (schedule[0], schedule[-1]) == (0, 3)
    assert found.work(5) == pytest.approx(7.5**2 / 5, rel=1e-4)
    assert found.scaled(4.0).work(5) == pytest.approx(4 * found.work(5))
    coefficients = found.coefficients(schedule)
    torch.testing.assert_close(coefficients[:, 0], (schedule**2).diff() / 2)
    torch.testing.assert_close(coefficients[:, 1], 2 * coefficients[:, 0])


ACTION = wilson(SU(2), 2.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StochasticFlow(ACTION, []), r"must end at 2.0, that of the target, got \[\]"),
        (lambda: StochasticFlow(ACTION, [1.0]), r"must end at 2.0, that of the target, got \[1.0\]"),
        (lambda: StochasticFlow(ACTION, [1.5, 1.0, 2.0]), "to 2, that of the target: got 1 after 1.5"),
        (lambda: StochasticFlow(ACTION, [1.0, 1.0, 2.0]), "got 1 after 1"),
        (lambda: StochasticFlow(ACTION, [2.0], first=-1.0), "from 0 or more to 2, .*: got 2 after -1"),
        (lambda: fit_couplings(3.0, ACTION), "got 2 after 3"),
        (lambda: StochasticFlow(ACTION, [2.0], first=1.0), "got 1 and no ensemble"),
        (lambda: StochasticFlow(ACTION, [2.0], ensemble=torch.zeros(1)), "got 0 and an ensemble"),
        (lambda: StochasticFlow(ACTION, [2.0], operators=production(SU(2), 2)), r"coefficients must be \(1, 2\)"),
        (lambda: fit_couplings(0.0, Phi4(ScalarField((4, 4)), -1.0, 1.0)), "coupling beta, and .* has none"),
        (lambda: flow_of(*CASES[0], True).integration_errors(7, Streams(0, 1)), "multiple of 8, got 7"),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
