"""Links, paths and loops, in every dimension and for every group."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, lattice
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.paths import _lay_on
from lattice_flows.testing import assert_gauge_invariant

everywhere = pytest.mark.parametrize("space", cases.GAUGE_FIELDS, ids=str)


@everywhere
def test_plaquette_from_its_definition(space, generator):
    group, dim, e = space.group, space.dim, len(space.group.element_shape)
    links = space.prior(2, generator, dtype=torch.float64)
    for mu, nu in itertools.permutations(range(dim), 2):
        u, v = links.select(1, mu), links.select(1, nu)
        v_ahead = torch.roll(v, -1, mu - dim - e)
        u_above = torch.roll(u, -1, nu - dim - e)
        expected = group.compose(group.compose(group.compose(u, v_ahead), group.inverse(u_above)), group.inverse(v))
        loop = lattice.plaquette(links, mu, nu, space)
        assert loop.shape == (2, *space.lattice.extents, *group.element_shape)
        assert group.distance(loop, expected).max() < 1e-13


@everywhere
def test_every_loop_is_gauge_covariant(space, generator):
    """L(x) -> V(x) L(x) V(x)^-1 for plaquettes, rectangles, Polyakov loops and a path that leaves a plane."""
    group, dim, e = space.group, space.dim, len(space.group.element_shape)
    links = space.prior(2, generator, dtype=torch.float64)
    V = group.haar(*space.lattice.extents, generator=generator, dtype=torch.float64)
    moved = lattice.gauge_transform(links, V, space)
    last = dim - 1
    paths = [
        lattice.rectangle(0, 1, last, 1),
        lattice.rectangle(last, 2, 0, 1),
        ((last, space.lattice.extents[last]),),
        ((0, 1), (last, 1), (0, 1), (last, -1), (0, -2)),
        ((0, 1), (1, 1), (last, -1), (0, -1), (1, -1), (last, 1)),
    ]
    for path in paths:
        loop = lattice.closed_path(links, path, space)
        expected = group.compose(group.compose(V, loop), group.inverse(V))
        assert group.distance(lattice.closed_path(moved, path, space), expected).max() < 1e-12
    assert_gauge_invariant(
        lambda u: group.retrace(lattice.polyakov_loop(u, 0, space)), links, space, generator=generator
    )
    assert e in (0, 2)


@everywhere
def test_staples_close_the_link(space, generator):
    group, dim, e = space.group, space.dim, len(space.group.element_shape)
    links = space.prior(2, generator, dtype=torch.float64)
    for mu, nu in itertools.permutations(range(dim), 2):
        above = group.compose(links.select(1, mu), lattice.staple(links, mu, nu, space))
        assert group.distance(above, lattice.plaquette(links, mu, nu, space)).max() < 1e-13
        below = group.compose(links.select(1, mu), lattice.staple(links, mu, nu, space, side=-1))
        # the plaquette below, seen from x, is the inverse of the one at x - nu carried along nu
        plaquette = torch.roll(lattice.plaquette(links, mu, nu, space), 1, nu - dim - e)
        assert (group.retrace(below) - group.retrace(plaquette)).abs().max() < 1e-13


@everywhere
def test_pure_gauge_has_trivial_loops(space, generator):
    group = space.group
    V = group.haar(*space.lattice.extents, generator=generator, dtype=torch.float64)
    links = lattice.gauge_transform(space.cold(1, dtype=torch.float64), V, space)
    loop = lattice.closed_path(links, lattice.rectangle(0, 2, space.dim - 1, 3), space)
    assert group.distance(loop, group.identity(*loop.shape[: 1 + space.dim], dtype=torch.float64)).max() < 1e-13


def test_any_number_of_batch_axes(generator):
    for group in (U1(), SU(2)):
        space = GaugeField(group, (4, 6))
        links = group.haar(3, 1, 2, *space.axes, generator=generator, dtype=torch.float64)
        loops = lattice.plaquette(links, 0, 1, space)
        assert loops.shape == (3, 1, 2, 4, 6, *group.element_shape)
        assert group.distance(loops[2, 0, 1], lattice.plaquette(links[2, 0, 1], 0, 1, space)).max() == 0
        assert lattice.plaquette(links[0, 0, 0], 0, 1, space).shape == (4, 6, *group.element_shape)


def test_loops_through_a_link_count():
    """A link lies in 2 plaquettes of each of its planes, and in 6 rectangles of each plane."""
    assert len(lattice.loops_through(lattice.rectangle(0, 1, 1, 1), 0)) == 2
    rectangles = [lattice.rectangle(0, 2, 1, 1), lattice.rectangle(0, 1, 1, 2)]
    assert sum(len(lattice.loops_through(path, 0)) for path in rectangles) == 6
    assert lattice.loops_through(lattice.rectangle(0, 1, 1, 1), 2) == []


def test_gradients_flow_through_paths(generator):
    space = GaugeField(SU(2), (2, 3))
    links = space.prior(1, generator, dtype=torch.float64).requires_grad_()
    path = lattice.rectangle(0, 2, 1, 1)
    assert torch.autograd.gradcheck(lambda u: SU(2).retrace(lattice.closed_path(u, path, space)), (links,))


def test_bad_paths():
    space = GaugeField(U1(), (4, 6))
    links = space.cold(1)
    with pytest.raises(InvalidInput, match="does not close"):
        lattice.closed_path(links, ((0, 1), (1, 1)), space)
    with pytest.raises(InvalidInput, match=r"directions 0 \.\.\. 1"):
        lattice.plaquette(links, 0, 2, space)
    with pytest.raises(InvalidInput, match="two different directions"):
        lattice.plaquette(links, 1, 1, space)
    with pytest.raises(InvalidInput, match="needs steps"):
        lattice.closed_path(links, (), space)
    with pytest.raises(InvalidInput, match="gauge function"):
        lattice.gauge_transform(links, U1().identity(6, 4), space)
    with pytest.raises(InvalidInput, match="side"):
        lattice.staple(links, 0, 1, space, side=2)
    with pytest.raises(InvalidInput, match=r"got U1\(\): nothing is guessed"):
        lattice.plaquette(links, 0, 1, U1())


def test_a_gradient_after_inference_mode():
    """The walks that are kept serve both."""
    _lay_on.cache_clear()
    space = GaugeField(U1(), (3, 4))
    with torch.inference_mode():
        lattice.plaquette(space.cold(1), 0, 1, space)
    links = space.cold(1).requires_grad_()
    lattice.plaquette(links, 0, 1, space).cos().sum().backward()
    assert (links.grad == 0).all()
