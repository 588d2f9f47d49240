"""Laws of the triangular map: each coordinate alone, with parameters that depend on what it may see."""

import cases
import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput
from lattice_flows.planar.triangular import COORDINATES, TriangularMap, _rotation
from lattice_flows.testing import assert_conjugation_map

GROUP = SU(3)
by_coordinate = pytest.mark.parametrize("coordinate", COORDINATES)
by_dtype = pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))


def inputs(m, dtype, generator):
    return GROUP.haar(2, m, generator=generator, dtype=dtype)


@by_coordinate
@by_dtype
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_laws(coordinate, dtype, share, generator):
    triangular = TriangularMap(GROUP, coordinate, share, bins=5)
    loop, boundary = inputs(200, dtype, generator)
    params = torch.randn(200, triangular.n_params, generator=generator, dtype=dtype)
    # the frame of W loses digits where two of its eigenvalues are close
    atol = {torch.float64: 1e-9, torch.float32: 1e-3}[dtype]
    assert_conjugation_map(triangular, loop, params, GROUP, boundary=boundary, atol=atol, generator=generator)
    assert triangular(loop, params, boundary)[1].std() > 0.05


@by_coordinate
def test_features_do_not_change(coordinate, generator):
    """Neither under the map itself, nor under conjugation of both loops."""
    triangular = TriangularMap(GROUP, coordinate, 0.5, bins=5)
    loop, boundary = inputs(500, torch.float64, generator)
    params = torch.randn(500, triangular.n_params, generator=generator, dtype=torch.float64)
    features = triangular.features(loop, boundary)
    assert features.shape == (500, triangular.n_features)
    g, _ = triangular(loop, params, boundary)
    torch.testing.assert_close(triangular.features(g @ loop, boundary), features, atol=1e-9, rtol=0)
    turn = GROUP.haar(generator=generator, dtype=torch.float64)
    turned = triangular.features(turn @ loop @ turn.mH, turn @ boundary @ turn.mH)
    torch.testing.assert_close(turned, features, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("coordinate", "moved"), [("real", {0, 1}), ("imaginary", {1, 2}), ("share", {3}), ("rotation", {4})]
)
def test_a_coordinate_moves_alone(coordinate, moved, generator):
    """Of cos phi, Im v_1 = sin phi cos psi, cos psi, t and tr V."""
    loop, boundary = inputs(300, torch.float64, generator)
    triangular = TriangularMap(GROUP, coordinate, 0.5)
    last = TriangularMap(GROUP, "rotation", 0.5)
    frame, weights = last._frame(boundary)

    def coordinates(loop):
        rotation, _ = _rotation(frame.mH @ loop @ frame * weights)
        return torch.cat((last.features(loop, boundary)[:, :4], SU(2).retrace(rotation).unsqueeze(-1)), dim=-1)

    params = torch.randn(300, triangular.n_params, generator=generator, dtype=torch.float64)
    g, _ = triangular(loop, params, boundary)
    change = (coordinates(g @ loop) - coordinates(loop)).abs().amax(0)
    assert set((change > 1e-9).nonzero().flatten().tolist()) == moved
    assert change[list(moved)].min() > 0.01


@by_coordinate
@pytest.mark.parametrize("kind", ["identity", "near identity", "centre"])
def test_finite_and_unitary_near_degeneracy(coordinate, kind, generator):
    """Loops on the frame's own axes, and boundaries without a frame; with gradients, in both directions."""
    triangular = TriangularMap(GROUP, coordinate, 0.5)
    loop, boundary = inputs(40, torch.float64, generator)
    params = torch.randn(40, triangular.n_params, generator=generator, dtype=torch.float64)
    special = cases.near_degenerate(GROUP, kind, 40, generator)
    for case in ((special, params, boundary), (loop, params, special), (special, params, special)):
        leaves = [x.clone().requires_grad_() for x in case]
        for move in (triangular.forward, triangular.inverse):
            g, logdet = move(*leaves)
            assert GROUP.defect(g).max() < 1e-12
            gradients = torch.autograd.grad(g.real.sum() + logdet.sum(), leaves, allow_unused=True)
            assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@by_coordinate
def test_the_identity_at_zero(coordinate, generator):
    triangular = TriangularMap(GROUP, coordinate, 0.5)
    loop, boundary = inputs(50, torch.float64, generator)
    g, logdet = triangular(loop, torch.zeros(50, triangular.n_params, dtype=torch.float64), boundary)
    torch.testing.assert_close(g, GROUP.identity(50, dtype=torch.float64), atol=1e-12, rtol=0)
    assert logdet.abs().max() < 1e-12


@pytest.mark.parametrize(("group", "coordinate"), [(SU(2), "real"), (U1(), "real"), (SU(3), "phase")], ids=str)
def test_other_groups_and_coordinates(group, coordinate):
    with pytest.raises(InvalidInput, match="triangular maps are for SU"):
        TriangularMap(group, coordinate, 0.5)


@by_coordinate
def test_rounding_does_not_grow(coordinate, generator):
    """The factor is unitary though the loop is not quite: a lattice of maps multiplies it on."""
    triangular = TriangularMap(GROUP, coordinate, 0.5)
    loop, boundary = inputs(100, torch.float64, generator)
    params = torch.randn(100, triangular.n_params, generator=generator, dtype=torch.float64)
    for move in (triangular.forward, triangular.inverse):
        g, _ = move(loop * (1 + 1e-5), params, boundary)
        assert GROUP.defect(g).max() < 1e-8
