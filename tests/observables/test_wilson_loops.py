"""Wilson loops of all sizes: each of them against the loop on its own, planes of time, and the area law."""

import itertools

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import closed_path, rectangle
from lattice_flows.observables import wilson_loop, wilson_loops
from lattice_flows.observables.loops import _ahead
from lattice_flows.planar.exact import exact_value
from lattice_flows.planar.exact_samples import exact_samples
from lattice_flows.statistics import estimate
from lattice_flows.testing import assert_gauge_invariant

# extents with the largest R and T
CASES = [((4, 6), 2, 3), ((5, 4), 3, 3), ((4, 3, 5), 2, 1), ((3, 4, 3, 3), 2, 2)]
everywhere = pytest.mark.parametrize(("sites", "r", "t"), CASES, ids=str)
by_group = pytest.mark.parametrize("group", [U1(), SU(2), SU(3), SU(4)], ids=str)


def haar(space, *batch, dtype=torch.float64):
    return space.group.haar(*batch, *space.axes, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=str)
@everywhere
@by_group
def test_every_loop(group, sites, r, t, dtype, atol):
    space = GaugeField(group, sites)
    links = haar(space, 2, 1, dtype=dtype)
    loops = wilson_loops(space, r, t)(links)
    assert (loops.shape, loops.dtype) == ((2, 1, r, t), dtype)
    for a, b in itertools.product(range(r), range(t)):
        alone = wilson_loop(space, a + 1, b + 1)(links)
        torch.testing.assert_close(loops[..., a, b], alone, rtol=0, atol=atol)


@everywhere
@by_group
def test_along_time(group, sites, r, t):
    """T may be longer than the other extents allow, and the other directions turn up in R alone."""
    space = GaugeField(group, sites)
    links = haar(space, 2)
    d = space.dim
    for time in range(d):
        longest = sites[time] - 1
        loops = wilson_loops(space, 2, longest, time=time)(links)
        assert loops.shape == (2, 2, longest)
        torch.testing.assert_close(wilson_loops(space, 2, longest, time=time - d)(links), loops)
        for a, b in itertools.product((1, 2), (1, longest)):
            paths = [rectangle(mu, a, time, b) for mu in range(d) if mu != time]
            traces = [group.retrace(closed_path(links, path, space)).flatten(1).mean(1) for path in paths]
            torch.testing.assert_close(loops[:, a - 1, b - 1], torch.stack(traces).mean(0), rtol=0, atol=1e-13)


@everywhere
@by_group
def test_gauge_invariant(group, sites, r, t, generator):
    space = GaugeField(group, sites)
    assert_gauge_invariant(wilson_loops(space, r, t), haar(space), space, generator=generator)


@by_group
def test_gradient(group):
    space = GaugeField(group, (4, 3, 4))
    links = haar(space).requires_grad_()
    loops, alone = wilson_loops(space, 2, 1)(links)[1, 0], wilson_loop(space, 2, 1)(links)
    gradients = [torch.autograd.grad(value, links)[0] for value in (loops, alone)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


def test_area_law():
    """Independent samples of U(1) in two dimensions, where every loop is known."""
    space = GaugeField(U1(), (5, 6))
    action = Wilson(space, beta=2.0)
    links = exact_samples(action, 4000, generator=torch.Generator().manual_seed(1))
    loops = wilson_loops(space, 3, 4)(links)
    for a, b in itertools.product(range(1, 4), range(1, 5)):
        result = estimate(loops[:, a - 1, b - 1])
        expected = exact_value(f"wilson_loop_{a}x{b}", action)
        assert abs(result.value - expected) < 4 * result.error, (a, b)


SPACE = GaugeField(U1(), (4, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_loops(SPACE, 0, 1), "sides of Wilson loops must be >= 1, got 0 x 1"),
        (lambda: wilson_loops(SPACE, 4, 1), "4 x 1 Wilson loops need larger extents, got a lattice of 4x6"),
        (lambda: wilson_loops(SPACE, 1, 4), "1 x 4 Wilson loops need larger extents"),
        (lambda: wilson_loops(SPACE, 4, 1, time=1), "4 x 1 Wilson loops need larger extents"),
        (lambda: wilson_loops(SPACE, 1, 1, time=2), "time must be a direction from -2 to 1"),
        (lambda: wilson_loops(U1(), 1, 1), "space of links"),
        (lambda: wilson_loops(GaugeField(SU(2), (4, 6)), 1, 1)(haar(SPACE)), r"SU\(2\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def test_a_gradient_after_inference_mode():
    _ahead.cache_clear()
    space = GaugeField(U1(), (4, 4))
    observable = wilson_loops(space, 2, 2)
    with torch.inference_mode():
        observable(space.cold(1))
    links = space.cold(1).requires_grad_()
    observable(links).sum().backward()
    assert (links.grad == 0).all()
