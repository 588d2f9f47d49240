"""Fits of transport between couplings, and what stages with them find, in two dimensions."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.layers import MidpointStep
from lattice_flows.operators import production
from lattice_flows.planar.exact import log_partition
from lattice_flows.sampling import Annealing, Cycle, HeatBath, OverRelaxation, Streams, log_z_ratio, start
from lattice_flows.training.transport import transport_fit

CHAINS, STAGES = 384, 6


@pytest.mark.parametrize("group", [SU(2), SU(3), SU(4)], ids=str)
def test_the_fit_is_exact_at_infinite_coupling(group, generator):
    """There S_1 is an eigenvector of the Laplacian, with Lap W = -4 C_F W."""
    space, streams = GaugeField(group, (8, 8)), Streams(1, 4)
    haar, change = Wilson(space, beta=1.0).at(0.0), 0.1
    x = start(space, streams, dtype=torch.float64)
    fit = transport_fit(production(group, 2), HeatBath(haar), haar.at(change), x, streams, stages=16, window=4)
    expected = torch.tensor([change / (2 * (group.n**2 - 1)), 0], dtype=torch.float64)
    torch.testing.assert_close(fit.coefficients, expected, rtol=0, atol=1e-12)
    assert fit.left < 1e-20


@pytest.mark.slow
@pytest.mark.parametrize(("group", "begin", "end"), [(SU(2), 2.0, 2.6), (U1(), 1.0, 1.4)], ids=str)
def test_stages_find_the_exact_log_z_and_the_predicted_variance(group, begin, end):
    """Without a flow, and with one of plaquettes and Q', whose prediction leaves little."""
    space, streams = GaugeField(group, (8, 8)), Streams(1, CHAINS)
    action, size = Wilson(space, begin), (end - begin) / STAGES

    def cycle(beta):
        there = action.at(beta)
        return Cycle([HeatBath(there), OverRelaxation(there)])

    state = cycle(begin).init(start(space, streams, dtype=torch.float64))
    for _ in range(40):
        state, _ = cycle(begin).step(state, streams)
    exact, works = log_partition(group, end, space.volume) - log_partition(group, begin, space.volume), []
    for count in (0, 2):
        operators = production(group, 2)[:count]
        near = action.at(begin + size)
        fit = transport_fit(operators, cycle(begin), near, state.x[:48], Streams(2, 48), stages=48)
        layers = [MidpointStep(space, operators, fit.coefficients)] * STAGES if count else None
        schedule = [cycle(begin + size * (k + 1)) for k in range(STAGES)]
        log_w = Annealing(schedule, start=action, layers=layers).run(state.x, streams).log_w
        log_z, error = log_z_ratio(log_w)
        assert abs(log_z - exact) < 4 * error
        assert float(log_w.var()) == pytest.approx(2 * STAGES * fit.work, rel=0.4)
        works.append(fit.work)
    assert works[1] < 0.3 * works[0]


def test_bad_input_is_named():
    space = GaugeField(SU(2), (4, 4))
    streams, action = Streams(1, 2), Wilson(space, beta=1.0)
    arguments = production(SU(2), 2), HeatBath(action), action.at(1.1), start(space, streams), streams
    with pytest.raises(InvalidInput, match="stages >= 2 windows of 8"):
        transport_fit(*arguments, stages=15)
    with pytest.raises(InvalidInput, match="2 coefficients need 8 windows in each half of the chains, got 2 of 8"):
        transport_fit(*arguments, stages=16)
