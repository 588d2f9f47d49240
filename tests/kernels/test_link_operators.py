"""Sums of loop operators in one call: against the reference, and what a chain depends on."""

import pytest
import torch
from op_laws import assert_same_bits_on_avx2, poisoned  # noqa: F401

from lattice_flows import SU, U1, GaugeField
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels import build
from lattice_flows.kernels.link_operators import OPERATORS, available, link_operators, link_steps

CASES = [
    (U1(), (4, 4, 8), torch.float64),
    (SU(2), (6, 4, 4, 4), torch.float64),
    (SU(3), (8, 12), torch.float64),
    (SU(3), (3, 16, 6), torch.float32),
    (SU(3), (4, 2, 4, 8), torch.float64),
    (SU(3), (4, 4, 4, 4), torch.float32),
    (SU(4), (12, 8), torch.float64),
    (SU(3), (4, 4, 4), torch.float32),  # two chains in the lanes of a field
    (SU(4), (6, 4), torch.float64),  # four
    (U1(), (5, 3), torch.float64),  # sixteen
]
by_case = pytest.mark.parametrize(("group", "extents", "dtype"), CASES, ids=str)
pytestmark = pytest.mark.usefixtures("poisoned")


def weights_of(chains, n, generator):
    return torch.randn(chains, n, generator=generator, dtype=torch.float64)


@by_case
@pytest.mark.parametrize("n", [1, OPERATORS])
def test_agrees_with_the_reference(group, extents, dtype, n, generator, monkeypatch):
    links = GaugeField(group, extents).prior(3, generator, dtype=dtype)
    weights, before = weights_of(3, n, generator), links.clone()
    assert available(extents, group.n, links)
    found = link_operators(links, extents, weights)
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        expected = link_operators(links, extents, weights)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.force, expected.force, rtol=0, atol=1000 * eps)
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=10 * eps * links.numel())
    assert found.force.dtype == links.dtype
    assert torch.equal(links, before)


@by_case
@pytest.mark.parametrize("n", [1, OPERATORS])
def test_a_step_agrees_with_the_reference(group, extents, dtype, n, generator, monkeypatch):
    """And is that of the forces."""
    space = GaugeField(group, extents)
    links = space.prior(2, generator, dtype=dtype)
    ahead, weights = 0.1 * weights_of(2, 1, generator), 0.02 * weights_of(2, n, generator)
    found = link_steps(links, extents, ahead, weights)
    with monkeypatch.context() as patch:
        patch.setattr(build, "native", lambda *_: None)
        expected = link_steps(links, extents, ahead, weights)
    middle = space.move(links, link_operators(links, extents, ahead).force)
    there = link_operators(middle, extents, weights)
    eps = torch.finfo(dtype).eps
    for other in (expected, (space.move(links, there.force), there.values)):
        assert space.distance(found.links, other[0]).max() < 300 * eps
        torch.testing.assert_close(found.values, other[1], rtol=0, atol=10 * eps * links.numel())
    assert space.distance(found.links, space.restore(found.links)).max() < 10 * eps


@pytest.mark.parametrize("n", [1, OPERATORS])
def test_a_step_of_euler(n, generator):
    """Without a way to the midpoint."""
    space = GaugeField(SU(3), (4, 4, 8))
    links = space.prior(2, generator, dtype=torch.float64)
    weights = 0.02 * weights_of(2, n, generator)
    found = link_steps(links, (4, 4, 8), torch.zeros(2, 1, dtype=torch.float64), weights)
    expected = link_operators(links, (4, 4, 8), weights)
    assert space.distance(found.links, space.move(links, expected.force)).max() < 1e-13
    torch.testing.assert_close(found.values, expected.values)


@pytest.mark.parametrize("case", [CASES[4], CASES[5]], ids=str)
def test_the_first_operator_alone(case, generator):
    """As with zero weights for the others."""
    group, extents, dtype = case
    links = GaugeField(group, extents).prior(2, generator, dtype=dtype)
    weights = torch.zeros(2, OPERATORS, dtype=torch.float64)
    weights[:, 0] = torch.tensor([0.3, -1.0])
    alone, among = link_operators(links, extents, weights[:, :1]), link_operators(links, extents, weights)
    atol = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(alone.force, among.force, rtol=0, atol=atol)
    torch.testing.assert_close(alone.values, among.values[:, :1], rtol=0, atol=atol * links.numel())


@by_case
def test_links_at_rest(group, extents, dtype):
    """All loops are 1: values count them, and there is no force."""
    space = GaugeField(group, extents)
    found = link_operators(space.cold(2, dtype=dtype), extents, torch.ones(2, OPERATORS, dtype=torch.float64))
    dim, n = space.dim, group.n
    planes = dim * (dim - 1) // 2
    pairs = dim * (dim - 1) * (2 * dim - 3)  # of the 2 (dim - 1) plaquettes of each link
    counts = [planes * n, pairs * n, pairs * n, pairs * n**2, pairs * n**2, planes * n**2, planes * n, planes * n**2]
    expected = torch.tensor(counts, dtype=torch.float64).mul(space.volume).expand(2, -1)
    torch.testing.assert_close(found.values, expected, rtol=1e-6, atol=0)
    assert found.force.abs().max() < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("case", [CASES[1], *CASES[5:]], ids=str)
@pytest.mark.parametrize("n", [1, OPERATORS])
@pytest.mark.parametrize("op", [link_operators, lambda links, extents, w: link_steps(links, extents, w[:, :1] / 50, w)])
def test_a_chain_depends_on_itself_alone(case, n, op, generator):
    """To the last bit: not on the chains beside it or its place among them, nor on the number of threads."""
    group, extents, dtype = case
    if len(extents) == 4:
        extents = (8, 4, 6, 4)  # enough for threads to share a chain
    chains = 3 if len(extents) == 4 else 21
    links, threads = GaugeField(group, extents).prior(chains, generator, dtype=dtype), torch.get_num_threads()
    weights = weights_of(chains, n, generator)
    try:
        torch.set_num_threads(1)
        whole = op(links, extents, weights)
        torch.set_num_threads(2)
        threaded = op(links, extents, weights)
        second = op(links[1:2], extents, weights[1:2])
        reversed_ = op(links.flip(0), extents, weights.flip(0))
    finally:
        torch.set_num_threads(threads)
    for chains, in_threads, alone, backwards in zip(whole, threaded, second, reversed_, strict=True):
        assert torch.equal(chains, in_threads)
        assert torch.equal(chains[1:2], alone)
        assert torch.equal(chains, backwards.flip(0))


def test_strides(generator):
    """Links and weights that are views."""
    links = GaugeField(SU(3), (8, 8)).prior(4, generator, dtype=torch.float64)
    weights = weights_of(4, OPERATORS, generator)
    found = link_operators(links.mH[::2], (8, 8), weights[::2])
    expected = link_operators(links[::2].mH.clone(), (8, 8), weights[::2].clone())
    assert torch.equal(found.force, expected.force)
    assert torch.equal(found.values, expected.values)
    assert link_operators(links[:0], (8, 8), weights[:0]).values.shape == (0, OPERATORS)


BITS = """
import torch
from lattice_flows import SU, GaugeField
from lattice_flows.kernels.link_operators import link_operators, link_steps
for extents in ((4, 4, 8), (4, 4, 4, 8), (4, 4, 4)):
    links = GaugeField(SU(3), extents).prior(1, torch.Generator().manual_seed(1), dtype=torch.float32)
    for n in (1, 8):
        weights = torch.linspace(-1, 2, n, dtype=torch.float64)[None]
        for found in (link_operators(links, extents, weights), link_steps(links, extents, weights[:, :1], weights / 9)):
            print(*(own.numpy().tobytes().hex() for own in found))
"""


def test_no_bit_depends_on_the_width_of_vectors():
    assert_same_bits_on_avx2(BITS, 12)


def test_links_that_repeat(generator):
    """On a lattice of any extents and on one of several copies of it all is the same."""
    links = GaugeField(SU(3), (5, 3)).prior(1, generator, dtype=torch.float64)
    weights = weights_of(1, OPERATORS, generator)
    small, large = (link_operators(links.repeat(1, 1, k, k, 1, 1), (5 * k, 3 * k), weights) for k in (1, 8))
    torch.testing.assert_close(small.force.repeat(1, 1, 8, 8, 1, 1), large.force, rtol=0, atol=1e-12)
    torch.testing.assert_close(64 * small.values, large.values)


@pytest.mark.parametrize("extents", [(8, 8), (5, 5)], ids=str)
def test_there_is_no_derivative(extents, generator):
    links = GaugeField(SU(2), extents).prior(1, generator, dtype=torch.float64).requires_grad_()
    weights = weights_of(1, OPERATORS, generator)
    for found in (link_operators(links, extents, weights), link_steps(links, extents, weights[:, :1], weights)):
        with pytest.raises(NotImplementedError, match="has no derivative"):
            found.values.sum().backward()


def test_bad_input(generator):
    links, weights = GaugeField(SU(3), (8, 8)).prior(2, generator), weights_of(2, OPERATORS, generator)
    for bad in (links[..., :2], links[:, :1], links.real):
        with pytest.raises(InvalidInput, match="links must be"):
            link_operators(bad, (8, 8), weights)
    for bad in (weights[:, :2], weights[:1, :1], weights[:, :1].float()):
        with pytest.raises(InvalidInput, match=r"ahead must be float64 \(2, 1\)"):
            link_steps(links, (8, 8), bad, weights)
    for bad in (weights[:1], weights[:, :2], weights.float()):
        with pytest.raises(InvalidInput, match=r"weights must be float64 \(2, 1\) or \(2, 8\)"):
            link_operators(links, (8, 8), bad)
