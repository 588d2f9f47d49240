"""The laws of dividing a lattice into plaquettes: counting, geometry, and Migdal's decomposition of loops."""

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, Lattice
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import rectangle
from lattice_flows.lattice.paths import closed_path, follow, plaquette
from lattice_flows.planar.partition import RectanglePartition, cuts

LATTICES = [(2, 2), (3, 2), (2, 7), (4, 3), (5, 7), (8, 8), (6, 10), (16, 4)]
HIERARCHIES = {extents: cuts(extents) for extents in LATTICES}
everywhere = pytest.mark.parametrize("extents", LATTICES, ids=str)


def parts(cut):
    """Shape, and displacement from the corner of the rectangle, of the two parts: written out once more."""
    x, y = cut.shape
    if x >= y:
        return ((x // 2, y), (0, 0)), ((x - x // 2, y), (x // 2, 0))
    return ((x, y // 2), (0, 0)), ((x, y - y // 2), (0, y // 2))


def inside(field, corner, shape):
    """The part `(..., *shape)` of a field with extents as its last axes."""
    x, y = (torch.arange(c, c + s) % extent for c, s, extent in zip(corner, shape, field.shape[-2:], strict=True))
    return field[..., x[:, None], y]


def in_order_of_corners(cut, loops):
    """Loops `(n_active, ...)`, which lie in the order of active sites, in the order of the cut's corners."""
    displacement = parts(cut)[1][1]
    extents = cut.lattice.extents
    begin = [
        (x + displacement[0]) % extents[0] * extents[1] + (y + displacement[1]) % extents[1] for x, y in cut.corners
    ]
    order = {site: k for k, site in enumerate(cut.active_sites.tolist())}
    return loops[[order[site] for site in begin]]


@everywhere
def test_every_cut_moves_one_link_of_a_rectangle_and_no_link_moves_twice(extents):
    active = torch.cat([cut.active_links for cut in HIERARCHIES[extents]])
    assert len(active) == Lattice(extents).volume - 1
    assert len(active.unique()) == len(active)
    for cut in HIERARCHIES[extents]:
        assert cut.n_active == len(cut.corners)


@everywhere
def test_parts_are_the_rectangles_that_are_cut_next(extents):
    """Down to plaquettes, each of which is there once; the areas add up."""
    made = [(extents, (0, 0))]
    for cut in HIERARCHIES[extents]:
        assert sum(cut.areas) == cut.shape[0] * cut.shape[1]
        assert cut.areas == tuple(shape[0] * shape[1] for shape, _ in parts(cut))
        assert abs(cut.areas[0] - cut.areas[1]) <= min(cut.shape)
        for corner in cut.corners:
            made.remove((cut.shape, corner))
            made += [(shape, (corner[0] + d[0], corner[1] + d[1])) for shape, d in parts(cut)]
    assert sorted(made) == sorted(((1, 1), (x, y)) for x in range(extents[0]) for y in range(extents[1]))
    areas = [sum(cut.areas) for cut in HIERARCHIES[extents]]
    assert areas == sorted(areas, reverse=True)


@everywhere
def test_boundaries_are_frozen_and_finer_cuts_leave_coarser_loops_alone(extents, generator):
    group = U1()
    links = group.haar(2 * Lattice(extents).volume, generator=generator, dtype=torch.float64)
    frozen = []
    for cut in HIERARCHIES[extents]:
        moved = links.index_add(0, cut.active_links, torch.ones(cut.n_active, dtype=torch.float64))
        boundary = follow(moved, cut.boundary_loops, group)
        assert group.compose(boundary, -follow(links, cut.boundary_loops, group)).abs().max() < 1e-12
        change = group.compose(follow(moved, cut.active_loops, group), -follow(links, cut.active_loops, group))
        assert (change - 1).abs().max() < 1e-12
        links = moved
        frozen.append((cut, boundary, follow(links, cut.active_loops, group)))
    for cut, boundary, first in frozen:
        assert group.compose(follow(links, cut.boundary_loops, group), -boundary).abs().max() < 1e-12
        assert group.compose(follow(links, cut.active_loops, group), -first).abs().max() < 1e-12


@everywhere
def test_angles_of_u1_loops_are_sums_of_plaquettes(extents, generator):
    """Of W, of W_a and of W W_a^-1, up to the sense in which all three go round."""
    group = U1()
    space = GaugeField(group, extents)
    links = space.prior(1, generator, dtype=torch.float64)[0]
    angles, flat = plaquette(links, 0, 1, space), space.flatten(links)
    for cut in HIERARCHIES[extents]:
        sense = 1 if cut.mu == 1 else -1
        first, whole = (
            in_order_of_corners(cut, follow(flat, walk, group)) for walk in (cut.active_loops, cut.boundary_loops)
        )
        loops = {(cut.shape, (0, 0)): whole, parts(cut)[0]: first, parts(cut)[1]: group.compose(whole, -first)}
        for (shape, displacement), loop in loops.items():
            corners = [(x + displacement[0], y + displacement[1]) for x, y in cut.corners]
            sums = torch.stack([inside(angles, corner, shape).sum() for corner in corners])
            assert group.compose(sense * loop, -group.exp(sums)).abs().max() < 1e-11


@pytest.mark.parametrize("group", [SU(2), SU(3)], ids=str)
@everywhere
def test_the_boundary_is_the_product_of_two_loops(group, extents, generator):
    """W = W_b W_a from where the active link begins; each is, up to conjugation, the rectangle from its own corner."""
    space = GaugeField(group, extents)
    links = space.prior(1, generator, dtype=torch.float64)[0]
    flat = space.flatten(links)
    for cut in HIERARCHIES[extents]:
        first, whole = (follow(flat, walk, group) for walk in (cut.active_loops, cut.boundary_loops))
        # around the second part, from the same site: away from the first part, along the line, back, and back
        along, across = cut.mu, 1 - cut.mu
        rest, line = cut.shape[across] - cut.shape[across] // 2, cut.shape[along]
        second = closed_path(links, ((across, rest), (along, line), (across, -rest), (along, -line)), space)
        second = second.flatten(0, 1)[cut.active_sites]
        assert (second @ first - whole).abs().max() < 1e-11
        loops = {(cut.shape, (0, 0)): whole, parts(cut)[0]: first, parts(cut)[1]: whole @ first.mH}
        for (shape, (x, y)), loop in loops.items():
            # Re tr does not tell the sense
            trace = group.retrace(closed_path(links, rectangle(0, shape[0], 1, shape[1]), space))
            expected = torch.stack([trace[(c[0] + x) % extents[0], (c[1] + y) % extents[1]] for c in cut.corners])
            found = in_order_of_corners(cut, group.retrace(loop))
            assert (found - expected).abs().max() < 1e-11


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_rectangles_of_two_are_products_of_two_plaquettes(group, generator):
    space = GaugeField(group, (4, 6))
    links = space.prior(1, generator, dtype=torch.float64)[0]
    partition = RectanglePartition((4, 6), (2, 1))
    assert partition.n_active == 12
    x, y = torch.meshgrid(torch.tensor([0, 2]), torch.arange(6), indexing="ij")
    p = plaquette(links, 0, 1, space)
    # the first plaquette, carried to where the active link begins
    step = links[0][x, y]
    carried = group.compose(group.compose(group.inverse(step), p[x, y]), step)
    expected = group.compose(p[x + 1, y], carried).flatten(0, 1)
    difference = group.compose(follow(space.flatten(links), partition.boundary_loops, group), group.inverse(expected))
    assert (1 - group.retrace(difference)).abs().max() < 1e-12


def test_boundaries_move_with_the_module_but_not_into_checkpoints():
    partition = RectanglePartition((4, 6), (2, 3))
    assert partition.state_dict() == {}
    assert str(partition) == (
        "RectanglePartition(4x6, mu=0, active links: 4 of 48, each with the boundary of its rectangle)"
    )
    assert partition.to("meta").boundary_loops.links.is_meta


def test_default_corners_fill_what_fits():
    assert RectanglePartition((5, 7), (2, 3)).n_active == 4
    assert RectanglePartition((8, 8), (8, 8)).n_active == 1
    # corners are taken around the lattice
    assert RectanglePartition((4, 4), (1, 2), [(0, 3), (1, 3)]).active_sites.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cuts((4, 4, 4)), "two dimensions"),
        (lambda: cuts((4, 1)), "integer extents >= 2"),
        (lambda: RectanglePartition((4, 4, 4), (1, 2)), "two dimensions"),
        (lambda: RectanglePartition((4, 4), (1, 2, 1)), "two dimensions"),
        (lambda: RectanglePartition((4, 4), (1, 1)), r"two plaquettes or more.*got shape \(1, 1\)"),
        (lambda: RectanglePartition((4, 4), (0, 2)), "two plaquettes or more"),
        (lambda: RectanglePartition((4, 4), (5, 2)), r"fit 4x4, got shape \(5, 2\)"),
        (lambda: RectanglePartition((4, 4), (1, 2), [(0, 0), (0, 1)]), "overlap"),
        (lambda: RectanglePartition((4, 4), (2, 2), [(0, 0), (3, 3)]), "overlap"),
        (lambda: RectanglePartition((4, 4), (1, 2), []), "at least one"),
    ],
)
def test_rectangles_that_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
