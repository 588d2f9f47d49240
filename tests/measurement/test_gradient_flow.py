"""The gradient flow: descent, symmetry, the order of its integrator, and the heat kernel for weak fields."""

import itertools
import math

import pytest
import torch

from lattice_flows import SU, U1
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.fields import gauge_transform
from lattice_flows.measurement import action_density, flow_history, flow_observables, gradient_flow, t0, w0
from lattice_flows.testing import distance

GROUPS = [U1(), SU(2), SU(3), SU(4)]
LATTICES = [(4, 6), (3, 4, 5), (2, 4, 3, 2)]
everywhere = pytest.mark.parametrize(
    ("group", "sites"), list(itertools.product(GROUPS, LATTICES)), ids=lambda case: str(case)
)


def haar(group, sites, *batch, dtype=torch.float64):
    return group.haar(*batch, len(sites), *sites, generator=torch.Generator().manual_seed(0), dtype=dtype)


@everywhere
def test_the_action_falls(group, sites):
    d = len(sites)
    action = Wilson(group, 1.0, dim=d)
    for step in (0.02, 0.6 / d):  # the second is close to what is stable
        times = [k * step for k in range(8)]
        values = flow_history(group, {"S": action}, times, step, dim=d)(haar(group, sites, 3))["S"]
        torch.testing.assert_close(values[:, 0], action(haar(group, sites, 3)))
        assert (values.diff(dim=-1) < 0).all()


@everywhere
def test_gauge_equivariant(group, sites, generator):
    links = haar(group, sites, 2)
    V = group.haar(2, *sites, generator=generator, dtype=torch.float64)
    d = len(sites)
    moved = gradient_flow(gauge_transform(links, V, group, dim=d), group, 0.2, 0.1, dim=d)
    expected = gauge_transform(gradient_flow(links, group, 0.2, 0.1, dim=d), V, group, dim=d)
    assert distance(moved, expected, group).max() < 1e-12


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 1e-4)], ids=str)
@everywhere
def test_stays_in_the_group(group, sites, dtype, atol):
    links = haar(group, sites, 2, 1, dtype=dtype)
    before = links.clone()
    flowed = gradient_flow(links, group, 0.5, 0.1, dim=len(sites))
    assert (flowed.shape, flowed.dtype) == (links.shape, links.dtype)
    assert torch.equal(links, before)
    assert group.defect(flowed).max() < atol
    alone = gradient_flow(links[1, 0], group, 0.5, 0.1, dim=len(sites))
    assert distance(alone, flowed[1, 0], group).max() < 10 * atol


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_one_flow_leads_to_all_times(group):
    links = haar(group, (3, 4, 5), 2)
    assert torch.equal(gradient_flow(links, group, 0.0, 0.1), links)
    assert not gradient_flow(links.clone().requires_grad_(), group, 0.1, 0.1).requires_grad
    history = flow_history(group, {"V": lambda links: links}, [0.0, 0.1, 0.25], 0.05)(links)["V"]
    later = gradient_flow(gradient_flow(links, group, 0.1, 0.05), group, 0.15, 0.05)
    for k, expected in enumerate((links, gradient_flow(links, group, 0.1, 0.05), later)):
        assert distance(history[..., k], expected, group).max() < 1e-13


@pytest.mark.parametrize(
    ("group", "sites"), [(U1(), (4, 4)), (SU(2), (3, 4, 3)), (SU(3), (3, 2, 3, 2)), (SU(4), (3, 4))], ids=str
)
def test_order_of_the_integrator(group, sites):
    """Links at a fixed time change like step^3."""
    d = len(sites)
    links = gradient_flow(haar(group, sites), group, 0.2, 0.05, dim=d)  # the higher orders of Haar links are large
    flowed = [gradient_flow(links, group, 0.4, 0.4 / n, dim=d) for n in (8, 16, 32)]
    coarse, fine = (distance(a, b, group).max().item() for a, b in itertools.pairwise(flowed))
    assert math.log2(coarse / fine) == pytest.approx(3, abs=0.25)


def test_scales_converge_with_the_step():
    """t_0 and w_0 change like step^3."""
    group = SU(2)
    links = gradient_flow(haar(group, (4, 3, 3, 4), 2), group, 0.2, 0.05)
    times = [0.06 * k for k in range(12)]
    found = []
    for step in (0.06, 0.03, 0.015):
        density = flow_history(group, {"E": action_density(group, dim=4)}, times, step, dim=4)(links)["E"].mean(0)
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
    flowed = gradient_flow(links, group, time, 0.02, dim=d)
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
        observables = flow_observables(group, sites)
        assert list(observables) == names
        links = haar(group, sites, 2)
        history = flow_history(group, observables, [0.0, 1.0], 0.1, dim=len(sites))(links)
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
    with pytest.raises(InvalidInput, match=message):
        gradient_flow(haar(U1(), (4, 4)), U1(), time, step)


@pytest.mark.parametrize("times", [[], [0.2, 0.1], [0.1, 0.1]])
def test_times_increase(times):
    with pytest.raises(InvalidInput, match="increasing"):
        flow_history(U1(), {}, times, 0.1)(haar(U1(), (4, 4)))
