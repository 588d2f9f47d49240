"""Correlators of time slices with control variates on both sides: never biased, with the contact term, and better."""

import pytest
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import slice_contact, slice_plaquettes, slice_zeros, space_like_plaquette
from lattice_flows.sampling import Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.statistics import connected, improved_slices


@pytest.fixture(scope="module")
def ensemble():
    """An action, 400 configurations of independent chains, their slices and the zeros of these."""
    action = Wilson(GaugeField(SU(2), (4, 4, 8)), 2.0)
    streams = Streams(0, 400)
    sweep = Cycle([HeatBath(action), (OverRelaxation(action), 2)])
    state = sweep.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(15):
        state, _ = sweep.step(state, streams)
    return action, state.x, slice_plaquettes(action.space)(state.x), slice_zeros(action)(state.x)


def test_zeros_of_slices_vanish(ensemble):
    action, x, _, zeros = ensemble
    zeros = zeros.flatten(0, 1)
    assert ((zeros.mean(0) / zeros.std(0)).abs() * len(zeros) ** 0.5 < 4.5).all()
    wrong = slice_zeros(action.at(3.0))(x).flatten(0, 1)
    assert (wrong.mean(0) / wrong.std(0)).abs().max() * len(zeros) ** 0.5 > 10


def test_coefficients_never_bias_a_correlator(ensemble, generator):
    """The contact term is needed for slices next to each other, and for no others."""
    action, x, slices, zeros = ensemble
    scale = slices.std() / zeros.std((0, 1))
    coefficients = 0.2 * torch.randn(len(scale), generator=generator, dtype=torch.float64) * scale
    coefficients[4] = 2 * scale[4]  # of plaquettes between slices
    plain, better = (connected([own.numpy()])[0] for own in (slices, slices + zeros @ coefficients))
    contact = slice_contact(action, coefficients[None])(x[:100])[:, 0].numpy()
    shift = (better - plain).mean(0)
    error = (better - plain).std(0) / len(x) ** 0.5
    assert (abs(shift[2:]) < 4 * error[2:]).all()
    assert abs(shift[1]) > 8 * error[1]
    assert abs(shift[1] + contact.mean()) < 4 * (error[1] ** 2 + contact.var() / len(contact)) ** 0.5


def test_coefficients_that_are_fitted_help(ensemble):
    action, x, slices, zeros = ensemble
    torch.testing.assert_close(slices.mean(-1), space_like_plaquette(action.space)(x))
    found = improved_slices([slices.numpy()], [zeros.numpy()])
    plain, better = (connected(own)[0] for own in ([slices.numpy()], found.series))
    assert (plain.var(0) / better.var(0) > 100).all()


def test_spaces_without_slices():
    with pytest.raises(InvalidInput, match="all plaquettes are time-like"):
        slice_plaquettes(GaugeField(SU(2), (4, 4)))
