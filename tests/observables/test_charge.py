"""The field strength, its densities and its charge: constant fields where they are known, symmetries, Haar averages."""

import itertools
import math

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import gauge_transform
from lattice_flows.observables import action_density, clover, clover_charge, plaquette_density, wilson_flow
from lattice_flows.statistics import estimate
from lattice_flows.testing import assert_gauge_invariant

GROUPS = [U1(), SU(2), SU(3), SU(4)]
SITES = (4, 3, 5, 2)
by_group = pytest.mark.parametrize("group", GROUPS, ids=str)


def haar(space, *batch, dtype=torch.float64):
    return space.group.haar(*batch, *space.axes, generator=torch.Generator().manual_seed(0), dtype=dtype)


def flux(group, sites, quanta):
    """Constant abelian flux 2 pi q / (L_mu L_nu) through every plaquette of the planes (mu, nu): q in `quanta`.

    Along diag(1, 0, ..., 0, -1) for SU(N). The seam of each plane closes the torus.
    """
    x = torch.meshgrid(*(torch.arange(extent, dtype=torch.float64) for extent in sites), indexing="ij")
    angles = torch.zeros(len(sites), *sites, dtype=torch.float64)
    for (mu, nu), q in quanta.items():
        angles[nu] += 2 * math.pi * q * x[mu] / (sites[mu] * sites[nu])
        seam = x[mu] == sites[mu] - 1
        angles[mu] -= 2 * math.pi * q * x[nu] / sites[nu] * seam
    if not group.element_shape:
        return group.exp(angles)
    direction = torch.zeros(group.N, dtype=torch.complex128)
    direction[0], direction[-1] = 1j, -1j
    return group.exp(torch.diag_embed(angles[..., None] * direction))


# pairs of planes that span four dimensions, with the sign of their permutation
PAIRS = [((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1)]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("q", [(1, 1), (2, -1), (-1, 0)], ids=str)
@by_group
def test_constant_flux(group, q, pair):
    """Fluxes f through the planes of a pair: Q = q1 q2 for U(1), twice that for SU(N), with sin f in the place of f."""
    sites = (4, 3, 5, 4)
    *planes, sign = pair
    space = GaugeField(group, sites)
    links = flux(group, sites, dict(zip(planes, q, strict=True)))
    f = [2 * math.pi * n / (sites[mu] * sites[nu]) for n, (mu, nu) in zip(q, planes, strict=True)]
    phases = 2 if group.element_shape else 1
    expected = sign * phases * math.prod(sites) * math.sin(f[0]) * math.sin(f[1]) / (4 * math.pi**2)
    assert clover_charge(space)(links).item() == pytest.approx(expected, abs=1e-12)
    norm = 4 if group.element_shape else 1  # of diag(i, ..., -i)
    expected = sum(norm * math.sin(angle) ** 2 / 2 for angle in f)
    assert action_density(space)(links).item() == pytest.approx(expected, abs=1e-12)
    expected = sum(norm * (1 - math.cos(angle)) for angle in f)
    assert plaquette_density(space)(links).item() == pytest.approx(expected, abs=1e-12)


@by_group
def test_continuum_limit_of_constant_flux(group):
    """Q tends to an integer like a^4, and both densities to the action of a self-dual field, 8 pi^2 |Q| for SU(N) and
    4 pi^2 |Q| for U(1)."""
    charge = 2 if group.element_shape else 1
    action = (8 if group.element_shape else 4) * math.pi**2 * charge
    deviations = {}
    for extent in (4, 8):
        space = GaugeField(group, (extent,) * 4)
        links = flux(group, (extent,) * 4, {(0, 1): 1, (2, 3): 1})
        values = (
            clover_charge(space)(links) / charge,
            extent**4 * action_density(space)(links) / action,
            extent**4 * plaquette_density(space)(links) / action,
        )
        deviations[extent] = [1 - value.item() for value in values]
    assert max(map(abs, deviations[8])) < 0.004
    for coarse, fine in zip(deviations[4], deviations[8], strict=True):
        assert coarse / fine == pytest.approx(16, rel=0.04)


@pytest.mark.parametrize("axis", range(4))
@by_group
def test_odd_under_reflections(group, axis):
    """x -> -x along an axis takes U_axis(x) to the inverse of U_axis(-x-1)."""
    space = GaugeField(group, SITES)
    links = haar(space)
    fields = [links[mu].flip(axis).roll(int(mu != axis), axis) for mu in range(4)]
    fields[axis] = group.inverse(fields[axis])
    reflected = torch.stack(fields)
    charge = clover_charge(space)(links)
    assert charge.abs() > 1e-3
    torch.testing.assert_close(clover_charge(space)(reflected), -charge, rtol=0, atol=1e-12)
    for density in (action_density(space), plaquette_density(space)):
        torch.testing.assert_close(density(reflected), density(links), rtol=0, atol=1e-12)


@by_group
def test_turns_with_the_sign_of_a_permutation_of_axes(group):
    space = GaugeField(group, SITES)
    links = haar(space)
    charge = clover_charge(space)(links)
    for order in itertools.permutations(range(4)):
        turned = links[list(order)].permute(0, *(1 + mu for mu in order), *range(5, links.ndim))
        sign = torch.linalg.det(torch.eye(4, dtype=torch.float64)[list(order)])
        on_turned = clover_charge(space.on([SITES[mu] for mu in order]))
        torch.testing.assert_close(on_turned(turned), sign * charge, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sites", [(4, 6), (4, 3, 5), SITES], ids=str)
@by_group
def test_gauge_covariant_and_batched(group, sites, generator):
    space = GaugeField(group, sites)
    links = haar(space, 2, 3)
    densities = [action_density(space), plaquette_density(space)]
    for observable in [*densities, clover_charge(space)] if space.dim == 4 else densities:
        value = observable(links)
        assert value.shape == (2, 3)
        torch.testing.assert_close(observable(links[1, 2]), value[1, 2], rtol=0, atol=1e-12)
        assert_gauge_invariant(observable, links, space, generator=generator)
        single = observable(links.to(group.element_dtype(torch.float32)))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), value, rtol=0, atol=1e-4)
    V = group.haar(*sites, generator=generator, dtype=torch.float64)
    strength, moved = (clover(x, 0, 1, space) for x in (links, gauge_transform(links, V, space)))
    turned = V @ strength @ V.mH if group.element_shape else strength
    torch.testing.assert_close(moved, turned, rtol=0, atol=1e-12)
    torch.testing.assert_close(clover(links, 1, 0, space), -strength, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sites", [(6, 4), (4, 3, 5), (3, 4, 3, 5)], ids=str)
@by_group
def test_haar_averages(group, sites):
    """The leaves of a clover are independent Haar elements: 1/4 of the inner product of one, which is (N^2 - 1) / N for
    SU(N), twice that for N = 2 with its real characters, and 1/2 for U(1)."""
    d, n = len(sites), group.n
    space = GaugeField(group, sites)
    links = haar(space, 200)
    planes = d * (d - 1) / 2
    leaf = {"U(1)": 0.5, "SU(2)": 3.0}.get(group.name, (n * n - 1) / n)
    result = estimate(action_density(space)(links))
    assert abs(result.value - planes * leaf / 8) < 4 * result.error
    result = estimate(plaquette_density(space)(links))
    assert abs(result.value - planes * (2 * n if group.element_shape else 1)) < 4 * result.error
    if d == 4:
        result = estimate(clover_charge(space)(links))
        assert abs(result.value) < 4 * result.error


def test_the_flow_uncovers_the_charge():
    """Noise on a self-dual field: its charge is lost at first, and is that of the smooth field again after the flow."""
    group, sites = SU(2), (4, 4, 4, 4)
    smooth = flux(group, sites, {(0, 1): 1, (2, 3): 1})
    noise = group.random_algebra(5, 4, *sites, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rough = group.compose(group.exp(0.5 * noise), smooth)
    space = GaugeField(group, sites)
    charge = clover_charge(space)
    expected = charge(smooth)
    assert (charge(rough) - expected).abs().max() > 0.5
    assert (charge(wilson_flow(rough, space, 1.5, 0.1)) - expected).abs().max() < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clover_charge(GaugeField(SU(2), (4, 4, 4))), "4-dimensional"),
        (lambda: clover_charge(SU(2)), "space of links"),
        (lambda: clover_charge(GaugeField(SU(2), SITES))(haar(GaugeField(U1(), SITES))), r"SU\(2\)"),
        (lambda: action_density(GaugeField(U1(), (4, 4)))(haar(GaugeField(U1(), (4, 4, 4)))), r"U\(1\), 4x4"),
        (lambda: clover(haar(GaugeField(U1(), (4, 4))), 0, 2, GaugeField(U1(), (4, 4))), "directions 0 ... 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
