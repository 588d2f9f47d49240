"""Laws of couplings on rectangles, at any centre and with every map, and of the levels made of them."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.paths import follow
from lattice_flows.layers import SpectralMap
from lattice_flows.planar.coupling import RectangleCoupling
from lattice_flows.planar.fourier import FourierMap
from lattice_flows.planar.level import SUBLAYERS, Level
from lattice_flows.planar.partition import RectanglePartition
from lattice_flows.planar.perceptron import BetaInput, BoundaryContext, boundary_features, n_boundary_features
from lattice_flows.planar.residual import ResidualMap
from lattice_flows.planar.triangular import COORDINATES, TriangularMap
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet

by_group = pytest.mark.parametrize("group", cases.GROUPS[:4], ids=cases.names(cases.GROUPS[:4]))
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
CENTRES = [0, 0.5, 0.3, 1]


def maps(group):
    triangular = [TriangularMap(group, coordinate, 0.5, bins=4) for coordinate in COORDINATES if group == SU(3)]
    return [SpectralMap(group, 4), FourierMap(group, 3) if group == U1() else ResidualMap(group), *triangular]


def cut_coupling(group, partition, conjugation, centre, dtype=torch.float64, scale=0.7):
    n_features = getattr(conjugation, "n_features", 0)
    context = BoundaryContext(group, conjugation.n_params, hidden=(5,), n_features=n_features)
    return cases.stir(RectangleCoupling(group, partition, conjugation, context, centre), scale).to(dtype)


@by_group
@by_dtype
@pytest.mark.parametrize("centre", CENTRES)
def test_laws_of_the_coupling(group, dtype, centre, generator):
    for conjugation, (extents, shape) in itertools.product(maps(group), [((4, 6), (1, 2)), ((5, 3), (3, 2))]):
        partition = RectanglePartition(extents, shape)
        layer = cut_coupling(group, partition, conjugation, centre, dtype)
        links = layer.space.prior(10, generator, dtype=dtype)
        with torch.no_grad():
            # walls of the alcove, where principal powers jump, and thin tails enlarge rounding
            atol = {torch.float64: 1e-10, torch.float32: 2e-2 if isinstance(conjugation, FourierMap) else 1e-3}[dtype]
            assert_invertible(layer, links, layer.space, atol=atol)
            assert_gauge_equivariant(layer, links, layer.space, atol=atol, generator=generator)
            y, logdet = layer(links)
        assert group.defect(y).max() < {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
        assert logdet.std() > 0.1
        moved = (group.distance(y, links) > 0).flatten(1).any(0)
        assert set(moved.nonzero().flatten().tolist()) == set(partition.active_links.tolist())


@pytest.mark.parametrize("group", cases.GROUPS[:4], ids=cases.names(cases.GROUPS[:4]))
@pytest.mark.parametrize("centre", CENTRES[2:])
def test_logdet_is_that_of_the_jacobian(group, centre, generator):
    for conjugation in maps(group):
        partition = RectanglePartition((2, 2), (1, 2))
        layer = cut_coupling(group, partition, conjugation, centre)
        assert_logdet(layer, layer.space.prior(1, generator, dtype=torch.float64)[0], layer.space)


@by_group
@pytest.mark.parametrize("centre", CENTRES)
def test_the_map_is_given_the_centred_loop(group, centre, generator):
    """W_a W^-s with the features of W; for s = 1 it is the inverse of W_b."""
    partition = RectanglePartition((4, 6), (2, 3))
    conjugation = SpectralMap(group, 4)
    layer = cut_coupling(group, partition, conjugation, centre)
    links = group.haar(2, 4, 6, generator=generator, dtype=torch.float64)
    flat = layer.space.flatten(links)
    first, whole = (follow(flat, walk, group) for walk in (partition.active_loops, partition.boundary_loops))
    phases, frame = group.eigenphases(whole)
    centred = group.compose(first, cases.rebuild(group, -centre * phases, frame))
    if centre == 1:
        second = group.compose(whole, group.inverse(first))
        assert group.distance(centred, group.inverse(second)).max() < 1e-12
    g, logdet = conjugation(centred, layer.context(boundary_features(whole, group)))
    y, total = layer(links)
    moved = follow(layer.space.flatten(y), partition.active_loops, group)
    assert group.distance(moved, group.compose(g, first)).max() < 1e-11
    torch.testing.assert_close(total, logdet.sum(), atol=1e-11, rtol=0)


@by_group
def test_boundary_features_are_those_of_the_class(group, generator):
    a, b, V = group.haar(3, 200, generator=generator, dtype=torch.float64)
    features = boundary_features(a, group)
    assert features.shape == (200, n_boundary_features(group))
    assert features.abs().max() <= 1 + 1e-12
    turned = boundary_features(group.compose(group.compose(V, a), group.inverse(V)), group)
    torch.testing.assert_close(turned, features, atol=1e-10, rtol=0)
    # they change wherever the eigenphases do
    moved = (group.eigenphases(a)[0] - group.eigenphases(b)[0]).abs().amax(-1) > 1e-3
    assert ((features - boundary_features(b, group)).abs().amax(-1)[moved] > 1e-6).all()
    # the whole powers among them are traces
    trace = group.trace(a)
    found = features.unflatten(-1, (2, -1))[..., 1]
    torch.testing.assert_close(found, torch.stack((trace.real, trace.imag), dim=-1), atol=1e-12, rtol=0)


@by_group
@by_dtype
def test_laws_of_levels(group, dtype, generator):
    """Every sublayer, one after the other, inside one level."""
    partition, space = RectanglePartition((4, 5), (2, 3), [(0, 1), (2, 4)]), GaugeField(group, (4, 5))
    for design in (*cases.designs(group), "ba"):
        level = Level.of_design(design, group, partition, (2, 4), bins=4, hidden=(5,)).to(dtype)
        x = space.prior(6, generator, dtype=dtype)
        with torch.no_grad():
            y, logdet = level(x)
            # the identity at first
            assert group.distance(y, x).max() < 1e4 * torch.finfo(dtype).eps
            assert logdet.abs().max() < 1e4 * torch.finfo(dtype).eps
            cases.stir(level)
            atol = {torch.float64: 1e-10, torch.float32: 1e-3}[dtype]
            assert_invertible(level, x, space, atol=atol)
            assert_gauge_equivariant(level, x, space, atol=atol, generator=generator)
            assert level(x)[1].abs().min() > 1e-3
            level.reset()
            assert group.distance(level(x)[0], x).max() < 1e4 * torch.finfo(dtype).eps


@by_group
def test_every_sublayer_can_leave_the_identity(group, generator):
    """Each has a gradient where all parameters are 0: none is stuck where it starts."""
    partition = RectanglePartition((4, 6), (1, 2))
    for letter in "cabf" if group == U1() else "cabr":
        level = Level.of_design(letter, group, partition, (1, 1), bins=4, hidden=(5,)).double()
        y, logdet = level(group.haar(20, 2, 4, 6, generator=generator, dtype=torch.float64))
        (logdet + y.real.flatten(1)[:, ::7].sum(-1)).sum().backward()
        gradient = level.couplings[0].context.head.weight.grad
        # in SU(2), the imaginary part of a coefficient adds nothing
        assert (gradient.abs().amax(1) > 1e-3).double().mean() >= 0.5, letter


@pytest.mark.parametrize(("group", "design"), [(U1(), "cfab"), (SU(2), "crab"), (SU(3), "ra")], ids=str)
def test_logdet_of_a_level_is_that_of_the_jacobian(group, design, generator):
    level = Level.of_design(design, group, RectanglePartition((2, 2), (2, 1)), (1, 1), bins=3, hidden=(5,))
    level = cases.stir(level.double())
    space = GaugeField(group, (2, 2))
    assert_logdet(level, space.prior(1, generator, dtype=torch.float64)[0], space)


def test_centres_are_shares_of_the_area():
    partition = RectanglePartition((6, 6), (2, 3))
    level = Level.of_design("cabr", SU(2), partition, (2, 4))
    assert [layer.centre for layer in level.couplings] == [2 / 6, 0.0, 1.0, 2 / 6]
    assert level.partition is partition
    assert set("cabrt") | {"f"} == SUBLAYERS.keys()


def test_on_shares_parameters_and_copy_does_not(generator):
    group = SU(2)
    beta_input = BetaInput(1.0, 2.0)
    level = Level.of_design("cabr", group, RectanglePartition((4, 4), (1, 2)), (1, 1), beta_input=beta_input)
    cases.stir(level)
    one = RectanglePartition((2, 3), (1, 2), [(0, 0)])
    same, copy = level.on(one), level.copy(one, (1, 2))
    assert [id(p) for p in same.parameters()] == [id(p) for p in level.parameters()]
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in level.parameters()}
    for a, b in zip(copy.parameters(), level.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [layer.centre for layer in copy.couplings] == [1 / 3, 0.0, 1.0, 1 / 3]
    assert [layer.centre for layer in level.couplings] == [1 / 2, 0.0, 1.0, 1 / 2]
    assert copy.areas == (1, 2)
    assert {id(m) for m in copy.modules() if isinstance(m, BetaInput)} == {id(beta_input)}
    # W and W_a are all that a level sees: on another lattice it does the same to the same loops
    links = group.haar(2, 4, 4, generator=generator)
    small = group.haar(2, 2, 3, generator=generator)
    small[:] = links[:, :2, :3]
    flat, flat_small = links.flatten(0, 2), small.flatten(0, 2)
    loops = [follow(flat, walk, group)[0] for walk in (level.partition.active_loops, level.partition.boundary_loops)]
    loops_small = [follow(flat_small, walk, group)[0] for walk in (one.active_loops, one.boundary_loops)]
    assert all(group.distance(a, b) < 1e-6 for a, b in zip(loops, loops_small, strict=True))
    y, y_small = level(links)[0], same(small)[0]
    assert group.distance(y[0, 0, 1], y_small[0, 0, 1]) < 1e-5
    assert group.distance(y[0, 0, 1], links[0, 0, 1]) > 1e-2


@pytest.mark.parametrize("design", ["", "x", "cabx", "C", "c a"])
def test_designs_that_cannot_be(design):
    with pytest.raises(InvalidInput, match="a level is designed by letters") as error:
        Level.of_design(design, U1(), RectanglePartition((4, 4), (1, 2)), (1, 1))
    assert repr(design) in str(error.value)
    assert all(f"{letter}: " in str(error.value) for letter in SUBLAYERS)
    assert "\n" not in str(error.value)


def test_layers_that_cannot_be():
    partition = RectanglePartition((4, 4), (1, 2))
    for group, letter, words in (
        (U1(), "r", r"ResidualMap needs SU\(N\), got U\(1\)"),
        (SU(2), "f", "SpectralMap"),
        (SU(2), "t", r"for SU\(3\)"),
    ):
        with pytest.raises(InvalidInput, match=words):
            Level.of_design(letter, group, partition, (1, 1))
    spline = SpectralMap(SU(2), 4)
    layer = RectangleCoupling(SU(2), partition, spline, BoundaryContext(SU(2), 3), 0.5)
    with pytest.raises(InvalidInput, match="context must give 13 parameters"):
        layer(SU(2).identity(2, 4, 4))
    with pytest.raises(InvalidInput, match=r"SU\(2\), 4x4\) holds complex tensors"):
        cut_coupling(SU(2), partition, spline, 0.5)(SU(2).identity(2, 4, 5))
