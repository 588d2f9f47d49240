"""The phi^4 action: its terms by hand, its force, its local updates, and the exact free field."""

import math

import pytest
import torch

from lattice_flows import SU, GaugeField, ScalarField
from lattice_flows.actions.phi4 import PHI4, Phi4, Phi4Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice
from lattice_flows.sampling import HMC, Metropolis, Streams, start
from lattice_flows.statistics import estimate
from lattice_flows.testing import assert_force

LATTICES = [(4, 6), (5, 4), (2, 3), (4, 2, 6), (2, 4, 2, 3)]


def field(lattice, n=3, seed=0):
    return ScalarField(lattice).prior(n, torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("extents", LATTICES, ids=str)
def test_value_by_hand(extents):
    """Site by site, with the lattice Laplacian of the paper: sum_mu 2 phi(x) - phi(x + mu) - phi(x - mu)."""
    lattice, phi = Lattice(extents), field(extents)
    flat = phi.flatten(1)
    total = torch.zeros(3, dtype=torch.float64)
    for x in range(lattice.volume):
        box = sum(
            2 * flat[:, x] - flat[:, lattice.neighbours(mu)[x]] - flat[:, lattice.neighbours(mu, -1)[x]]
            for mu in range(lattice.dim)
        )
        total += flat[:, x] * box - 4.0 * flat[:, x] ** 2 + 6.975 * flat[:, x] ** 4
    torch.testing.assert_close(Phi4(ScalarField(extents), -4.0, 6.975)(phi), total)


@pytest.mark.parametrize("extents", LATTICES, ids=str)
def test_force(extents):
    action = Phi4(ScalarField(extents), m2=-4.0, lambda_=6.975)
    assert_force(action, field(extents))
    torch.testing.assert_close(action.force(-field(extents)), -action.force(field(extents)))


@pytest.mark.parametrize("extents", LATTICES, ids=str)
def test_conditional(extents):
    """Cells are a partition without neighbours; the energy of a site differs from S by what does not depend on it."""
    space = ScalarField(extents)
    action, phi = Phi4(space, m2=-1.3, lambda_=0.7), field(extents)
    cells = action.cells()
    assert torch.cat([cell.active for cell in cells]).sort().values.tolist() == list(range(space.volume))
    flat = space.flatten(phi)
    for cell in cells:
        assert not set(cell.active.tolist()) & set(cell.walks.flatten().tolist())
        given, old = action.conditional(flat, cell), flat[:, cell.active]
        new = old + torch.linspace(-1, 1, len(cell.active))
        moved = flat.index_copy(1, cell.active, new).reshape(phi.shape)
        torch.testing.assert_close((given.energy(new) - given.energy(old)).sum(1), action(moved) - action(phi))


def test_on_another_lattice():
    action = Phi4(ScalarField((4, 6)), m2=-4.0, lambda_=6.0).on((6, 6, 4))
    assert action.space == ScalarField((6, 6, 4))
    assert action(field((6, 6, 4))).shape == (3,)
    assert sum(len(cell.active) for cell in action.cells()) == 144


@pytest.mark.parametrize(
    ("m2", "lambda_", "words"),
    [
        (math.nan, 1.0, "m2 must be a finite number, got nan"),
        ("1", 1.0, "m2 must be a finite number"),
        (1.0, True, "lambda must be a finite number, got True"),
        (1.0, -0.1, "lambda must be > 0, or 0 with m2 > 0, got lambda = -0.1"),
        (-1.0, 0, "lambda must be > 0, or 0 with m2 > 0"),
    ],
)
def test_couplings_out_of_range(m2, lambda_, words):
    with pytest.raises(InvalidInput, match=words):
        Phi4(ScalarField((4, 4)), m2, lambda_)


def test_refusals():
    with pytest.raises(InvalidInput, match=r"phi\^4 needs a space of scalars, such as ScalarField"):
        Phi4(GaugeField(SU(2), (4, 4)), 1.0, 1.0)
    action = Phi4(ScalarField((4, 4)), 1.0, 1.0)
    with pytest.raises(InvalidInput, match=r"Phi4\(ScalarField\(4x4\), m2=1, lambda=1\) has no coupling beta"):
        action.at(1.0)
    with pytest.raises(InvalidInput, match=r"holds real tensors \(\*batch, 4, 4\)"):
        action(torch.zeros(3, 4, 6))

    class InAField(Phi4):
        def forward(self, x):
            return super().forward(x) + x.flatten(1).sum(1)

    action = InAField(ScalarField((4, 4)), 1.0, 1.0)
    with pytest.raises(InvalidInput, match="InAField has no local updates: use hmc"):
        Metropolis(action)
    with pytest.raises(InvalidInput, match="InAField has no local updates: use hmc"):
        action.conditional(torch.zeros(1, 16), None)
    with pytest.raises(InvalidInput, match="lambda must be >= 0, got -1"):
        Phi4Settings(m2=0.0, lambda_=-1)
    built = PHI4.build(ScalarField((4, 4)), Phi4Settings(m2=-4, lambda_=6.0))
    assert (built.m2, built.lambda_) == (-4.0, 6.0)


@pytest.mark.parametrize("make", [lambda a: HMC(a, steps=6), lambda a: Metropolis(a, spread=0.5)], ids=["hmc", "local"])
def test_free_field(make):
    """<phi^2> and <S> of the free field, S = sum_k (k^2 + m2) |phi_k|^2, are known."""
    space = ScalarField((4, 4))
    action = Phi4(space, m2=1.5, lambda_=0.0)
    k = 4 * (torch.pi * torch.arange(4) / 4).sin().square().double()
    exact = (0.5 / (k[:, None] + k + 1.5)).mean().item()
    streams, sampler = Streams(seed=3, chains=16), make(action)
    state = sampler.init(start(space, streams, dtype=torch.float64))
    squares, actions = [], []
    for _ in range(300):
        state, _ = sampler.step(state, streams)
        squares.append(state.x.square().mean((-2, -1)))
        actions.append(state.action)
    for series, value in ((squares, exact), (actions, 8.0)):
        found = estimate(torch.stack(series[20:], 1).numpy())
        assert abs(found.value - value) < 4 * found.error, found


def test_one_site_in_a_bath():
    """Metropolis of a strongly coupled field on 2 x 2 sites against the integral on a grid."""
    space = ScalarField((2, 2))
    action = Phi4(space, m2=-4.0, lambda_=6.0)
    grid = torch.linspace(-1.7, 1.7, 35, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid, grid, grid)
    weights = (-action(points.reshape(-1, 2, 2))).softmax(0)
    exact = (weights * points.square().mean(1)).sum().item()
    streams, sampler = Streams(seed=4, chains=64), Metropolis(action, spread=0.6)
    state = sampler.init(start(space, streams, "cold", dtype=torch.float64))
    series = []
    for _ in range(250):
        state, _ = sampler.step(state, streams)
        series.append(state.x.square().mean((-2, -1)))
    found = estimate(torch.stack(series[50:], 1).numpy())
    assert abs(found.value - exact) < 4 * found.error
    assert found.error < 0.01
