"""Observables of a scalar field against sums over sites, sum rules, and the exact free field."""

import numpy as np
import pytest
import torch

from lattice_flows import SU, GaugeField, ScalarField
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice
from lattice_flows.observables import scalar, standard_observables

NAMES = ["magnetisation", "phi_squared", "susceptibility", "ising_energy"]
LATTICES = [(4, 6), (5, 3), (4, 2, 6), (2, 3, 2, 4)]


def field(lattice, n=3):
    return ScalarField(lattice).prior(n, torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("extents", LATTICES, ids=str)
def test_by_hand(extents):
    """From G(x) = (1/V) sum_y phi(y) phi(y + x), site by site."""
    space, lattice, phi = ScalarField(extents), Lattice(extents), field(extents)
    flat, place = phi.flatten(1), lattice.coordinates()
    g = torch.stack(
        [(flat * flat[:, lattice.index(place + place[:, x : x + 1])]).mean(1) for x in range(lattice.volume)], 1
    )
    near = [lattice.neighbours(mu)[0] for mu in range(lattice.dim)]
    expected = {
        "magnetisation": flat.mean(1).abs(),
        "phi_squared": g[:, 0],
        "susceptibility": g.sum(1),
        "ising_energy": g[:, near].mean(1),
    }
    found = {name: observable(phi) for name, observable in standard_observables(space).items()}
    assert list(found) == NAMES
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], msg=name)
    for mu in range(lattice.dim):
        correlator = scalar.zero_momentum_correlator(space, mu)(phi)
        sums = torch.stack([g[:, place[mu] == t].sum(1) for t in range(extents[mu])], 1)
        torch.testing.assert_close(correlator, sums)
        torch.testing.assert_close(correlator.sum(1), expected["susceptibility"])


def test_symmetry_and_batches():
    space, phi = ScalarField((4, 6)), field((4, 6), n=6)
    for name, observable in standard_observables(space).items():
        torch.testing.assert_close(observable(-phi), observable(phi), msg=name)
        assert observable(phi.reshape(2, 3, 4, 6)).shape == (2, 3)
        assert observable(phi[0]).shape == ()
    assert torch.equal(scalar.magnetisation(space)(-phi), -scalar.magnetisation(space)(phi))


def test_pole_mass():
    """Of C(t) ~ cosh(m (t - T/2)) it is m at every t; in the free field, 2 sinh(m/2) = sqrt(m2) for all of them."""
    t = np.arange(8)
    np.testing.assert_allclose(scalar.pole_mass(3 * np.cosh(0.7 * (t - 4))), np.full(7, 0.7), rtol=1e-6)
    squared = 4 * np.sin(np.pi * t / 8) ** 2
    propagator = np.fft.ifft(0.5 / (squared + 0.36)).real
    np.testing.assert_allclose(scalar.pole_mass(propagator), np.full(7, 2 * np.arcsinh(0.3)), rtol=1e-6)
    assert np.isnan(scalar.pole_mass([1.0, 1.0, 0.9, 1.2])[0])
    assert scalar.pole_mass(np.ones((5, 3, 8))).shape == (5, 3, 7)
    with pytest.raises(InvalidInput, match=r"needs a correlator \(\*batch, T\), T >= 3"):
        scalar.pole_mass([1.0, 0.5])


def test_refusals():
    links = GaugeField(SU(2), (4, 4))
    for make in (scalar.magnetisation, scalar.ising_energy, scalar.zero_momentum_correlator):
        with pytest.raises(InvalidInput, match=r"a space of scalars is needed, such as ScalarField"):
            make(links)
    assert not set(NAMES) & set(standard_observables(links))
    with pytest.raises(InvalidInput, match="direction must be from -2 to 1"):
        scalar.zero_momentum_correlator(ScalarField((4, 4)), 2)
    with pytest.raises(InvalidInput, match="holds real tensors"):
        scalar.phi_squared(ScalarField((4, 4)))(torch.zeros(3, 4, 6))
