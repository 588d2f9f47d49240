"""Operators: value, force and symmetry, in every dimension and for every group."""

import cases
import pytest
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.operators import LoopSum, Operator, plaquettes, rectangles
from lattice_flows.testing import assert_force, assert_gauge_invariant

everywhere = pytest.mark.parametrize("space", cases.GAUGE_FIELDS, ids=str)
by_kind = pytest.mark.parametrize("kind", [plaquettes, rectangles])


@everywhere
@by_kind
def test_laws(kind, space, generator):
    operator, links = kind(space), space.prior(2, generator, dtype=torch.float64)
    assert operator.value(links).shape == (2,)
    assert_gauge_invariant(operator.value, links, space, generator=generator)
    assert_force(operator, links, atol=1e-10)
    torch.testing.assert_close(operator.force(links), Operator.force(operator, links), atol=1e-10, rtol=0)
    axes = range(1, 1 + space.dim)
    shifted = space.flatten(links).reshape(links.shape).roll([1] * space.dim, [1 + axis for axis in axes])
    torch.testing.assert_close(operator.value(shifted), operator.value(links))


@everywhere
def test_counts(space):
    """On identity links the value is the number of loops."""
    planes = space.dim * (space.dim - 1) // 2
    cold = space.cold(1, dtype=torch.float64)
    assert plaquettes(space).value(cold) == planes * space.volume
    assert rectangles(space).value(cold) == 2 * planes * space.volume


def test_links_of_another_lattice_are_refused():
    space = GaugeField(SU(2), (4, 4))
    with pytest.raises(InvalidInput, match="holds complex tensors"):
        plaquettes(space).value(space.on((4, 6)).cold(1))
    with pytest.raises(InvalidInput, match="holds complex tensors"):
        plaquettes(space).force(space.on((4, 6)).cold(1))
    with pytest.raises(InvalidInput, match="space of links"):
        LoopSum(SU(2), [((0, 1), (1, 1), (0, -1), (1, -1))])


def test_paths_that_do_not_close_are_refused():
    """The value along an open path would depend on the gauge."""
    with pytest.raises(InvalidInput, match="does not close"):
        LoopSum(GaugeField(SU(2), (4, 4)), [((0, 1), (1, 1), (0, -1))])
