"""Smearing: covariance, membership, symmetry, limits, and each formula written out with shifted fields."""

import itertools

import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import gauge_transform
from lattice_flows.observables import (
    Smearing,
    ape_smear,
    average_plaquette,
    hyp_smear,
    space_like_plaquette,
    stout_smear,
)

SPACES = [GaugeField(group, extents) for group in (U1(), SU(2), SU(3)) for extents in ((4, 3), (3, 2, 4), (2, 3, 2, 3))]
TEXTS = ["ape:alpha=0.6,steps=2", "ape:alpha=0.6,spatial", "hyp", "hyp:steps=2,spatial", "stout:rho=0.1,steps=3"]
CASES = [(space, text) for space in SPACES for text in TEXTS if not ("spatial" in text and space.dim == 2)]
by_case = pytest.mark.parametrize(("space", "text"), CASES, ids=str)


def haar(space, *batch, seed=0):
    return space.group.haar(*batch, *space.axes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(a, b, space, atol=1e-10):
    assert space.distance(a, b).max() < atol


@by_case
def test_covariant_in_the_group_and_batched(space, text):
    links, smear = haar(space, 2, 2), Smearing.parse(text)
    generator = torch.Generator().manual_seed(1)
    V = space.group.haar(2, 2, *space.lattice.extents, generator=generator, dtype=torch.float64)
    smeared = smear(links, space)
    assert smeared.shape == links.shape
    assert smeared.dtype == links.dtype
    assert space.group.defect(smeared).max() < 1e-12
    near(smear(gauge_transform(links, V, space), space), gauge_transform(smeared, V, space), space, 1e-8)
    near(smear(links[1, 0], space), smeared[1, 0], space)


@by_case
def test_constant_commuting_links_are_fixed(space, text):
    """All plaquettes are 1, but Polyakov loops are not."""
    step = space.group.random_algebra(1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    links = torch.stack([space.group.exp(step * (mu + 1) / 3) for mu in range(space.dim)])
    links = links.reshape(space.dim, *[1] * space.dim, *space.group.element_shape).expand(*space.shape).clone()
    near(Smearing.parse(text)(links, space), links, space)


@by_case
def test_plaquettes_come_closer_to_1(space, text):
    links, average = haar(space, 8), space_like_plaquette(space) if "spatial" in text else average_plaquette(space)
    assert average(Smearing.parse(text)(links, space)).mean() > average(links).mean() + 0.1


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_no_weight_no_change(space):
    links = haar(space, 2)
    for smeared in (
        ape_smear(links, space, 0.0, steps=2),
        hyp_smear(links, space, [0.0] * (space.dim - 1)),
        stout_smear(links, space, 0.0),
        ape_smear(links, space, 0.5, steps=0),
    ):
        near(smeared, links, space, 1e-13)


def shifted(field, nu, steps, space):
    """The loop field at x + steps nu."""
    return field.roll(-steps, nu - space.dim - len(space.group.element_shape))


def staples_by_hand(side, middle, mu, nu, space):
    """The two staples of U_mu(x) through nu, each from x to x + mu, from fields of their links."""
    group = space.group
    above = group.compose(side, shifted(middle, nu, 1, space))
    above = group.compose(above, group.inverse(shifted(side, mu, 1, space)))
    below = group.compose(group.inverse(side), middle)
    return above, shifted(group.compose(below, shifted(side, mu, 1, space)), nu, -1, space)


def mixed_by_hand(link, staples, alpha, space):
    """The projection by another decomposition; that of U(1) and SU(2) is a normalisation."""
    group = space.group
    if group.abelian:
        total = (1 - alpha) * torch.exp(1j * link) + alpha * torch.stack([torch.exp(1j * s) for s in staples]).mean(0)
        return total.angle()
    total = (1 - alpha) * link + alpha * torch.stack(staples).mean(0)
    values, frame = torch.linalg.eigh(total.mH @ total)
    unitary = total @ (frame * values.rsqrt().unsqueeze(-2)) @ frame.mH
    return unitary * torch.exp(-1j * torch.linalg.det(unitary).angle() / group.n)[..., None, None]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_ape_by_hand(space):
    links = haar(space)
    expected = []
    for mu in range(space.dim):
        pairs = [staples_by_hand(links[nu], links[mu], mu, nu, space) for nu in range(space.dim) if nu != mu]
        expected.append(mixed_by_hand(links[mu], list(itertools.chain(*pairs)), 0.7, space))
    near(ape_smear(links, space, 0.7), torch.stack(expected), space)


@pytest.mark.parametrize("space", [space for space in SPACES if space.dim == 4], ids=str)
def test_hyp_by_hand(space):
    """The three equations of the paper, with their own weights 1/6, 1/4 and 1/2."""
    links, (a1, a2, a3) = haar(space), (0.75, 0.6, 0.3)
    every = set(range(4))

    def inner(mu, nu, rho):
        (eta,) = every - {mu, nu, rho}
        return mixed_by_hand(links[mu], staples_by_hand(links[eta], links[mu], mu, eta, space), a3, space)

    def middle(mu, nu):
        pairs = [
            staples_by_hand(inner(rho, nu, mu), inner(mu, rho, nu), mu, rho, space) for rho in sorted(every - {mu, nu})
        ]
        return mixed_by_hand(links[mu], list(itertools.chain(*pairs)), a2, space)

    def outer(mu):
        pairs = [staples_by_hand(middle(nu, mu), middle(mu, nu), mu, nu, space) for nu in sorted(every - {mu})]
        return mixed_by_hand(links[mu], list(itertools.chain(*pairs)), a1, space)

    near(hyp_smear(links, space), torch.stack([outer(mu) for mu in range(4)]), space)


def test_hyp_in_two_dimensions_is_ape_and_in_three_that_of_a_slice():
    space = GaugeField(SU(3), (4, 3))
    near(hyp_smear(haar(space), space), ape_smear(haar(space), space, 0.3), space)
    space, slices = GaugeField(SU(3), (3, 2, 2, 3)), GaugeField(SU(3), (3, 2, 2))
    links = haar(space)
    smeared = Smearing.parse("hyp:spatial")(links, space)
    for t in range(3):
        near(smeared[:3, :, :, :, t], hyp_smear(links[:3, :, :, :, t], slices), slices)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_stout_is_a_step_of_the_wilson_flow(space):
    links = haar(space, 2)
    force = Wilson(space, space.group.bare_coupling).force(links)
    near(stout_smear(links, space, 0.13), space.move(links, -0.13 * force), space, 1e-12)


@pytest.mark.parametrize("text", ["ape:alpha=0.5,spatial", "hyp:spatial", "stout:rho=0.1,spatial"])
def test_spatial_smearing_stays_in_its_slice(text):
    space, smear = GaugeField(SU(2), (3, 2, 3, 4)), Smearing.parse(text)
    links, other = haar(space), haar(space, seed=3)
    smeared = smear(links, space)
    assert torch.equal(smeared[3], links[3])
    changed = links.clone()
    changed[3], changed[:, :, :, :, 2:] = other[3], other[:, :, :, :, 2:]
    near(smear(changed, space)[:3, :, :, :, :2], smeared[:3, :, :, :, :2], GaugeField(SU(2), (3, 2, 3, 2)))


@pytest.mark.parametrize("text", ["ape:alpha=0.5", "hyp", "stout:rho=0.1"])
def test_cubic_symmetry(text):
    """Smearing commutes with an exchange of directions and with a reflection of one."""
    smear = Smearing.parse(text)
    space, turned = GaugeField(SU(3), (2, 3, 4)), GaugeField(SU(3), (4, 2, 3))
    links = haar(space)

    def turn(x):
        return x.permute(0, 3, 1, 2, 4, 5)[[2, 0, 1]].contiguous()

    def mirror(x):
        x = x.flip(1)
        return torch.cat((shifted(x[:1], 0, 1, space).mH, x[1:]))

    near(smear(turn(links), turned), turn(smear(links, space)), turned)
    near(smear(mirror(links), space), mirror(smear(links, space)), space)


@pytest.mark.parametrize(
    "text", ["ape", "ape:alpha=1/2", "ape:rho=1", "hyp:alpha=x", "stout", "stout:rho=0.1,steps=a", "gauss:rho=1", ""]
)
def test_words_that_are_no_smearing(text):
    with pytest.raises(InvalidInput, match=r"a smearing such as ape:alpha=0.5,steps=20 .* got "):
        Smearing.parse(text)


@pytest.mark.parametrize("text", ["ape:alpha=0.5,steps=1", "hyp:steps=2,spatial", "hyp:alpha=0.75/0.6/0.3,steps=1"])
def test_words_of_a_smearing(text):
    assert str(Smearing.parse(text)) == text
    assert Smearing.parse(text) == Smearing.parse(str(Smearing.parse(text)))


SPACE = GaugeField(U1(), (4, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ape_smear(x, SPACE, 1.1), "alpha of staples must be >= 0 and < 1, got 1.1"),
        (lambda x: ape_smear(x, SPACE, float("nan")), ">= 0 and < 1, got nan"),
        (lambda x: stout_smear(x, SPACE, -0.1), "rho of stout smearing must be a finite number >= 0, got -0.1"),
        (lambda x: stout_smear(x, SPACE, 0.1, steps=-1), "a number of steps >= 0, got -1"),
        (lambda x: stout_smear(x, SPACE, 0.1, directions=[0]), r"two or more of the directions 0 ... 1, got \[0\]"),
        (lambda x: stout_smear(x, SPACE, 0.1, directions=[0, 2]), r"got \[0, 2\]"),
        (lambda x: Smearing.parse("hyp:spatial")(x, SPACE), r"two or more of the directions 0 ... 1, got \[0\]"),
        (lambda x: Smearing("ape", ()), r"one weight, hyp has several, got ape of \(\)"),
        (lambda x: hyp_smear(x, SPACE, (0.5, 0.5)), r"in 2 directions has 1 weights, got \[0.5, 0.5\]"),
        (lambda x: ape_smear(x[..., 1:], SPACE, 0.5), "holds real tensors"),
        (lambda x: ape_smear(x, ScalarField((4, 4)), 0.5), "space of links"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InvalidInput, match=message):
        call(SPACE.cold(1))
