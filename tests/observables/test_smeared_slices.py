"""Zeros of smeared slices: their mean is zero, their divergence that of derivatives, and they help."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import slice_plaquettes, slice_zeros, smeared_slice_zeros, stout_smear
from lattice_flows.observables.smeared_slices import _Smeared
from lattice_flows.operators import plaquettes
from lattice_flows.operators.base import autograd_force
from lattice_flows.sampling import Cycle, HeatBath, OverRelaxation, Streams, start
from lattice_flows.statistics import connected, improved_slices


@pytest.fixture(scope="module")
def ensemble():
    """An action, 150 configurations of independent chains, and the zeros of their slices after two steps."""
    action = Wilson(GaugeField(SU(2), (4, 4, 6)), 2.0)
    streams = Streams(0, 150)
    sweep = Cycle([HeatBath(action), (OverRelaxation(action), 2)])
    state = sweep.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(15):
        state, _ = sweep.step(state, streams)
    return action, state.x, smeared_slice_zeros(action, 0.1, (0, 2, 4))(state.x)


def test_zeros_of_smeared_slices_vanish(ensemble):
    action, x, zeros = ensemble
    zeros = zeros.flatten(0, 1)
    assert ((zeros.mean(0) / zeros.std(0)).abs() * len(zeros) ** 0.5 < 4).all()
    wrong = smeared_slice_zeros(action.at(3.0), 0.1, (0, 2, 4))(x[:40]).flatten(0, 1)
    assert ((wrong.mean(0) / wrong.std(0)).abs() * len(zeros) ** 0.5 > 10).all()


def test_probes_give_the_known_divergence(ensemble):
    """Without smearing V is the force of the first operator of `slice_zeros`."""
    action, x, zeros = ensemble
    noise = zeros[..., 0] - slice_zeros(action)(x)[..., 0]
    assert 0 < noise.std() < 0.5 * zeros[..., 0].std()
    assert noise.mean().abs() < 4 * noise.std() / noise.numel() ** 0.5


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
def test_fields_are_forces_of_smeared_links(group, generator):
    """The forces in slices are the components in space of those of the lattice, without the planes with time."""
    space = GaugeField(group, (3, 4, 3))
    x = space.prior(2, generator, dtype=torch.float64)
    smeared = _Smeared(space, 0.1, (1, 3))
    fields = smeared(smeared.cut(x))
    for k, steps in enumerate((1, 3)):
        after = smeared.cut(stout_smear(x, space, 0.1, steps, range(2)))
        expected = group.n * autograd_force(plaquettes(smeared.within).value, after, smeared.within)
        torch.testing.assert_close(fields[:, k], expected, rtol=0, atol=1e-12)


def test_correlators_of_smeared_slices_gain(ensemble):
    action, x, zeros = ensemble
    slices = slice_plaquettes(action.space)(stout_smear(x, action.space, 0.1, 2, range(2)))
    found = improved_slices([slices.numpy()], [zeros.numpy()])
    plain, better = (connected(own)[0] for own in ([slices.numpy()], found.series))
    shift = (better - plain)[:, 2:]
    assert (abs(shift.mean(0)) < 4 * shift.std(0) / len(x) ** 0.5).all()
    assert (plain.var(0) / better.var(0) > 4).all()


def test_what_has_no_zeros():
    with pytest.raises(InvalidInput, match="all plaquettes are time-like"):
        smeared_slice_zeros(Wilson(GaugeField(SU(2), (4, 4)), 2.0), 0.1, [0, 2])
    for steps in ([2, 0], [-1, 1], []):
        with pytest.raises(InvalidInput, match=r"must ascend from >= 0, got \["):
            smeared_slice_zeros(Wilson(GaugeField(SU(2), (4, 4, 4)), 2.0), 0.1, steps)
