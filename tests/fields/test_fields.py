"""Links, paths and loops, in every dimension and for every group."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, fields
from lattice_flows.errors import InvalidInput
from lattice_flows.testing import assert_gauge_invariant, distance

everywhere = pytest.mark.parametrize(
    ("group", "sites"),
    list(itertools.product(cases.GROUPS, cases.SITES)),
    ids=cases.names(itertools.product(cases.GROUPS, cases.SITES)),
)


def field(group, sites, generator, batch=(2,)):
    return group.haar(*batch, len(sites), *sites, generator=generator, dtype=torch.float64)


@everywhere
def test_plaquette_from_its_definition(group, sites, generator):
    dim, e = len(sites), len(group.element_shape)
    links = field(group, sites, generator)
    for mu, nu in itertools.permutations(range(dim), 2):
        u, v = links.select(1, mu), links.select(1, nu)
        v_ahead = torch.roll(v, -1, mu - dim - e)
        u_above = torch.roll(u, -1, nu - dim - e)
        expected = group.compose(group.compose(group.compose(u, v_ahead), group.inverse(u_above)), group.inverse(v))
        loop = fields.plaquette(links, mu, nu, group, dim=dim)
        assert loop.shape == (2, *sites, *group.element_shape)
        assert distance(loop, expected, group).max() < 1e-13


@everywhere
def test_every_loop_is_gauge_covariant(group, sites, generator):
    """L(x) -> V(x) L(x) V(x)^-1 for plaquettes, rectangles, Polyakov loops and a path that leaves a plane."""
    dim, e = len(sites), len(group.element_shape)
    links = field(group, sites, generator)
    V = group.haar(*sites, generator=generator, dtype=torch.float64)
    moved = fields.gauge_transform(links, V, group, dim=dim)
    last = dim - 1
    paths = [
        fields.rectangle(0, 1, last, 1),
        fields.rectangle(last, 2, 0, 1),
        ((last, sites[last]),),
        ((0, 1), (last, 1), (0, 1), (last, -1), (0, -2)),
        ((0, 1), (1, 1), (last, -1), (0, -1), (1, -1), (last, 1)),
    ]
    for path in paths:
        loop = fields.closed_path(links, path, group, dim=dim)
        expected = group.compose(group.compose(V, loop), group.inverse(V))
        assert distance(fields.closed_path(moved, path, group, dim=dim), expected, group).max() < 1e-12
    assert_gauge_invariant(
        lambda u: group.retrace(fields.polyakov_loop(u, 0, group, dim=dim)), links, group, generator=generator, dim=dim
    )
    assert e in (0, 2)


@everywhere
def test_staples_close_the_link(group, sites, generator):
    dim, e = len(sites), len(group.element_shape)
    links = field(group, sites, generator)
    for mu, nu in itertools.permutations(range(dim), 2):
        above = group.compose(links.select(1, mu), fields.staple(links, mu, nu, group, dim=dim))
        assert distance(above, fields.plaquette(links, mu, nu, group, dim=dim), group).max() < 1e-13
        below = group.compose(links.select(1, mu), fields.staple(links, mu, nu, group, side=-1, dim=dim))
        # the plaquette below, seen from x, is the inverse of the one at x - nu carried along nu
        plaquette = torch.roll(fields.plaquette(links, mu, nu, group, dim=dim), 1, nu - dim - e)
        assert (group.retrace(below) - group.retrace(plaquette)).abs().max() < 1e-13


@everywhere
def test_pure_gauge_has_trivial_loops(group, sites, generator):
    dim = len(sites)
    V = group.haar(*sites, generator=generator, dtype=torch.float64)
    links = fields.gauge_transform(group.identity(dim, *sites, dtype=torch.float64), V, group, dim=dim)
    loop = fields.closed_path(links, fields.rectangle(0, 2, dim - 1, 3), group, dim=dim)
    assert distance(loop, group.identity(*sites, dtype=torch.float64), group).max() < 1e-13


def test_any_number_of_batch_axes(generator):
    for group in (U1(), SU(2)):
        links = field(group, (4, 6), generator, batch=(3, 1, 2))
        loops = fields.plaquette(links, 0, 1, group)
        assert loops.shape == (3, 1, 2, 4, 6, *group.element_shape)
        assert distance(loops[2, 0, 1], fields.plaquette(links[2, 0, 1], 0, 1, group), group).max() == 0
        assert fields.plaquette(links[0, 0, 0], 0, 1, group).shape == (4, 6, *group.element_shape)


def test_loops_through_a_link_count():
    """A link lies in 2 plaquettes of each of its planes, and in 6 rectangles of each plane."""
    assert len(fields.loops_through(fields.rectangle(0, 1, 1, 1), 0)) == 2
    rectangles = [fields.rectangle(0, 2, 1, 1), fields.rectangle(0, 1, 1, 2)]
    assert sum(len(fields.loops_through(path, 0)) for path in rectangles) == 6
    assert fields.loops_through(fields.rectangle(0, 1, 1, 1), 2) == []


def test_gradients_flow_through_paths(generator):
    links = field(SU(2), (2, 3), generator, batch=()).requires_grad_()
    path = fields.rectangle(0, 2, 1, 1)
    assert torch.autograd.gradcheck(lambda u: SU(2).retrace(fields.closed_path(u, path, SU(2))), (links,))


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((2, 8, 8), 2),
        ((3, 4, 4, 6), 3),
        ((4, 4, 4, 4, 4), 4),
        ((3, 2, 8, 8), 2),
        ((4, 3, 6, 6, 6), 3),
        ((5, 7, 2, 3, 4), 2),
    ],
)
def test_infer_dim(shape, dim):
    assert fields.infer_dim(U1().identity(*shape), U1()) == dim
    assert fields.infer_dim(SU(2).identity(*shape), SU(2)) == dim


def test_the_dimension_can_be_given():
    links = U1().identity(3, 2, 8, 8)
    assert fields.infer_dim(links, U1(), dim=3) == 3
    with pytest.raises(InvalidInput, match="4-dimensional"):
        fields.infer_dim(links, U1(), dim=4)


@pytest.mark.parametrize(
    ("links", "group"),
    [
        (torch.zeros(5, 8, 8), U1()),
        (torch.zeros(2, 8, 8, dtype=torch.complex64), U1()),
        (torch.zeros(2, 8, 8, 3, 3, dtype=torch.complex64), SU(2)),
        (torch.zeros(2, 8, 8, 2, 2), SU(2)),
    ],
)
def test_shapes_that_are_no_links(links, group):
    with pytest.raises(InvalidInput, match="links"):
        fields.infer_dim(links, group)


def test_bad_paths():
    links = U1().identity(2, 4, 6)
    with pytest.raises(InvalidInput, match="does not close"):
        fields.closed_path(links, ((0, 1), (1, 1)), U1())
    with pytest.raises(InvalidInput, match=r"directions 0 \.\.\. 1"):
        fields.plaquette(links, 0, 2, U1())
    with pytest.raises(InvalidInput, match="two different directions"):
        fields.plaquette(links, 1, 1, U1())
    with pytest.raises(InvalidInput, match="needs steps"):
        fields.closed_path(links, (), U1())
    with pytest.raises(InvalidInput, match="gauge function"):
        fields.gauge_transform(links, U1().identity(6, 4), U1())
    with pytest.raises(InvalidInput, match="side"):
        fields.staple(links, 0, 1, U1(), side=2)
