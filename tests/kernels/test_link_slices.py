"""Products of loops in time slices: against the reference, at rest, and what a chain depends on."""

import pytest
import torch
from op_laws import poisoned  # noqa: F401

from lattice_flows import SU, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_slices import KINDS, link_slices
from lattice_flows.kernels.link_sweeps import sublattices

CASES = [
    (SU(2), (4, 4, 12), torch.float64),
    (SU(2), (4, 4, 4, 4), torch.float32),
    (SU(3), (8, 4, 4), torch.float32),
    (SU(3), (4, 4, 5, 8), torch.float64),
    (SU(3), (4, 4, 8, 3), torch.float64),  # time is not cut
    (SU(4), (4, 4, 8), torch.float64),
]
by_case = pytest.mark.parametrize(("group", "extents", "dtype"), CASES, ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")


def fields(group, extents, dtype, chains, generator):
    """Links and a tangent field."""
    space = GaugeField(group, extents)
    tangents = space.random_tangents(chains, *space.axes, generator=generator, dtype=dtype)
    return space.prior(chains, generator, dtype=dtype), tangents


@by_case
def test_agrees_with_the_reference(group, extents, dtype, generator, monkeypatch):
    given = fields(group, extents, dtype, 2, generator)
    before = [own.clone() for own in given]
    assert sublattices(extents)
    found = link_slices(*given, extents)
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        expected = link_slices(*given, extents)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=10 * torch.finfo(dtype).eps * given[0].numel())
    assert all(torch.equal(own, old) for own, old in zip(given, before, strict=True))


@by_case
def test_links_at_rest(group, extents, dtype):
    """All loops are 1: values count them, and no derivative is left."""
    space, n = GaugeField(group, extents), group.n
    cold = space.cold(1, dtype=dtype)
    found = link_slices(cold, torch.zeros_like(cold), extents)
    assert not found.slopes.any()
    directions, sites = space.dim - 1, space.volume // extents[-1]
    planes = directions * (directions - 1) // 2
    across = 2 * directions * (directions - 1)  # a link and a plaquette in space, on either side
    bent = {3: 4 * 3 if directions == 3 else 0, 2: 0}[directions]
    counts = [planes, 2 * planes, bent, directions, directions, across, across, directions, 4 * planes]
    for kind, count, value in zip(KINDS, counts, found.values[0, 0].tolist(), strict=True):
        assert value == pytest.approx([count * sites * own for own in (n, n, n**2, n**2)], rel=1e-5), kind


@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=str)
def test_a_chain_depends_on_itself_alone(case, generator):
    """To the last bit: not on the chains beside it, nor on the number of threads, nor on tangents in time."""
    group, extents, dtype = case
    links, tangents = fields(group, extents, dtype, 3, generator)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = link_slices(links, tangents, extents)
        torch.set_num_threads(2)
        threaded = link_slices(links, tangents, extents)
        tangents[:, -1] = 0
        second = link_slices(links[1:2], tangents[1:2], extents)
    finally:
        torch.set_num_threads(threads)
    for chains, in_threads, alone in zip(whole, threaded, second, strict=True):
        assert torch.equal(chains, in_threads)
        assert torch.equal(chains[1:2], alone)


def test_strides_and_no_chains(generator):
    links, tangents = fields(SU(3), (4, 4, 4), torch.float64, 4, generator)
    found = link_slices(links.mH[::2], tangents[::2], (4, 4, 4))
    expected = link_slices(links[::2].mH.clone(), tangents[::2].clone(), (4, 4, 4))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert link_slices(links[:0], tangents[:0], (4, 4, 4)).slopes.shape == (0, 4, 14, 4)


def test_there_is_no_derivative(generator):
    links, tangents = fields(SU(2), (4, 4, 4), torch.float64, 1, generator)
    with pytest.raises(NotImplementedError, match="has no derivative"):
        link_slices(links.requires_grad_(), tangents, (4, 4, 4)).values.sum().backward()


def test_bad_input(generator):
    links, tangents = fields(SU(2), (4, 4, 4), torch.float64, 1, generator)
    for bad in (links[..., :1], links[:, :2], links.real):
        with pytest.raises(InvalidInput, match="links and tangents must be complex"):
            link_slices(bad, tangents, (4, 4, 4))
    for bad in (tangents[..., :1], tangents.to(torch.complex64)):
        with pytest.raises(InvalidInput, match="links and tangents must be complex"):
            link_slices(links, bad, (4, 4, 4))
    with pytest.raises(InvalidInput, match="of extents >= 2"):
        link_slices(links[..., :1, :, :], tangents[..., :1, :, :], (4, 4, 1))
    with pytest.raises(InvalidInput, match="three directions or more"):
        link_slices(links[:, :2, 0], tangents[:, :2, 0], (4, 4))
