"""Exact samples: the means of loops and of the charge, on lattices whose rectangles have every shape."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Symanzik, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.observables import average_plaquette, polyakov_loops, topological_charge, wilson_loop
from lattice_flows.planar.exact import exact_value, mean_polyakov_loop_squared
from lattice_flows.planar.exact_samples import exact_samples

pytestmark = pytest.mark.slow

N = 400


@pytest.mark.parametrize(
    ("group", "beta", "lattice"),
    [(U1(), 1.5, (4, 4)), (U1(), 4.0, (3, 5)), (SU(2), 2.2, (4, 3)), (SU(3), 5.0, (3, 3))],
    ids=str,
)
def test_means_are_exact(group, beta, lattice, generator):
    action = Wilson(GaugeField(group, lattice), beta)
    space = action.space
    links = exact_samples(action, N, generator=generator)
    assert links.shape == (N, *space.shape)
    assert links.dtype == space.dtype(torch.float64)
    assert space.group.defect(links).max() < 1e-12
    measured = {"plaquette": average_plaquette(space), "wilson_loop_2x2": wilson_loop(space, 2, 2)}
    values = {name: observable(links) for name, observable in measured.items()}
    if group == U1():
        values["topological_charge_squared"] = topological_charge(space)(links).square()
    for name, series in values.items():
        exact = exact_value(name, action)
        assert abs(series.mean() - exact) < 4 * series.std() / N**0.5, name
    squared = polyakov_loops(space)(links).abs().square()
    for mu, series in enumerate(squared.unbind(-1)):
        assert abs(series.mean() - mean_polyakov_loop_squared(action, mu)) < 4 * series.std() / N**0.5, mu


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Symanzik(GaugeField(U1(), (4, 4)), 2.0), "exact samples are those of the Wilson action, got Symanzik"),
        (Wilson(GaugeField(U1(), (4, 4, 4)), 2.0), "two dimensions, got lattice 4x4x4"),
    ],
    ids=["action", "dimensions"],
)
def test_samples_that_cannot_be(action, message, generator):
    with pytest.raises(InvalidInput, match=message):
        exact_samples(action, 3, generator=generator)
