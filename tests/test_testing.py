"""The public assertions fail on layers that break the laws."""

import cases
import pytest
import torch

from lattice_flows import SU, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.layers import LinkPartition, SpectralMap, Transform
from lattice_flows.planar.residual import ResidualMap
from lattice_flows.testing import (
    assert_conjugation_map,
    assert_force,
    assert_gauge_equivariant,
    assert_gauge_invariant,
    assert_invertible,
    assert_logdet,
)

SPACE = GaugeField(SU(2), (3, 4))


class Broken(Transform):
    """A good coupling, spoilt."""

    def __init__(self, group, fault):
        super().__init__()
        self.good = cases.coupling(group, LinkPartition.stripes((3, 4), 0, 0)).double()
        self.group = group
        self.fault = fault

    def forward(self, x):
        y, logdet = self.good(x)
        return self._spoil(y), logdet * (1.1 if self.fault == "logdet" else 1)

    def inverse(self, y):
        x, logdet = self.good.inverse(y)
        return (x, logdet * 1.1) if self.fault == "logdet" else (x, logdet)

    def _spoil(self, y):
        if self.fault == "one link":
            turn = self.group.exp(1e-3 * self.group.generators(dtype=torch.float64)[0])
            return torch.cat((self.group.compose(turn, y[..., :1, :, :, :, :]), y[..., 1:, :, :, :, :]), dim=-5)
        return y


@pytest.fixture
def links(generator):
    return SPACE.prior(3, generator, dtype=torch.float64)


def test_sound_layers_pass(links):
    sound = Broken(SU(2), None)
    assert_invertible(sound, links, SPACE)
    assert_gauge_equivariant(sound, links, SPACE)
    assert_logdet(sound, links[0], SPACE)


def test_broken_layers_fail(links):
    moved, wrong = Broken(SU(2), "one link"), Broken(SU(2), "logdet")
    with pytest.raises(AssertionError, match=r"inverse\(forward\(x\)\) = x: violated by"):
        assert_invertible(moved, links, SPACE)
    with pytest.raises(AssertionError, match="gauge"):
        assert_gauge_equivariant(moved, links, SPACE)
    with pytest.raises(AssertionError, match="Jacobian"):
        assert_logdet(wrong, links[0], SPACE)
    assert_invertible(wrong, links, SPACE)


def test_broken_functions_fail(links):
    with pytest.raises(AssertionError, match="gauge"):
        assert_gauge_invariant(lambda u: u.real.sum((-1, -2, -3, -4, -5)), links, SPACE)

    class WrongForce(Wilson):
        def force(self, links):
            return 1.01 * super().force(links)

    with pytest.raises(AssertionError, match="force"):
        assert_force(WrongForce(SPACE, 1.0), links)


def test_broken_conjugation_maps_fail(generator):
    class Frames(SpectralMap):
        """Turns every matrix by the same element: no function of the class."""

        def forward(self, loop, params):
            g, logdet = super().forward(loop, params)
            return torch.diag(torch.tensor([1j, -1j])).to(g.dtype) @ g, logdet

    good = SpectralMap(SU(2), bins=4)
    loop = SU(2).haar(20, generator=generator, dtype=torch.float64)
    params = torch.randn(20, good.n_params, generator=generator, dtype=torch.float64)
    assert_conjugation_map(good, loop, params, SU(2))
    with pytest.raises(AssertionError):
        assert_conjugation_map(Frames(SU(2), bins=4), loop, params, SU(2))


def test_maps_that_do_not_turn_with_the_boundary_fail(generator):
    class Fixed(ResidualMap):
        """Sees the same boundary, however the loop has turned."""

        def _words(self, params, boundary):
            return super()._words(params, fixed)

    fixed, loop, boundary = SU(2).haar(3, 20, generator=generator, dtype=torch.float64)
    params = torch.randn(20, 8, generator=generator, dtype=torch.float64)
    assert_conjugation_map(ResidualMap(SU(2)), loop, params, SU(2), boundary=boundary)
    with pytest.raises(AssertionError, match=r"h\(V W V\^-1\) = V h\(W\) V\^-1"):
        assert_conjugation_map(Fixed(SU(2)), loop, params, SU(2), boundary=boundary)


def test_nan_is_a_violation(links):
    with pytest.raises(AssertionError, match="nan"):
        assert_gauge_invariant(lambda u: u.real.sum((-1, -2, -3, -4, -5)) * float("nan"), links, SPACE)
