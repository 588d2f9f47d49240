"""The Wilson flow: descent, symmetry, the order of its integrator, and the heat kernel for weak fields."""

import itertools
import math
import sys

import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_flow import available
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
    for step in (0.02, 0.6 / space.dim):
        times = [k * step for k in range(8)]
        values = flow_history(space, {"S": action}, times, step, tolerance=math.inf)(haar(space, 3))["S"]
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
    history = flow_history(space, {"V": lambda links: links}, [0.0, 0.1, 0.25])(links)["V"]
    for k, time in enumerate((0.0, 0.1, 0.25)):
        assert space.distance(history[..., k], wilson_flow(links, space, time)).max() < 1e-4
    fixed = flow_history(space, {"V": lambda links: links}, [0.1, 0.25], 0.05, tolerance=math.inf)(links)["V"]
    sooner = wilson_flow(links, space, 0.1, 0.05, tolerance=math.inf)
    for k, expected in enumerate((sooner, wilson_flow(sooner, space, 0.15, 0.05, tolerance=math.inf))):
        assert space.distance(fixed[..., k], expected).max() < 1e-13


LARGE = [(U1(), (8, 8)), (SU(2), (4, 4, 8)), (SU(3), (2, 4, 4, 8)), (SU(4), (8, 8))]
"""Lattices that have a kernel."""


@pytest.mark.parametrize(
    ("group", "sites"),
    [*LARGE, (U1(), (4, 4)), (SU(2), (3, 4, 3)), (SU(3), (3, 2, 3, 2)), (SU(4), (3, 4))],
    ids=str,
)
def test_order_of_the_integrator(group, sites):
    """Links at a fixed time change like step^4."""
    space = GaugeField(group, sites)
    links = wilson_flow(haar(space), space, 0.2)  # the higher orders of Haar links are large
    flowed = [wilson_flow(links, space, 0.4, 0.4 / n, tolerance=math.inf) for n in (6, 12, 24)]
    coarse, fine = (space.distance(a, b).item() for a, b in itertools.pairwise(flowed))
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.4)


@pytest.mark.parametrize(("group", "sites"), [*LARGE, (SU(3), (3, 2, 3, 2))], ids=str)
def test_the_tolerance_bounds_the_error(group, sites):
    """Also of rough links; and a smaller one gives a smaller error."""
    space = GaugeField(group, sites)
    links, errors = haar(space, 1), []
    exact = wilson_flow(links, space, 1.0, 0.01, tolerance=math.inf)
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
        error = space.distance(wilson_flow(links, space, 1.0, tolerance=tolerance), exact).max().item()
        assert error < tolerance * group.n
        errors.append(error)
    assert errors[3] < errors[2] / 2 < errors[1] / 4 < 1e-3 * group.n


@pytest.mark.parametrize("sites", [(3, 4), (8, 8)], ids=str)  # without a kernel, and with one
def test_every_configuration_has_steps_of_its_own(sites):
    """A smooth one beside a rough one changes as it would alone."""
    space = GaugeField(SU(2), sites)
    rough = haar(space, 1)
    both = torch.cat((rough, wilson_flow(rough, space, 2.0)))
    together = wilson_flow(both, space, 0.5, tolerance=1e-3)
    for k in range(2):
        alone = wilson_flow(both[k : k + 1], space, 0.5, tolerance=1e-3)
        assert space.distance(together[k : k + 1], alone).item() < 1e-13
    assert space.distance(together, wilson_flow(both, space, 0.5, tolerance=1e-6)).max() > 1e-8  # so steps differ


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("group", "sites"), LARGE, ids=str)
def test_the_kernel_keeps_to_the_rule(group, sites, dtype, monkeypatch):
    """On lattices that have one, links and observables are those of the same steps without it."""
    space, links = GaugeField(group, sites), haar(GaugeField(group, sites), 2, dtype=dtype)
    links = wilson_flow(links, space, 0.1)
    measure = flow_history(space, flow_observables(space), [0.0, 0.3, 0.5])
    found, smooth = measure(links), wilson_flow(links, space, 0.5)
    asked = []
    monkeypatch.setattr(
        sys.modules[wilson_flow.__module__], "available", lambda *about: asked.append(available(*about))
    )
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found, measure(links), rtol=tolerance, atol=tolerance)
    assert space.distance(smooth, wilson_flow(links, space, 0.5)).max() < tolerance
    assert all(asked)


def test_other_observables_beside_those_of_the_kernel():
    """In one history, and of another space, too."""
    space = GaugeField(SU(2), (4, 4, 8))
    links, density = haar(space), action_density(space)
    plain = {"E": density, "F": lambda links: density(links), "other": action_density(GaugeField(SU(3), (4, 4, 8)))}
    found = flow_history(space, {name: plain[name] for name in "EF"}, [0.0, 0.2])(links)
    torch.testing.assert_close(found["E"], found["F"])
    with pytest.raises(InvalidInput, match=r"SU\(3\)"):
        flow_history(space, plain, [0.2])(links)


def test_scales_converge_with_the_tolerance():
    """t_0 and w_0."""
    space = GaugeField(SU(2), (4, 3, 3, 4))
    links = wilson_flow(haar(space, 2), space, 0.2)
    times = [0.06 * k for k in range(12)]
    found = []
    for tolerance in (1e-3, 1e-4, 1e-7):
        density = flow_history(space, {"E": action_density(space)}, times, tolerance=tolerance)(links)["E"].mean(0)
        found.append((t0(times, density), w0(times, density)))
    for coarse, middle, fine in zip(*found, strict=True):
        assert abs(coarse / fine - 1) < 1e-5
        assert abs(middle / fine - 1) < 1e-6


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
    flowed = wilson_flow(links, GaugeField(group, sites), time, tolerance=1e-6 * amplitude)
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
        (1.0, 0.0, "step of the flow must be > 0 and < 0.575 in 2 dimensions, got 0.0"),
        (1.0, -0.1, "step of the flow"),
        (1.0, 0.58, "step of the flow"),
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


@pytest.mark.parametrize("sites", [(3, 4), (8, 8)], ids=str)
def test_tolerances_that_cannot_be_kept(sites):
    space = GaugeField(U1(), sites)
    for tolerance in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidInput, match="tolerance of the flow must be > 0, got"):
            wilson_flow(haar(space), space, 1.0, tolerance=tolerance)
    with pytest.raises(InvalidInput, match=r"does not reach tolerance 1e-12 in torch\.float32"):
        wilson_flow(haar(space, dtype=torch.float32), space, 1.0, tolerance=1e-12)
    with pytest.raises(TypeError):
        wilson_flow(haar(space), space, 1.0, 0.1, 1e-4)


@pytest.mark.parametrize("sites", [(3, 4), (8, 8)], ids=str)
def test_what_is_not_a_number_is_not_hidden(sites):
    space = GaugeField(SU(3), sites)
    links = haar(space, 2)
    links[0, 0, 1, 1] = math.nan
    density = flow_history(space, flow_observables(space), [0.5])(links)["action_density"]
    assert density[:, 0].isnan().tolist() == [True, False]


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
