"""Operators of time slices: derivatives by differences, and that fields see no slice but the next."""

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.operators import SliceOperators

SPACES = [
    GaugeField(SU(2), (3, 3, 4)),
    GaugeField(SU(3), (3, 3, 3)),
    GaugeField(U1(), (3, 3, 3, 4)),
    GaugeField(SU(2), (3, 3, 3, 3)),
]


def spatial_links(space, t):
    """Which links are spatial ones of one slice."""
    kept = torch.zeros(space.axes, dtype=torch.bool)
    kept[: space.dim - 1, ..., t] = True
    return kept


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_derivatives_are_those_of_differences(space, generator):
    """Along a tangent field of each slice, and all second derivatives by the spatial links of one."""
    x = space.prior(1, generator, dtype=torch.float64)
    tangent = space.random_tangents(1, *space.axes, generator=generator, dtype=torch.float64)
    components, operators, step = space.components(tangent), SliceOperators(space), 1e-3
    divergences, slopes = operators.derivatives(x, tangent)
    for t in range(space.lattice.extents[-1]):
        along = step * space.directions(x, components * spatial_links(space, t).unsqueeze(-1))
        ahead, back = (operators.potential(space.move(x, sign * along))[0, t] for sign in (1, -1))
        torch.testing.assert_close((ahead - back) / (2 * step), slopes[0, t], rtol=1e-4, atol=2e-3)
    places = spatial_links(space, t).nonzero()
    size = components.shape[-1]
    every = torch.zeros(len(places), size, *components.shape[1:], dtype=torch.float64)
    for k, place in enumerate(places.tolist()):
        every[(k, slice(None), *place)] = torch.eye(size, dtype=torch.float64)
    second, middle = torch.zeros(len(operators.names), dtype=torch.float64), operators.potential(x)[0, t]
    for part in every.flatten(0, 1).split(64):
        y = x.expand(len(part), *space.shape)
        moves = step * space.directions(y, part)
        second += sum((operators.potential(space.move(y, sign * moves))[:, t] - middle).sum(0) for sign in (1, -1))
    torch.testing.assert_close(second / step**2, divergences[0, t], rtol=1e-5, atol=1e-3)


def test_fields_are_those_of_the_derivatives(generator):
    space = GaugeField(SU(2), (3, 3, 5))
    x = space.prior(2, generator, dtype=torch.float64)
    tangent = space.random_tangents(2, *space.axes, generator=generator, dtype=torch.float64)
    operators = SliceOperators(space)
    coefficients = torch.randn(len(operators.names), generator=generator, dtype=torch.float64)
    slopes = operators.derivatives(x, tangent)[1] @ coefficients
    assert operators.colours == 3
    found = [space.inner(tangent, operators.field(x, coefficients, colour)) for colour in range(3)]
    expected = slopes[:, [0, 2]].sum(1), slopes[:, [1, 3]].sum(1), slopes[:, 4]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected))


def test_fields_do_not_depend_on_the_slice_after_the_next(generator):
    space = GaugeField(SU(2), (3, 3, 6))
    x = space.prior(1, generator, dtype=torch.float64)
    operators, action = SliceOperators(space), Wilson(space, 2.0)
    far, near = x.clone(), x.clone()
    far[:, :2, :, :, 3] = space.prior(1, generator, dtype=torch.float64)[:, :2, :, :, 3]
    near[:, :2, :, :, 2] = far[:, :2, :, :, 3]
    found = (operators.derivatives(y, action.force(y)) for y in (x, far, near))
    zeros = [divergences - slopes for divergences, slopes in found]
    torch.testing.assert_close(zeros[0][0, 1], zeros[1][0, 1], rtol=0, atol=1e-12)
    assert not torch.isclose(zeros[0][0, 1], zeros[2][0, 1]).any()


def test_spaces_without_slices():
    for space in (GaugeField(SU(2), (4, 4)), GaugeField(SU(2), (2, 4, 4))):
        with pytest.raises(InvalidInput, match="three or four dimensions and extents >= 3"):
            SliceOperators(space)
