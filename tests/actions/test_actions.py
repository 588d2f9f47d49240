"""Actions: values, symmetry and force, in every dimension and for every group."""

import itertools

import cases
import pytest
import torch

from lattice_flows import SU, U1, actions
from lattice_flows.actions import LoopAction, Wilson
from lattice_flows.actions.base import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.testing import assert_force, assert_gauge_invariant

everywhere = pytest.mark.parametrize(
    ("group", "sites"),
    list(itertools.product(cases.GROUPS, cases.SITES)),
    ids=cases.names(itertools.product(cases.GROUPS, cases.SITES)),
)
by_name = pytest.mark.parametrize("name", cases.ACTION_NAMES)


@everywhere
@by_name
def test_laws(name, group, sites, generator):
    dim = len(sites)
    action = actions.build(name, group, 2.5, dim=dim)
    links = group.haar(2, dim, *sites, generator=generator, dtype=torch.float64)
    assert action(links).shape == (2,)
    assert_gauge_invariant(action, links, group, generator=generator, dim=dim)
    assert_force(action, links, group, atol=1e-10)
    torch.testing.assert_close(action.force(links), Action.force(action, links), atol=1e-10, rtol=0)


@everywhere
@by_name
def test_cold_value(name, group, sites):
    """On identity links every loop is 1, and c0 + 8 c1 = 1 leaves -beta times the number of plaquettes, but that each
    plane has two kinds of rectangles: -beta (c0 + 2 c1)."""
    dim = len(sites)
    action = actions.build(name, group, 1.5, dim=dim)
    planes = dim * (dim - 1) / 2
    volume = torch.tensor(sites).prod()
    expected = -1.5 * planes * volume * (1 - 6 * action.c1)
    value = action(group.identity(dim, *sites, dtype=torch.float64))
    torch.testing.assert_close(value, expected.double())


def test_wilson_of_one_plane():
    """A constant angle a on every link along 0, growing with x1, gives plaquettes of that slope."""
    links = torch.zeros(2, 4, 8, dtype=torch.float64)
    links[0] = 2 * torch.pi / 8 * torch.arange(8)
    plaquette = 2 * torch.pi / 8
    expected = -3.0 * 32 * torch.tensor(plaquette, dtype=torch.float64).cos()
    torch.testing.assert_close(Wilson(U1(), 3.0)(links), expected)


def test_improvement_coefficients():
    assert actions.build("symanzik", SU(3), 1.0).c1 == pytest.approx(-1 / 12)
    assert actions.build("iwasaki", SU(3), 1.0).c1 == -0.331
    assert actions.build("dbw2", SU(3), 1.0).c1 == -1.4088
    assert actions.build("wilson", SU(3), 1.0).c1 == 0


def test_tree_level_improvement_cancels_the_leading_lattice_artefact():
    """In a weak constant field of flux f per plaquette S = -(beta / N) sum Re tr: 1 - cos f = f^2/2 - f^4/24. Smooth
    fields of one Fourier mode show the O(a^2) term instead: doubling the wavelength must reduce its relative size by 4
    for Wilson, and by 16 for Symanzik."""

    def artefact(action, extent):
        x = torch.arange(extent, dtype=torch.float64)
        amplitude = 1e-3
        k = 2 * torch.pi / extent
        links = torch.zeros(2, extent, extent, dtype=torch.float64)
        links[0] = amplitude * torch.sin(k * x)
        cold = action(torch.zeros_like(links))
        lattice = (action(links) - cold).item()
        # the continuum action (beta / 2) sum F^2, F = dA/dx
        continuum = 0.5 * amplitude**2 * k**2 * (torch.cos(k * x) ** 2).sum().item() * extent
        return lattice / continuum - 1

    ratio = {
        c1: artefact(LoopAction(U1(), 1.0, c1), 16) / artefact(LoopAction(U1(), 1.0, c1), 32) for c1 in (0.0, -1 / 12)
    }
    assert ratio[0.0] == pytest.approx(4, rel=0.05)
    assert ratio[-1 / 12] == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), float("inf"), "2", True])
def test_bad_beta(beta):
    with pytest.raises(InvalidInput, match="beta must be"):
        Wilson(SU(2), beta)


def test_unknown_action():
    with pytest.raises(InvalidInput, match="available: wilson, symanzik, iwasaki, dbw2"):
        actions.build("clover", SU(3), 1.0)
