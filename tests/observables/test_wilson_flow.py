"""The Wilson flow: descent, symmetry, the order of its integrator, and the heat kernel for weak fields."""

import itertools
import math

import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import gauge_transform
from lattice_flows.observables import action_density, flow_history, flow_observables, wilson_flow
from lattice_flows.statistics import t0, w0

GROUPS = [U1(), SU(2), SU(3), SU(4)]
LATTICES = [(4, 6), (3, 4, 5), (2, 4, 3, 2)]
SPACES = [GaugeField(group, sites) for group, sites in itertools.product(GROUPS, LATTICES)]
everywhere = pytest.mark.parametrize("space", SPACES, ids=str)


def haar(space, *batch, dtype=torch.float64):
    return space.group.haar(*batch, *space.axes, generator=torch.Generator().manual_seed(0), dtype=dtype)


@everywhere
def test_the_action_falls(space):
    action = Wilson(space, 1.0)
    for step in (0.02, 0.6 / space.dim):  # the second is close to what is stable
        times = [k * step for k in range(8)]
        values = flow_history(space, {"S": action}, times, step)(haar(space, 3))["S"]
        torch.testing.assert_close(values[:, 0], action(haar(space, 3)))
        assert (values.diff(dim=-1) < 0).all()


@everywhere
def test_gauge_equivariant(space, generator):
    links = haar(space, 2)
    V = space.group.haar(2, *space.lattice.extents, generator=generator, dtype=torch.float64)
    moved = wilson_flow(gauge_transform(links, V, space), space, 0.2, 0.1)
    expected = gauge_transform(wilson_flow(links, space, 0.2, 0.1), V, space)
    assert space.distance(moved, expected).max() < 1e-12


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 1e-4)], ids=str)
@everywhere
def test_stays_in_the_group(space, dtype, atol):
    links = haar(space, 2, 1, dtype=dtype)
    before = links.clone()
    flowed = wilson_flow(links, space, 0.5, 0.1)
    assert (flowed.shape, flowed.dtype) == (links.shape, links.dtype)
    assert torch.equal(links, before)
    assert space.group.defect(flowed).max() < atol
    alone = wilson_flow(links[1, 0], space, 0.5, 0.1)
    assert space.distance(alone, flowed[1, 0]) < 10 * atol


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_one_flow_leads_to_all_times(group):
    space = GaugeField(group, (3, 4, 5))
    links = haar(space, 2)
    assert torch.equal(wilson_flow(links, space, 0.0, 0.1), links)
    assert not wilson_flow(links.clone().requires_grad_(), space, 0.1, 0.1).requires_grad
    history = flow_history(space, {"V": lambda links: links}, [0.0, 0.1, 0.25], 0.05)(links)["V"]
    later = wilson_flow(wilson_flow(links, space, 0.1, 0.05), space, 0.15, 0.05)
    for k, expected in enumerate((links, wilson_flow(links, space, 0.1, 0.05), later)):
        assert space.distance(history[..., k], expected).max() < 1e-13


@pytest.mark.parametrize(
    ("group", "sites"), [(U1(), (4, 4)), (SU(2), (3, 4, 3)), (SU(3), (3, 2, 3, 2)), (SU(4), (3, 4))], ids=str
)
def test_order_of_the_integrator(group, sites):
    """Links at a fixed time change like step^3."""
    space = GaugeField(group, sites)
    links = wilson_flow(haar(space), space, 0.2, 0.05)  # the higher orders of Haar links are large
    flowed = [wilson_flow(links, space, 0.4, 0.4 / n) for n in (8, 16, 32)]
    coarse, fine = (space.distance(a, b).item() for a, b in itertools.pairwise(flowed))
    assert math.log2(coarse / fine) == pytest.approx(3, abs=0.25)


def test_scales_converge_with_the_step():
    """t_0 and w_0 change like step^3."""
    space = GaugeField(SU(2), (4, 3, 3, 4))
    links = wilson_flow(haar(space, 2), space, 0.2, 0.05)
    times = [0.06 * k for k in range(12)]
    found = []
    for step in (0.06, 0.03, 0.015):
        density = flow_history(space, {"E": action_density(space)}, times, step)(links)["E"].mean(0)
        found.append((t0(times, density), w0(times, density)))
    for coarse, middle, fine in zip(*found, strict=True):
        assert abs(middle / fine - 1) < 1e-5
        assert math.log2((coarse - middle) / (middle - fine)) == pytest.approx(3, abs=0.25)


@pytest.mark.parametrize("momentum", [(1,), (2, 1), (1, 0, 2)], ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_weak_plane_waves_obey_the_heat_kernel(group, momentum):
    """A transverse wave of algebra elements decays like exp(-t sum 4 sin^2(p / 2)); one of pure gauge stays.

    This fixes the units of time, for every group alike."""
    d = len(momentum) + 1
    sites = (3, *range(4, 4 + len(momentum)))
    p = [0.0] + [2 * math.pi * k / extent for k, extent in zip(momentum, sites[1:], strict=True)]
    x = torch.meshgrid(*(torch.arange(extent, dtype=torch.float64) for extent in sites), indexing="ij")
    phase = sum(a * b for a, b in zip(p, x, strict=True))
    direction = group.generators(dtype=torch.float64)[-1]
    time, amplitude = 0.4, 1e-4
    transverse = torch.zeros(d, *sites, dtype=torch.float64)
    transverse[0] = phase.cos()  # the momentum has no component along 0
    gauge = torch.stack([phase.cos() - (phase + k).cos() for k in p])
    waves = amplitude * torch.stack((transverse, gauge))
    links = group.exp(torch.tensordot(waves.to(direction.dtype), direction, dims=0))
    flowed = wilson_flow(links, GaugeField(group, sites), time, 0.02)
    decay = math.exp(-time * sum(4 * math.sin(k / 2) ** 2 for k in p))
    expected = torch.stack((decay * transverse, gauge))
    found = group.inner(group.project_algebra(flowed), direction) / amplitude
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_flow_observables():
    densities = ["action_density", "plaquette_density"]
    both = [*densities, "topological_charge"]
    for group, sites, names in (
        (U1(), (4, 4), both),
        (SU(2), (4, 4), densities),
        (U1(), (4, 4, 4), densities),
        (U1(), (4, 4, 4, 4), both),
        (SU(3), (2, 4, 4, 4), both),
    ):
        space = GaugeField(group, sites)
        observables = flow_observables(space)
        assert list(observables) == names
        links = haar(space, 2)
        history = flow_history(space, observables, [0.0, 1.0], 0.1)(links)
        for name, values in history.items():
            assert values.shape == (2, 2)
            torch.testing.assert_close(values[:, 0], observables[name](links))
        gap = history["action_density"] - history["plaquette_density"]
        assert (gap[:, 1].abs() < 0.5 * gap[:, 0].abs()).all()


@pytest.mark.parametrize(
    ("time", "step", "message"),
    [
        (1.0, 0.0, "step of the flow must be > 0 and < 0.314 in 2 dimensions, got 0.0"),
        (1.0, -0.1, "step of the flow"),
        (1.0, 0.32, "step of the flow"),
        (1.0, math.nan, "step of the flow"),
        (-0.1, 0.1, "flow times must be finite, >= 0 and increasing"),
        (math.inf, 0.1, "flow times must be"),
        (math.nan, 0.1, "flow times must be"),
    ],
)
def test_errors(time, step, message):
    space = GaugeField(U1(), (4, 4))
    with pytest.raises(InvalidInput, match=message):
        wilson_flow(haar(space), space, time, step)


def test_links_of_another_space():
    """Also where nothing is to be done."""
    for time in (0.0, 1.0):
        with pytest.raises(InvalidInput, match=r"U\(1\), 4x4"):
            wilson_flow(haar(GaugeField(U1(), (4, 6))), GaugeField(U1(), (4, 4)), time, 0.1)
    with pytest.raises(InvalidInput, match="space of links"):
        flow_observables(ScalarField((4, 4)))


@pytest.mark.parametrize("times", [[], [0.2, 0.1], [0.1, 0.1]])
def test_times_increase(times):
    space = GaugeField(U1(), (4, 4))
    with pytest.raises(InvalidInput, match="increasing"):
        flow_history(space, {}, times, 0.1)(haar(space))
