"""Wilson loops of all sizes: each of them against the loop on its own, planes of time, and the area law."""

import itertools

import pytest
import torch

from lattice_flows import SU, U1, fields
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.measurement import estimate, exact_value, wilson_loop, wilson_loops
from lattice_flows.sampling.two_dimensions import exact_samples
from lattice_flows.testing import assert_gauge_invariant

# extents with the largest R and T
CASES = [((4, 6), 2, 3), ((5, 4), 3, 3), ((4, 3, 5), 2, 1), ((3, 4, 3, 3), 2, 2)]
everywhere = pytest.mark.parametrize(("sites", "r", "t"), CASES, ids=str)
by_group = pytest.mark.parametrize("group", [U1(), SU(2), SU(3), SU(4)], ids=str)


def haar(group, sites, *batch, dtype=torch.float64):
    return group.haar(*batch, len(sites), *sites, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=str)
@everywhere
@by_group
def test_every_loop(group, sites, r, t, dtype, atol):
    links = haar(group, sites, 2, 1, dtype=dtype)
    loops = wilson_loops(group, r, t, dim=len(sites))(links)
    assert (loops.shape, loops.dtype) == ((2, 1, r, t), dtype)
    for a, b in itertools.product(range(r), range(t)):
        alone = wilson_loop(group, a + 1, b + 1, dim=len(sites))(links)
        torch.testing.assert_close(loops[..., a, b], alone, rtol=0, atol=atol)


@everywhere
@by_group
def test_along_time(group, sites, r, t):
    """T may be longer than the other extents allow, and the other directions turn up in R alone."""
    links = haar(group, sites, 2)
    d = len(sites)
    for time in range(d):
        longest = sites[time] - 1
        loops = wilson_loops(group, 2, longest, time=time, dim=d)(links)
        assert loops.shape == (2, 2, longest)
        torch.testing.assert_close(wilson_loops(group, 2, longest, time=time - d, dim=d)(links), loops)
        for a, b in itertools.product((1, 2), (1, longest)):
            paths = [fields.rectangle(mu, a, time, b) for mu in range(d) if mu != time]
            traces = [group.retrace(fields.closed_path(links, path, group, dim=d)).flatten(1).mean(1) for path in paths]
            torch.testing.assert_close(loops[:, a - 1, b - 1], torch.stack(traces).mean(0), rtol=0, atol=1e-13)


@everywhere
@by_group
def test_gauge_invariant(group, sites, r, t, generator):
    links = haar(group, sites)
    assert_gauge_invariant(wilson_loops(group, r, t, dim=len(sites)), links, group, generator=generator, dim=len(sites))


@by_group
def test_gradient(group):
    links = haar(group, (4, 3, 4)).requires_grad_()
    loops, alone = wilson_loops(group, 2, 1)(links)[1, 0], wilson_loop(group, 2, 1)(links)
    gradients = [torch.autograd.grad(value, links)[0] for value in (loops, alone)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


def test_area_law():
    """Independent samples of U(1) in two dimensions, where every loop is known."""
    group, beta, sites = U1(), 2.0, (5, 6)
    links = exact_samples(Wilson(group, beta), sites, 4000, generator=torch.Generator().manual_seed(1))
    loops = wilson_loops(group, 3, 4)(links)
    for a, b in itertools.product(range(1, 4), range(1, 5)):
        result = estimate(loops[:, a - 1, b - 1])
        expected = exact_value(f"wilson_loop_{a}x{b}", group, beta, sites)
        assert abs(result.value - expected) < 4 * result.error, (a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda links: wilson_loops(U1(), 0, 1), "sides of Wilson loops must be >= 1, got 0 x 1"),
        (lambda links: wilson_loops(U1(), 4, 1)(links), "4 x 1 Wilson loops need larger extents"),
        (lambda links: wilson_loops(U1(), 1, 4)(links), "1 x 4 Wilson loops need larger extents"),
        (lambda links: wilson_loops(U1(), 4, 1, time=1)(links), "4 x 1 Wilson loops need larger extents"),
        (lambda links: wilson_loops(U1(), 1, 1, time=2)(links), "time must be a direction from -2 to 1"),
        (lambda links: wilson_loops(SU(2), 1, 1)(links), r"SU\(2\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InvalidInput, match=message):
        call(haar(U1(), (4, 6)))
