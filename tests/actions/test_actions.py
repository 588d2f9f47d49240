"""Actions: values, symmetry and force, in every dimension and for every group."""

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import DBW2, Action, Iwasaki, LoopAction, Symanzik, Wilson
from lattice_flows.config.registry import ACTIONS
from lattice_flows.errors import InvalidInput
from lattice_flows.testing import assert_force, assert_gauge_invariant

everywhere = pytest.mark.parametrize("space", cases.GAUGE_FIELDS, ids=str)
by_kind = pytest.mark.parametrize("kind", [Wilson, Symanzik, Iwasaki, DBW2])


@everywhere
@by_kind
def test_laws(kind, space, generator):
    action = kind(space, 2.5)
    links = space.prior(2, generator, dtype=torch.float64)
    assert action(links).shape == (2,)
    assert_gauge_invariant(action, links, space, generator=generator)
    assert_force(action, links, atol=1e-10)
    torch.testing.assert_close(action.force(links), Action.force(action, links), atol=1e-10, rtol=0)


@everywhere
@by_kind
def test_cold_value(kind, space):
    """On identity links every loop is 1, and c0 + 8 c1 = 1 leaves -beta times the number of plaquettes, but that each
    plane has two kinds of rectangles: -beta (c0 + 2 c1)."""
    action = kind(space, 1.5)
    planes = space.dim * (space.dim - 1) / 2
    expected = torch.tensor([-1.5 * planes * space.volume * (1 - 6 * action.c1)], dtype=torch.float64)
    torch.testing.assert_close(action(space.cold(1, dtype=torch.float64)).double(), expected)


@by_kind
def test_another_coupling_and_another_lattice(kind, generator):
    """S is proportional to beta; the original action stays as it is."""
    space = GaugeField(SU(2), (4, 6))
    action, links = kind(space, 2.0), space.prior(3, generator, dtype=torch.float64)
    assert (action.at(3.0).beta, action.beta) == (3.0, 2.0)
    torch.testing.assert_close(action.at(3.0)(links), 1.5 * action(links))
    torch.testing.assert_close(action.at(3.0).force(links), 1.5 * action.force(links))
    assert action.at(0.0)(links).abs().max() == 0
    larger = action.on((4, 4, 6))
    assert isinstance(larger, kind)
    assert larger(larger.space.cold(1)) == kind(larger.space, 2.0)(larger.space.cold(1))
    assert action.refreshed(links, None) is action


def test_an_action_with_a_constant_and_a_fixed_coupling(generator):
    """`at` changes beta alone."""

    class Mixed(Wilson):
        def terms(self):
            return [*super().terms(), *Symanzik(self.space, 0.7).terms()]

        def forward(self, x):
            return super().forward(x) + 5.0

    space = GaugeField(U1(), (4, 4))
    action, links = Mixed(space, 1.0), space.prior(2, generator, dtype=torch.float64)
    fixed = Symanzik(space, 0.7)(links) + 5.0
    for beta in (0.0, 1.0, 2.5):
        expected = beta * Wilson(space, 1.0)(links) + fixed
        torch.testing.assert_close(action.at(beta)(links), expected)
        assert_force(action.at(beta), links, atol=1e-10)


def test_no_coupling_to_change():
    class Gaussian(Action):
        def forward(self, x):
            return x.square().flatten(1).sum(1)

    action = Gaussian(ScalarField((4, 4)))
    assert_force(action, torch.ones(2, 4, 4, dtype=torch.float64))
    with pytest.raises(InvalidInput, match="no coupling beta"):
        action.at(1.0)


def test_wilson_of_one_plane():
    """A constant angle a on every link along 0, growing with x1, gives plaquettes of that slope."""
    links = torch.zeros(2, 4, 8, dtype=torch.float64)
    links[0] = 2 * torch.pi / 8 * torch.arange(8)
    plaquette = 2 * torch.pi / 8
    expected = -3.0 * 32 * torch.tensor(plaquette, dtype=torch.float64).cos()
    torch.testing.assert_close(Wilson(GaugeField(U1(), (4, 8)), 3.0)(links), expected)


def test_improvement_coefficients():
    expected = {"wilson": 0, "symanzik": pytest.approx(-1 / 12), "iwasaki": -0.331, "dbw2": -1.4088}
    space = GaugeField(SU(3), (4, 4))
    for name, c1 in expected.items():
        entry = ACTIONS[name]
        assert entry.build(space, entry.settings(beta=1.0)).c1 == c1


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
        c1: artefact(LoopAction(GaugeField(U1(), (16, 16)), 1.0, c1), 16)
        / artefact(LoopAction(GaugeField(U1(), (32, 32)), 1.0, c1), 32)
        for c1 in (0.0, -1 / 12)
    }
    assert ratio[0.0] == pytest.approx(4, rel=0.05)
    assert ratio[-1 / 12] == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), float("inf"), "2", True])
def test_bad_beta(beta):
    with pytest.raises(InvalidInput, match="beta must be"):
        Wilson(GaugeField(SU(2), (4, 4)), beta)


def test_unknown_action():
    with pytest.raises(InvalidInput, match="available: wilson, symanzik, iwasaki, dbw2"):
        ACTIONS["clover"]


@by_kind
def test_a_group_is_no_space(kind):
    with pytest.raises(InvalidInput, match=r"such as GaugeField\(SU\(3\), \(8, 8\)\), got SU"):
        kind(SU(3), 6.0)


def test_another_action_has_no_local_updates_of_its_parent(generator):
    """A new S needs cells and conditionals of its own, wherever in the classes it stands."""

    class More:
        def forward(self, x):
            return super().forward(x) + x.square().flatten(1).sum(1)

    class Mixed(More, Wilson):
        pass

    class Same(Wilson):
        def force(self, x):
            return super().force(x)

    class Own(Mixed):
        def cells(self, device="cpu"):
            return Wilson(self.space, self.beta).cells(device)

        def conditional(self, flat, cell):
            return Wilson(self.space, self.beta).conditional(flat, cell)

    class Child(Own):
        pass

    space = GaugeField(U1(), (4, 4))
    flat = space.flatten(space.prior(2, generator))
    for kind in (Wilson, Same, Own, Child):
        action = kind(space, 1.0)
        assert action.conditional(flat, action.cells()[0]).strength == 1.0
    cell = Wilson(space, 1.0).cells()[0]
    for refused in (Mixed(space, 1.0).cells, lambda: Mixed(space, 1.0).conditional(flat, cell)):
        with pytest.raises(InvalidInput, match="Mixed has no local updates"):
            refused()
