"""Affine couplings and the free field: the laws of transforms, the symmetry, what is frozen, and the exact spectrum."""

import math

import pytest
import torch

from lattice_flows import ScalarField
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.flows.coupling_flows import AFFINE, AffineSettings, affine
from lattice_flows.layers.affine import RANGE, AffineCoupling, FreeField
from lattice_flows.testing import assert_invertible, assert_logdet

LATTICES = [(4, 6), (5, 4), (4, 2, 6), (3, 2, 5), (2, 4, 2, 4)]


def coupling(lattice, colour=0, seed=0, dtype=torch.float64, **settings):
    """A coupling far from the identity."""
    torch.manual_seed(seed)
    layer = AffineCoupling(lattice, colour, **{"hidden": (5, 4), "kernel_size": 3} | settings)
    torch.nn.init.normal_(layer.scale.bias)
    for head in (layer.shift, layer.scale):
        torch.nn.init.normal_(head.weight)
    return layer.to(dtype)


def free_field(lattice, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layer = FreeField(lattice)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.to(dtype)


LAYERS = {"affine": coupling, "free field": free_field}


def field(lattice, n=3, seed=1, dtype=torch.float64):
    return ScalarField(lattice).prior(n, torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_laws_of_transforms(lattice, make):
    layer, phi = make(lattice), field(lattice)
    assert_invertible(layer, phi, ScalarField(lattice))
    assert_logdet(layer, phi[0], ScalarField(lattice))
    y, logdet = layer(phi)
    mirrored, same = layer(-phi)
    assert torch.equal(mirrored, -y)
    assert torch.equal(same, logdet)
    one, one_logdet = layer(phi[:1].unsqueeze(0))
    torch.testing.assert_close(one[0], y[:1])
    assert one_logdet.shape == (1, 1)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_single_precision(make):
    layer, phi = make((6, 6), dtype=torch.float32), field((6, 6), dtype=torch.float32)
    y, logdet = layer(phi)
    assert y.dtype == logdet.dtype == torch.float32
    assert_invertible(layer, phi, ScalarField((6, 6)), atol=1e-4)


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_frozen_sites_stay_and_active_ones_do_not_matter(lattice):
    """Only one colour moves; s and t depend on frozen sites within the kernel alone."""
    space = ScalarField(lattice)
    colours = space.lattice.colours()
    for colour in range(int(colours.max()) + 1):
        layer, phi = coupling(lattice, colour), field(lattice)
        moved = (layer(phi)[0] - phi).flatten(1).abs().amax(0) > 0
        assert torch.equal(moved, colours == colour)
        other = space.flatten(phi).clone()
        other[:, colours == colour] = 7.0
        for a, b in zip(layer._parts(phi)[1:], layer._parts(other.reshape(phi.shape))[1:], strict=True):
            assert torch.equal(a, b)


def test_the_kernel_has_its_size():
    layer, phi = coupling((10, 10), kernel_size=5), field((10, 10), n=1)
    where = layer.active[0].item()  # the corner
    phi.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(phi)[0].flatten()[where], phi)
    seen = {tuple((site + 5) % 10 - 5 for site in place) for place in gradient[0].nonzero().tolist()}
    assert seen == {(0, 0)} | {(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i + j) % 2}


def test_it_commutes_with_translations_of_its_colours():
    layer, phi = coupling((6, 8)), field((6, 8))
    torch.testing.assert_close(layer(phi.roll((1, 1), (1, 2)))[0], layer(phi)[0].roll((1, 1), (1, 2)))


def test_s_is_bounded():
    layer = coupling((4, 4))
    torch.nn.init.constant_(layer.scale.bias, 1e3)
    _, logdet = layer(field((4, 4)))
    assert (logdet <= 8 * RANGE + 1e-9).all()


def test_spectrum_of_a_free_field():
    """Plane waves are scaled by exp(s(k)), with the propagator 1 / (k^2 + M^2) at c = 0."""
    layer = FreeField((6, 4)).double()
    mass = math.log1p(math.exp(layer.mass.item()))
    x, t = torch.meshgrid(torch.arange(6.0), torch.arange(4.0), indexing="ij")
    for k, q in ((0, 0), (1, 0), (2, 1), (3, 2)):
        wave = (2 * math.pi * (k * x / 6 + q * t / 4)).cos().double()
        squared = 4 * math.sin(math.pi * k / 6) ** 2 + 4 * math.sin(math.pi * q / 4) ** 2
        torch.testing.assert_close(layer(wave)[0], wave / (squared + mass) ** 0.5)


def test_refusals():
    for make, words in (
        (lambda: AffineCoupling((4, 4), colour=2), "colours of 4x4 are 0 to 1, got 2"),
        (lambda: AffineCoupling((4, 4), colour=0, hidden=()), "hidden channels >= 1"),
        (lambda: AffineCoupling((4, 4), colour=0, kernel_size=4), "kernel_size must be odd and >= 3, got 4"),
        (lambda: FreeField((4, 4), order=-1), "order must be an integer >= 0, got -1"),
        (lambda: coupling((4, 4))(torch.zeros(4, 6)), r"holds real tensors \(\*batch, 4, 4\)"),
        (lambda: free_field((4, 4))(torch.zeros(4, 4, dtype=torch.complex64)), "holds real tensors"),
        (lambda: affine((4, 4), layers=0), "layers must be an integer >= 1, got 0"),
    ):
        with pytest.raises(InvalidInput, match=words):
            make()


@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_flow(lattice):
    flow = affine(lattice, layers=4, hidden=(4,), kernel_size=3, seed=0, dtype=torch.float64)
    phi, log_q = flow.sample(5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(flow.log_prob(phi), log_q)
    torch.testing.assert_close(flow.log_prob(-phi), log_q)
    moved = flow(field(lattice))[0] != FreeField(lattice).double()(field(lattice))[0]
    assert moved.all()


def test_density_is_normalised():
    """E_q[r / q] = 1 for any density r with lighter tails: here a narrow normal."""
    flow = affine((2, 2), layers=2, hidden=(4,), kernel_size=3, seed=0, dtype=torch.float64)
    phi, log_q = flow.sample(200_000, generator=torch.Generator().manual_seed(0))
    weight = (flow.space.log_prior(phi / 0.4) - 4 * math.log(0.4) - log_q).exp()
    assert abs(weight.mean() - 1) < 4 * weight.std() / len(weight) ** 0.5
    assert weight.std() < 3


def test_on_other_lattices():
    """The same parameters act on other extents, and a wave that fits both is moved alike."""
    flow = affine((4, 4), layers=4, hidden=(4,), seed=0, dtype=torch.float64)
    tiled = field((4, 4)).repeat(1, 2, 1)
    larger = flow.on((8, 4))
    assert larger.space == ScalarField((8, 4))
    torch.testing.assert_close(larger(tiled)[0], flow(tiled[:, :4])[0].repeat(1, 2, 1))
    with pytest.raises(InvalidInput, match="2 colours in turn does not fit 5x4"):
        flow.on((5, 4))
    with pytest.raises(InvalidInput, match="parameters on 4x4 do not fit the layers on 4x4x4"):
        flow.on((4, 4, 4))


def test_recipe():
    flow = AFFINE.build(ScalarField((4, 4)), AffineSettings(layers=3, hidden=(4,)), None, seed=1, dtype=torch.float64)
    assert isinstance(flow, Flow)
    assert len(flow.layers) == 4
    assert AFFINE.suits("scalar", 3)
    assert not AFFINE.suits("gauge", 3)
    again = affine((4, 4), layers=3, hidden=(4,), seed=1, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(flow.parameters(), again.parameters(), strict=True))
    with pytest.raises(InvalidInput, match="kernel_size must be odd and >= 3, got 2"):
        AffineSettings(kernel_size=2)
