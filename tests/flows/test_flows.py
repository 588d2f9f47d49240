"""Laws of whole flows, and what a flow says of itself."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, flows
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow, HaarPrior
from lattice_flows.testing import assert_gauge_equivariant, assert_invertible, assert_logdet, distance

everywhere = pytest.mark.parametrize(
    ("group", "sites"),
    list(itertools.product(cases.GROUPS, [(4, 6), (6, 10), (4, 2, 4), (2, 4, 2, 4)])),
    ids=lambda case: str(case),
)


@everywhere
def test_laws(group, sites, generator):
    flow = cases.flow(group, sites, layers=6, dtype=torch.float64)
    dim = len(sites)
    links = group.haar(4, dim, *sites, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        assert_invertible(flow, links, group, atol=1e-9)
        assert_gauge_equivariant(flow, links, group, atol=1e-9, generator=generator, dim=dim)
        y, log_q = flow.sample(5, generator=generator)
        assert y.shape == (5, dim, *sites, *group.element_shape)
        torch.testing.assert_close(flow.log_prob(y), log_q, atol=1e-9, rtol=0)
    assert group.defect(y).max() < 1e-12


@pytest.mark.parametrize("group", [U1(), SU(2), SU(3)], ids=str)
def test_logdet_is_that_of_the_jacobian(group, generator):
    flow = (
        cases.flow(group, (2, 4) if group != U1() else (3, 4), layers=5, dtype=torch.float64) if group == U1() else None
    )
    flow = flow or Flow(HaarPrior(group, (3, 3)), [*cases.flow(group, (3, 3), layers=5, dtype=torch.float64).layers])
    links = group.haar(2, *flow.sites, generator=generator, dtype=torch.float64)
    assert_logdet(flow, links, group)


def test_density_is_normalised(generator):
    """The mean of q under the Haar measure is 1: q is a probability density, not only a number that training likes."""
    for group in (U1(), SU(2)):
        flow = cases.flow(group, (3, 3), layers=2, dtype=torch.float64)
        links = group.haar(40_000, 2, 3, 3, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            q = flow.log_prob(links).exp()
        assert q.std() > 0.02
        assert (q.mean() - 1).abs() < 4 * q.std() / len(q) ** 0.5


def test_seed_makes_the_weights_and_leaves_the_global_stream():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (flows.stripes(SU(2), (4, 4), layers=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_sampling_is_reproducible_and_carries_gradients_only_when_asked(generator):
    flow = flows.stripes(SU(2), (4, 4), layers=2, seed=0)
    twice = [flow.sample(3, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(twice[0].links, twice[1].links)
    assert not flow.sample(3, generator=generator).links.requires_grad
    assert flow.push(flow.draw(3, generator)).links.requires_grad


def test_first_sweep_moves_every_link(generator):
    """Eight layers on multiples of four; as many as there are offsets and directions elsewhere."""
    for sites, layers in (((8, 8), 8), ((6, 10), 8), ((4, 4, 6), 6)):
        flow = cases.flow(U1(), sites, layers=layers)
        x = U1().haar(1, len(sites), *sites, generator=generator)
        y, _ = flow(x)
        assert (distance(x, y, U1()) > 0).all()


def test_a_flow_describes_itself():
    flow = flows.stripes(SU(3), (8, 8), layers=4, seed=0)
    assert flow.n_parameters == sum(p.numel() for p in flow.parameters())
    assert str(flow) == (
        "Flow: SU(3) on 8x8, 4 layers (GaugeCoupling with SpectralMap(SU(3), bins=8)), "
        f"{flow.n_parameters:,} parameters"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.stripes(U1(), (4, 4, 4)), "two dimensions"),
        (lambda: flows.checkerboard(U1(), (4, 4)), "3 or 4 dimensions"),
        (lambda: flows.stripes(U1(), (4, 2)), "too small"),
        (lambda: flows.stripes(U1(), (4, 4), layers=0), "layers"),
        (lambda: flows.stripes(U1(), (4, 4), hidden=(0,)), "hidden channels"),
        (lambda: flows.stripes(U1(), (4, 4), bins=0), "bins"),
        (lambda: flows.stripes(U1(), (4, 4), kernel_size=4), "odd"),
        (lambda: flows.build("pyramid", U1(), (4, 4)), "available: stripes, checkerboard"),
        (lambda: Flow(HaarPrior(U1(), (4, 4)), []), "at least one layer"),
    ],
)
def test_flows_that_cannot_be(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
