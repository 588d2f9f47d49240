"""Couplings that vary over the lattice: laws, exact values in two dimensions, the config."""

import math

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Action, WeightedWilson, Wilson
from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.paths import plaquette
from lattice_flows.models import build_action
from lattice_flows.planar import exact
from lattice_flows.reports.correlators import slice_observables
from lattice_flows.sampling import HMC, Cycle, HeatBath, Metropolis, OverRelaxation, Streams, start
from lattice_flows.testing import assert_force, assert_gauge_invariant

VARIED = {
    "open": {"boundary": "open"},
    "anisotropic": {"anisotropy": 1.7},
    "twisted": {"twist": [(0, 1, 1)]},
    "all": {"boundary": "open", "anisotropy": 0.6, "twist": [(1, 0, 1)]},
}
varied = pytest.mark.parametrize("name", VARIED)
everywhere = pytest.mark.parametrize("space", cases.GAUGE_FIELDS, ids=str)


def action_of(space, beta, name):
    """The action, but for the twists that U(1) and the plane of an open boundary do not have."""
    settings = dict(VARIED[name])
    if space.group.abelian or (space.dim == 2 and "boundary" in settings):
        settings.pop("twist", None)
    return WeightedWilson(space, beta, **settings)


@everywhere
@varied
def test_laws(space, name, generator):
    action, links = action_of(space, 2.5, name), space.prior(2, generator, dtype=torch.float64)
    assert action(links).shape == (2,)
    assert_gauge_invariant(action, links, space, generator=generator)
    assert_force(action, links, atol=1e-10)


@everywhere
@varied
def test_the_density_of_an_element_is_that_of_the_action(space, name, generator):
    action, links = action_of(space, 2.5, name), space.prior(2, generator, dtype=torch.float64)
    flat, others = space.flatten(links), space.flatten(space.prior(2, generator, dtype=torch.float64))
    for cell in action.cells():
        given, changed = action.conditional(flat, cell), flat.clone()
        changed[:, cell.active] = others[:, cell.active]
        moved = given.energy(others[:, cell.active]) - given.energy(flat[:, cell.active])
        torch.testing.assert_close(
            moved.sum(1), action(changed.reshape(links.shape)) - action(links), atol=1e-9, rtol=0
        )


@everywhere
def test_without_variation_it_is_wilsons(space, generator):
    action, links = WeightedWilson(space, 2.5), space.prior(2, generator, dtype=torch.float64)
    torch.testing.assert_close(action(links), Wilson(space, 2.5)(links))
    assert torch.equal(action.loop_weights(), Wilson(space, 2.5).loop_weights().fill_diagonal_(0))


def test_values_of_cold_links():
    """By counting plaquettes: 3 space-like planes of 4^4, of which two times count half, and 3 time-like ones."""
    space = GaugeField(SU(3), (4, 4, 4, 4))
    cold, spatial, temporal = space.cold(1, dtype=torch.float64), 3 * 4**3 * 3, 3 * 4**3 * 3
    expected = {
        "open": spatial + temporal,
        "anisotropic": 3 * 4**4 * (1 / 1.7 + 1.7),
        "twisted": 6 * 4**4 - 1.5 * 4**2,
        "all": spatial / 0.6 + temporal * 0.6 - 1.5 * (2 + 1) * 4 / 0.6,
    }
    for name, count in expected.items():
        assert action_of(space, 6.0, name)(cold).item() == pytest.approx(-6.0 * count, rel=1e-12), name


def test_opposite_twists_are_related_by_conjugation(generator):
    """Of the links, or of the order of the directions."""
    space = GaugeField(SU(3), (4, 4, 6))
    links = space.prior(2, generator, dtype=torch.float64)
    one, two, turned = (WeightedWilson(space, 1.0, twist=[twist]) for twist in ((0, 2, 1), (0, 2, -1), (2, 0, 1)))
    torch.testing.assert_close(one(links), two(links.conj()))
    torch.testing.assert_close(two(links), turned(links))
    assert (one(links) - two(links)).abs().min() > 1e-3
    torch.testing.assert_close(WeightedWilson(space, 1.0, twist=[(0, 2, 3)])(links), Wilson(space, 1.0)(links))


def test_another_coupling_and_another_lattice():
    action = WeightedWilson(GaugeField(SU(2), (4, 6)), 2.0, anisotropy=2.0)
    assert action.at(3.0).beta == 3.0
    larger = action.on((4, 4, 6))
    assert larger(larger.space.cold(1)).item() == pytest.approx(-2.0 * 96 * (0.5 + 2 * 2.0), rel=1e-6)
    assert repr(action) == "WeightedWilson(GaugeField(SU(2), 4x6), beta=2, anisotropy=2.0)"


SAMPLERS = {
    "sweeps": lambda action: Cycle([HeatBath(action), OverRelaxation(action)]),
    "hmc": lambda action: HMC(action, 1.0, 6),
    "metropolis": Metropolis,
}


def chains_of(action, sampler, n, chains=40, skip=15):
    """Configurations after a thermalisation, one after the other."""
    streams = Streams(7, chains)
    sampler = SAMPLERS[sampler](action)
    state = sampler.init(start(action.space, streams, dtype=torch.float64))
    for step in range(skip + n):
        state, _ = sampler.step(state, streams)
        if step >= skip:
            yield state


@pytest.mark.parametrize(
    ("group", "extents", "sampler"),
    [
        *((group, (8, 8), sampler) for group in (U1(), SU(2), SU(3)) for sampler in ("sweeps", "hmc")),
        (SU(2), (4, 3), "sweeps"),
        (SU(2), (4, 3), "metropolis"),
    ],
    ids=str,
)
def test_plaquettes_of_an_open_cylinder_are_independent(group, extents, sampler):
    """Each is that of infinite volume, at beta times the anisotropy; the last ones in time are zero on average.

    Of extents that the kernels take, and of one that they do not.
    """
    space = GaugeField(group, extents)
    action = WeightedWilson(space, 1.2 * group.n, "open", 1.5)
    series = torch.stack(
        [group.retrace(plaquette(state.x, 0, 1, space)).mean(1) for state in chains_of(action, sampler, 25)], 1
    )
    exact_value = exact.plaquette(group, 1.5 * 1.2 * group.n)
    for values, expected in ((series[..., :-1].mean(2), exact_value), (series[..., -1], 0.0)):
        found = cases.mean_of_chains(values)
        assert abs(found.value - expected) < 4 * found.error < 0.1


@pytest.mark.parametrize(("n", "beta"), [(2, 5.0), (3, 9.0)])
def test_plaquettes_of_a_twisted_torus(n, beta):
    """The mean of S is the derivative of log Z by beta; without the twist it is another."""
    group, extents, h = SU(n), (2, 2), 1e-3
    action, volume = WeightedWilson(GaugeField(group, extents), beta, twist=[(0, 1, 1)]), math.prod(extents)
    found = cases.mean_of_chains(
        torch.stack([-state.action / beta / volume for state in chains_of(action, "sweeps", 40)], 1)
    )
    log_z = {sign: exact.log_partition(group, beta + sign * h, volume, twist=1) for sign in (-1, 1)}
    expected = (log_z[1] - log_z[-1]) / (2 * h * volume)
    assert abs(found.value - expected) < 4 * found.error
    assert abs(expected - exact.plaquette(group, beta, volume)) > 8 * found.error


def test_correlators_need_translations():
    space = GaugeField(SU(2), (4, 4, 4))
    wanted = {"open": False, "anisotropic": True, "twisted": False, "all": False}
    assert {name: bool(slice_observables(action_of(space, 2.0, name))) for name in VARIED} == wanted


def config(**action):
    return Config.of(lattice={"group": "SU(3)", "extents": (4, 4, 6)}, action={"beta": 6.0, **action})


def test_in_the_config():
    for settings in ({"boundary": "open"}, {"anisotropy": 2.0}, {"twist": [[0, 1, 2]]}):
        _, action = build_action(config(**settings), "x")
        assert isinstance(action, WeightedWilson)
        (name,) = settings
        assert getattr(action, name) == (((0, 1, 2),) if name == "twist" else settings[name])
    assert type(build_action(config(), "x")[1]) is Wilson
    assert Config.of(
        **{"lattice": {"group": "SU(3)", "extents": (4, 4)}, "action": config(twist=[[0, 1, 2]]).action.table()}
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"boundary": "closed"}, "boundary must be one of periodic, open"),
        ({"anisotropy": 0.0}, "anisotropy must be > 0"),
        ({"twist": [[0, 1]]}, r"a twist is \[mu, nu, k\] of two directions from 0 to 2 and an integer, got \[0, 1\]"),
        ({"twist": [0, 1, 2]}, "twist must be a list of lists of integers"),
        ({"twist": [[0, 0, 1]]}, r"got \[0, 0, 1\]"),
        ({"twist": [[0, 3, 1]]}, r"got \[0, 3, 1\]"),
        ({"twist": [[0, 1, 1], [1, 0, 1]]}, "a plane has one twist"),
        ({"twist": [[0, 2, 1]], "boundary": "open"}, "along time, whose boundary is open"),
        ({"name": "iwasaki", "boundary": "open"}, "boundary"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(InvalidInput, match=words):
        build_action(config(**settings), "x")


def test_bad_input():
    with pytest.raises(InvalidInput, match=r"links of U\(1\) absorb every phase"):
        WeightedWilson(GaugeField(U1(), (4, 4)), 1.0, twist=[(0, 1, 1)])
    with pytest.raises(InvalidInput, match="boundary must be periodic or open"):
        WeightedWilson(GaugeField(U1(), (4, 4)), 1.0, boundary="half")
    with pytest.raises(InvalidInput, match="such as GaugeField"):
        WeightedWilson(ScalarField((4, 4)), 1.0)
    with pytest.raises(InvalidInput, match="a twist needs"):
        exact.log_partition(U1(), 1.0, 4, twist=1)
    assert Action.loop_weights(WeightedWilson(GaugeField(U1(), (4, 4)), 1.0)) is None
