"""The lattice: flat order, neighbours and colours."""

import pytest
import torch

from lattice_flows import Lattice
from lattice_flows.errors import InvalidInput

EXTENTS = [(2, 2), (4, 6), (3, 5), (4, 2, 6), (3, 2, 5), (2, 4, 4, 2), (3, 2, 2, 5)]
every = pytest.mark.parametrize("extents", EXTENTS, ids=str)


@every
def test_flat_order(extents):
    lattice = Lattice(extents)
    assert (lattice.dim, lattice.volume) == (len(extents), torch.zeros(extents).numel())
    assert torch.equal(lattice.index(lattice.coordinates()), torch.arange(lattice.volume))
    rows = torch.arange(lattice.volume).reshape(extents)
    for mu in range(lattice.dim):
        assert torch.equal(lattice.neighbours(mu).reshape(extents), rows.roll(-1, mu))
        assert torch.equal(lattice.neighbours(mu, -2).reshape(extents), rows.roll(2, mu))


@every
def test_neighbours_differ_in_colour(extents):
    lattice = Lattice(extents)
    for free in (None, *range(lattice.dim)):
        colours = lattice.colours(free)
        assert colours.unique().numel() <= 3
        for mu in set(range(lattice.dim)) - {free}:
            assert (colours != colours[lattice.neighbours(mu)]).all()


@pytest.mark.parametrize("extents", [(3, 4), (5, 6), (7, 8), (11, 3), (9, 10, 4)], ids=str)
def test_sites_two_steps_apart_differ_in_colour(extents):
    lattice = Lattice(extents)
    for free in (None, *range(lattice.dim)):
        colours = lattice.colours(free, reach=2)
        assert colours.unique().numel() <= (5 if 5 in extents else 4)
        for mu in set(range(lattice.dim)) - {free}:
            assert all((colours != colours[lattice.neighbours(mu, steps)]).all() for steps in (1, 2))


def test_a_lattice_is_a_value():
    assert Lattice([4, 6]) == Lattice((4, 6)) == Lattice(Lattice((4, 6)))
    assert len({Lattice((4, 6)), Lattice((4, 6)), Lattice((6, 4))}) == 2


@pytest.mark.parametrize("extents", [(4,), (4, 1), (4, 4, 4, 4, 4), (4.0, 4), (True, 4), "44", 4, None, (4, "4")])
def test_no_lattice(extents):
    with pytest.raises(InvalidInput, match="2, 3 or 4 integer extents >= 2"):
        Lattice(extents)
