"""The Wilson flow in one call: against the reference, its law of steps, its densities, and what a chain depends on."""

import itertools
import math

import pytest
import torch
from op_laws import poisoned  # noqa: F401

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_flow import available, link_flow
from lattice_flows.observables import action_density, clover_charge, plaquette_density

GROUPS = [U1(), SU(2), SU(3), SU(4)]
EXTENTS = [(8, 12), (4, 4, 8), (4, 2, 4, 8)]
by_group = pytest.mark.parametrize("group", GROUPS, ids=str)
by_extents = pytest.mark.parametrize("extents", EXTENTS, ids=str)
by_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")
FIRST = torch.tensor([0.01, 0.03], dtype=torch.float64)
TIMES = [0.0, 0.04, 0.2]


def observables(space):
    both = [plaquette_density(space), action_density(space)]
    return [*both, clover_charge(space)] if space.dim == 4 else both


@by_group
@by_dtype
@by_extents
@pytest.mark.parametrize("tolerance", [1e-4, math.inf])
def test_agrees_with_the_reference(group, extents, dtype, tolerance, generator, monkeypatch):
    links = GaugeField(group, extents).prior(2, generator, dtype=dtype)
    assert available(extents, group.n, links)
    arguments, before = (links, extents, TIMES, tolerance, 0.08, FIRST), links.clone()
    found = link_flow(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        expected = link_flow(*arguments)
    # in single precision steps differ by the rounding of their errors, and what comes out by that share of an error
    same = dtype == torch.float64 or tolerance == math.inf
    atol = 1000 * torch.finfo(dtype).eps if same else tolerance
    assert group.distance(found.links, expected.links).max() < atol
    torch.testing.assert_close(found.densities, expected.densities, rtol=0, atol=100 * atol)
    torch.testing.assert_close(found.steps, expected.steps, rtol=0 if same else 0.1, atol=atol)
    assert found.links.dtype == links.dtype
    assert torch.equal(links, before)


@by_group
@by_dtype
@by_extents
def test_densities_are_those_of_the_observables(group, extents, dtype, generator):
    space = GaugeField(group, extents)
    links = space.prior(2, generator, dtype=dtype)
    whole, atol = link_flow(links, extents, TIMES, 1e-3, 0.1, FIRST), 1000 * torch.finfo(dtype).eps
    for k, time in enumerate(TIMES):
        x = link_flow(links, extents, TIMES[: k + 1], 1e-3, 0.1, FIRST).links if time else links
        for column, observable in enumerate(observables(space)):
            torch.testing.assert_close(whole.densities[:, k, column], observable(x).double(), rtol=0, atol=atol)
    assert whole.densities.shape == (2, 3, len(observables(space)))


@by_group
@by_dtype
def test_in_parts_as_in_one_call(group, dtype, generator):
    """With the steps that come back."""
    links = GaugeField(group, (8, 8)).prior(2, generator, dtype=dtype)
    whole = link_flow(links, (8, 8), [0.1, 0.3], 1e-3, 0.2, FIRST)
    half = link_flow(links, (8, 8), [0.1], 1e-3, 0.2, FIRST)
    rest = link_flow(half.links, (8, 8), [0.3 - 0.1], 1e-3, 0.2, half.steps)
    atol = 1e-12 if dtype == torch.float64 else 1e-3
    assert group.distance(rest.links, whole.links).max() < atol
    torch.testing.assert_close(rest.steps, whole.steps, rtol=100 * atol, atol=0)


@by_group
@by_extents
def test_at_rest(group, extents, generator):
    """Nothing happens to a cold start, to the last bit, nor at time 0; then only the largest step is known."""
    space = GaugeField(group, extents)
    cold = space.cold(2, dtype=torch.float64)
    found = link_flow(cold, extents, [0.0, 2.0], 1e-9, 0.1, FIRST)
    assert torch.equal(found.links, cold)
    assert (found.densities == 0).all()
    assert (found.steps == 0.1).all()
    hot = space.prior(2, generator, dtype=torch.float64)
    still = link_flow(hot, extents, [0.0], 1e-9, 0.1, FIRST)
    assert group.distance(still.links, hot).max() < 1e-14
    assert torch.equal(still.steps, FIRST)


@by_group
@by_extents
@pytest.mark.parametrize("tolerance", [1e-3, math.inf])
def test_the_density_falls(group, extents, tolerance, generator):
    links = GaugeField(group, extents).prior(2, generator, dtype=torch.float64)
    times = [0.1 * k for k in range(12)]
    density = link_flow(links, extents, times, tolerance, 0.6 / len(extents), FIRST).densities[..., 0]
    assert (density.diff(dim=-1) < 0).all()


@by_group
def test_links_stay_in_the_group(group, generator):
    """After hundreds of steps."""
    for dtype in (torch.float32, torch.float64):
        links = GaugeField(group, (8, 8)).prior(2, generator, dtype=dtype)
        flowed = link_flow(links, (8, 8), [2.0], math.inf, 0.005, FIRST).links
        assert group.defect(flowed).max() < 20 * group.n * torch.finfo(dtype).eps


@by_group
def test_larger_steps_for_smaller_forces(group, generator):
    """A step and its error keep to d = tolerance: an eighth of the tolerance halves the step."""
    links = GaugeField(group, (8, 8)).prior(2, generator, dtype=torch.float64)
    smooth = link_flow(links, (8, 8), [2.0], 1e-4, 0.2, FIRST).links
    steps = [link_flow(smooth, (8, 8), [1e-3], t, 10.0, FIRST).steps for t in (1e-4, 1e-4 / 8, 1e-4 / 64)]
    for large, small in itertools.pairwise(steps):
        assert ((large / small - 2).abs() < 1e-6).all()
    rough = link_flow(links, (8, 8), [1e-3], 1e-4, 10.0, FIRST).steps
    assert (steps[0] > rough).all()


@by_group
@pytest.mark.parametrize("compiled", [True, False])
def test_a_step_that_is_too_large_is_made_again(group, compiled, generator, monkeypatch):
    """Else the first step, far too large for rough links, would spoil them."""
    links = GaugeField(group, (8, 8)).prior(2, generator, dtype=torch.float64)
    exact = link_flow(links, (8, 8), [0.2], math.inf, 0.005, FIRST).links
    if not compiled:
        monkeypatch.setattr(build, "native", lambda *_: None)
    found = link_flow(links, (8, 8), [0.2], 1e-5, 0.2, FIRST.new_full((2,), 0.2))
    assert group.distance(found.links, exact).max() < 1e-5
    assert (found.steps < 0.2).all()


@by_group
def test_a_chain_depends_on_itself_alone(group, generator):
    """To the last bit: not on the chains beside it, nor on the number of threads."""
    threads = torch.get_num_threads()
    for extents in ((8, 4, 6, 4) if group.n < 4 else (8, 12), (4, 4, 4)):
        links = GaugeField(group, extents).prior(2, generator, dtype=torch.float64)
        try:
            torch.set_num_threads(1)
            whole = link_flow(links, extents, TIMES, 1e-4, 0.1, FIRST)
            torch.set_num_threads(3)
            threaded = link_flow(links, extents, TIMES, 1e-4, 0.1, FIRST)
        finally:
            torch.set_num_threads(threads)
        second = link_flow(links[1:], extents, TIMES, 1e-4, 0.1, FIRST[1:])
        for all_chains, in_threads, alone in zip(whole, threaded, second, strict=True):
            assert torch.equal(all_chains, in_threads)
            assert torch.equal(all_chains[1:], alone)


@pytest.mark.parametrize("extents", EXTENTS[1:], ids=str)
def test_charge_of_a_mirror_image(extents, generator):
    """Q changes its sign, and the densities do not, where a direction is turned around."""
    space = GaugeField(SU(3), extents)
    links = space.prior(2, generator, dtype=torch.float64)
    mirrored = links.flip(2)
    mirrored[:, 0] = mirrored[:, 0].roll(-1, 1).mH
    found, other = (link_flow(x, extents, [0.1], 1e-4, 0.1, FIRST).densities for x in (links, mirrored))
    signs = torch.tensor([1.0, 1.0, -1.0][: found.shape[-1]], dtype=torch.float64)
    torch.testing.assert_close(other, found * signs, rtol=0, atol=1e-10)


def test_what_is_not_a_number_is_not_hidden(generator):
    links = GaugeField(SU(3), (8, 8)).prior(2, generator)
    links[0, 0, 3, 3] = math.nan
    found = link_flow(links, (8, 8), [0.2], 1e-3, 0.1, FIRST)
    assert found.densities[:, 0, 0].isnan().tolist() == [True, False]


@pytest.mark.parametrize("compiled", [True, False])
def test_steps_that_would_be_too_small(compiled, generator, monkeypatch):
    """An error below rounding: there would be no end."""
    if not compiled:
        monkeypatch.setattr(build, "native", lambda *_: None)
    links = GaugeField(SU(3), (8, 8)).prior(2, generator, dtype=torch.float32)
    message = r"does not reach tolerance 1e-10 in torch\.complex64 with steps >= 1e-06: give it a larger tolerance"
    with pytest.raises(InvalidInput, match=message):
        link_flow(links, (8, 8), [1.0], 1e-10, 0.1, FIRST)


def test_bad_input(generator):
    links = GaugeField(SU(3), (8, 8)).prior(2, generator)
    for tolerance, largest, steps in ((0.0, 0.1, FIRST), (1e-3, math.inf, FIRST), (1e-3, 0.1, FIRST[:1])):
        with pytest.raises(InvalidInput, match="must be > 0, and steps"):
            link_flow(links, (8, 8), [0.1], tolerance, largest, steps)
    for times in ([], [0.2, 0.1], [-0.1], [math.nan]):
        with pytest.raises(InvalidInput, match="flow times must be finite, >= 0 and increasing"):
            link_flow(links, (8, 8), times, 1e-3, 0.1, FIRST)
    with pytest.raises(InvalidInput, match="of extents >= 2, got"):
        link_flow(links, (4, 16), [0.1], 1e-3, 0.1, FIRST)
