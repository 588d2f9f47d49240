"""The laws of dividing a lattice into plaquettes: counting, geometry, and Migdal's decomposition of loops."""

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput
from lattice_flows.fields import rectangle
from lattice_flows.fields.layout import flatten_links, volume
from lattice_flows.fields.loops import closed_path, follow, plaquette
from lattice_flows.layers import LinkPartition
from lattice_flows.layers.rectangles import Cut, cuts

SITES = [(2, 2), (3, 2), (2, 7), (4, 3), (5, 7), (8, 8), (6, 10), (16, 4)]
HIERARCHIES = {
    sites: [(cut, LinkPartition.rectangles(sites, cut.shape, cut.corners)) for cut in cuts(sites)] for sites in SITES
}
everywhere = pytest.mark.parametrize("sites", SITES, ids=str)


def parts(cut: Cut):
    """Shape, and displacement from the corner of the rectangle, of the two parts: written out once more."""
    x, y = cut.shape
    if x >= y:
        return ((x // 2, y), (0, 0)), ((x - x // 2, y), (x // 2, 0))
    return ((x, y // 2), (0, 0)), ((x, y - y // 2), (0, y // 2))


def inside(field, corner, shape):
    """The part `(..., *shape)` of a field with sites as its last axes."""
    x, y = (torch.arange(c, c + s) % extent for c, s, extent in zip(corner, shape, field.shape[-2:], strict=True))
    return field[..., x[:, None], y]


def in_order_of_corners(cut, partition, loops):
    """Loops `(n_active, ...)`, which lie in the order of active sites, in the order of the cut's corners."""
    displacement = parts(cut)[1][1]
    sites = partition.sites
    begin = [(x + displacement[0]) % sites[0] * sites[1] + (y + displacement[1]) % sites[1] for x, y in cut.corners]
    order = {site: k for k, site in enumerate(partition.active_sites.tolist())}
    return loops[[order[site] for site in begin]]


@everywhere
def test_every_cut_moves_one_link_of_a_rectangle_and_no_link_moves_twice(sites):
    active = torch.cat([partition.active_links for _, partition in HIERARCHIES[sites]])
    assert len(active) == volume(sites) - 1
    assert len(active.unique()) == len(active)
    for cut, partition in HIERARCHIES[sites]:
        assert partition.n_active == len(cut.corners)


@everywhere
def test_parts_are_the_rectangles_that_are_cut_next(sites):
    """Down to plaquettes, each of which is there once; the areas add up."""
    made = [(sites, (0, 0))]
    for cut, _ in HIERARCHIES[sites]:
        assert sum(cut.areas) == cut.shape[0] * cut.shape[1]
        assert cut.areas == tuple(shape[0] * shape[1] for shape, _ in parts(cut))
        assert abs(cut.areas[0] - cut.areas[1]) <= min(cut.shape)
        for corner in cut.corners:
            made.remove((cut.shape, corner))
            made += [(shape, (corner[0] + d[0], corner[1] + d[1])) for shape, d in parts(cut)]
    assert sorted(made) == sorted(((1, 1), (x, y)) for x in range(sites[0]) for y in range(sites[1]))
    areas = [sum(cut.areas) for cut, _ in HIERARCHIES[sites]]
    assert areas == sorted(areas, reverse=True)


@everywhere
def test_boundaries_are_frozen_and_finer_cuts_leave_coarser_loops_alone(sites, generator):
    group = U1()
    links = group.haar(2 * volume(sites), generator=generator, dtype=torch.float64)
    frozen = []
    for _, partition in HIERARCHIES[sites]:
        moved = links.index_add(0, partition.active_links, torch.ones(partition.n_active, dtype=torch.float64))
        boundary = follow(moved, partition.boundary_loops, group)
        assert group.compose(boundary, -follow(links, partition.boundary_loops, group)).abs().max() < 1e-12
        change = group.compose(
            follow(moved, partition.active_loops, group), -follow(links, partition.active_loops, group)
        )
        assert (change - 1).abs().max() < 1e-12
        links = moved
        frozen.append((partition, boundary, follow(links, partition.active_loops, group)))
    for partition, boundary, first in frozen:
        assert group.compose(follow(links, partition.boundary_loops, group), -boundary).abs().max() < 1e-12
        assert group.compose(follow(links, partition.active_loops, group), -first).abs().max() < 1e-12


@everywhere
def test_angles_of_u1_loops_are_sums_of_plaquettes(sites, generator):
    """Of W, of W_a and of W W_a^-1, up to the sense in which all three go round."""
    group = U1()
    links = group.haar(2, *sites, generator=generator, dtype=torch.float64)
    angles, flat = plaquette(links, 0, 1, group), flatten_links(links, group, 2)
    for cut, partition in HIERARCHIES[sites]:
        sense = 1 if partition.mu == 1 else -1
        first, whole = (
            in_order_of_corners(cut, partition, follow(flat, walk, group))
            for walk in (partition.active_loops, partition.boundary_loops)
        )
        loops = {(cut.shape, (0, 0)): whole, parts(cut)[0]: first, parts(cut)[1]: group.compose(whole, -first)}
        for (shape, displacement), loop in loops.items():
            corners = [(x + displacement[0], y + displacement[1]) for x, y in cut.corners]
            sums = torch.stack([inside(angles, corner, shape).sum() for corner in corners])
            assert group.compose(sense * loop, -group.exp(sums)).abs().max() < 1e-11


@pytest.mark.parametrize("group", [SU(2), SU(3)], ids=str)
@everywhere
def test_the_boundary_is_the_product_of_two_loops(group, sites, generator):
    """W = W_b W_a from where the active link begins; each is, up to conjugation, the rectangle from its own corner."""
    links = group.haar(2, *sites, generator=generator, dtype=torch.float64)
    flat = flatten_links(links, group, 2)
    for cut, partition in HIERARCHIES[sites]:
        first, whole = (follow(flat, walk, group) for walk in (partition.active_loops, partition.boundary_loops))
        # around the second part, from the same site: away from the first part, along the line, back, and back
        along, across = partition.mu, 1 - partition.mu
        rest, line = cut.shape[across] - cut.shape[across] // 2, cut.shape[along]
        second = closed_path(links, ((across, rest), (along, line), (across, -rest), (along, -line)), group)
        second = second.flatten(0, 1)[partition.active_sites]
        assert (second @ first - whole).abs().max() < 1e-11
        loops = {(cut.shape, (0, 0)): whole, parts(cut)[0]: first, parts(cut)[1]: whole @ first.mH}
        for (shape, (x, y)), loop in loops.items():
            # Re tr does not tell the sense
            trace = group.retrace(closed_path(links, rectangle(0, shape[0], 1, shape[1]), group))
            expected = torch.stack([trace[(c[0] + x) % sites[0], (c[1] + y) % sites[1]] for c in cut.corners])
            found = in_order_of_corners(cut, partition, group.retrace(loop))
            assert (found - expected).abs().max() < 1e-11


@pytest.mark.parametrize("group", cases.GROUPS, ids=cases.names(cases.GROUPS))
def test_rectangles_of_two_are_products_of_two_plaquettes(group, generator):
    links = group.haar(2, 4, 6, generator=generator, dtype=torch.float64)
    partition = LinkPartition.rectangles((4, 6), (2, 1))
    assert partition.n_active == 12
    x, y = torch.meshgrid(torch.tensor([0, 2]), torch.arange(6), indexing="ij")
    p = plaquette(links, 0, 1, group)
    # the first plaquette, carried to where the active link begins
    step = links[0][x, y]
    carried = group.compose(group.compose(group.inverse(step), p[x, y]), step)
    expected = group.compose(p[x + 1, y], carried).flatten(0, 1)
    difference = group.compose(
        follow(flatten_links(links, group, 2), partition.boundary_loops, group), group.inverse(expected)
    )
    assert (1 - group.retrace(difference)).abs().max() < 1e-12


def test_default_corners_fill_what_fits():
    assert LinkPartition.rectangles((5, 7), (2, 3)).n_active == 4
    assert LinkPartition.rectangles((8, 8), (8, 8)).n_active == 1
    # corners are taken around the lattice
    assert LinkPartition.rectangles((4, 4), (1, 2), [(0, 3), (1, 3)]).active_sites.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cuts((4, 4, 4)), "two dimensions"),
        (lambda: cuts((4, 1)), "integer extents >= 2"),
        (lambda: LinkPartition.rectangles((4, 4, 4), (1, 2)), "two dimensions"),
        (lambda: LinkPartition.rectangles((4, 4), (1, 2, 1)), "two dimensions"),
        (lambda: LinkPartition.rectangles((4, 4), (1, 1)), r"two plaquettes or more.*got shape \(1, 1\)"),
        (lambda: LinkPartition.rectangles((4, 4), (0, 2)), "two plaquettes or more"),
        (lambda: LinkPartition.rectangles((4, 4), (5, 2)), r"fit \(4, 4\), got shape \(5, 2\)"),
        (lambda: LinkPartition.rectangles((4, 4), (1, 2), [(0, 0), (0, 1)]), "overlap"),
        (lambda: LinkPartition.rectangles((4, 4), (2, 2), [(0, 0), (3, 3)]), "overlap"),
        (lambda: LinkPartition.rectangles((4, 4), (1, 2), []), "at least one"),
        (
            lambda: LinkPartition(
                (4, 4), 0, torch.eye(4, dtype=torch.bool), rectangle(0, 1, 1, 1), boundary=rectangle(0, 2, 1, 1)
            ),
            "runs through an active link",
        ),
    ],
)
def test_rectangles_that_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
