"""Every sampler against exact values on small tori, and against each other where there are none."""

import cases
import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Wilson
from lattice_flows.observables import average_plaquette
from lattice_flows.planar.exact import exact_value
from lattice_flows.sampling import (
    HMC,
    Cycle,
    HeatBath,
    IndependenceMetropolis,
    Metropolis,
    OverRelaxation,
    Streams,
    start,
)

LATTICE = (3, 3)
GROUPS = [U1(), SU(2), SU(3)]
COUPLINGS = {"U(1)": (0.7, 1.5, 2.5), "SU(2)": (1.0, 2.2, 4.0), "SU(3)": (2.0, 4.0, 7.0)}

CONVENTIONAL = {
    # in steps so long that rejections matter
    "hmc": lambda action: HMC(action, 2.4 * (action.space.group.n / action.beta) ** 0.5, 4, "leapfrog"),
    "metropolis": lambda action: Metropolis(action, spread=1.2 / action.beta**0.5, hits=5),
    "heat_bath": HeatBath,
    "over_relaxed": lambda action: Cycle([HeatBath(action), OverRelaxation(action)]),
}


def untrained(action, dtype):
    """A flow whose acceptance the accept step alone makes right."""
    return IndependenceMetropolis(cases.flow(action.space.group, LATTICE, layers=2, dtype=dtype), action, batch=50)


def wilson(group, beta, lattice=LATTICE):
    return Wilson(GaugeField(group, lattice), beta)


def plaquettes(sampler, chains, n, skip, dtype=torch.float64, seed=0):
    """The mean over chains that begin with Haar links, with the error of independent chains."""
    streams, series, space = Streams(seed, chains), [], sampler.action.space
    state = sampler.init(start(space, streams, dtype=dtype))
    observable = average_plaquette(space)
    for step in range(skip + n):
        state, _ = sampler.step(state, streams)
        if step >= skip:
            series.append(observable(state.x).double())
    return cases.mean_of_chains(torch.stack(series, 1))


def points(k, dtypes):
    """Group, coupling and precision: three couplings in float64, one of them in float32 too."""
    return [
        pytest.param(group, beta * k, dtype, id=f"{group}-{beta * k:g}-{cases.names([dtype])[0]}")
        for group in GROUPS
        for i, beta in enumerate(COUPLINGS[group.name])
        for dtype in (dtypes if i == 1 else dtypes[:1])
    ]


def assert_exact(measured, action):
    exact = exact_value("plaquette", action)
    assert 0 < measured.error < exact / 3
    assert abs(measured.value - exact) < 4 * measured.error


@pytest.mark.parametrize("name", CONVENTIONAL)
@pytest.mark.parametrize(("group", "beta", "dtype"), points(1, cases.DTYPES))
def test_conventional(name, group, beta, dtype):
    action = wilson(group, beta)
    assert_exact(plaquettes(CONVENTIONAL[name](action), 40, 20, 12, dtype), action)


@pytest.mark.parametrize(("group", "beta", "dtype"), points(0.25, cases.DTYPES))
def test_flow_proposals(group, beta, dtype):
    action = wilson(group, beta)
    assert_exact(plaquettes(untrained(action, dtype), 40, 40, 10, dtype), action)


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("dtype", cases.DTYPES, ids=cases.names(cases.DTYPES))
def test_flow_proposals_among_sweeps_that_keep_the_action(group, dtype):
    """So the flow alone makes the plaquette right, with densities of links that it has not proposed."""
    action = wilson(group, 0.3 * group.n)
    sampler = Cycle([untrained(action, dtype), OverRelaxation(action)])
    assert_exact(plaquettes(sampler, 32, 30, 10, dtype), action)


@pytest.mark.parametrize(
    ("group", "beta", "lattice"),
    [(SU(2), 2.0, (3, 4, 4)), (SU(2), 2.3, (2, 3, 2, 4)), (SU(3), 5.5, (2, 3, 2, 2))],
    ids=str,
)
def test_two_algorithms_agree(group, beta, lattice):
    """In three and four dimensions, where there are no exact values."""
    action = wilson(group, beta, lattice)
    cycle, hmc = Cycle([HeatBath(action), OverRelaxation(action)]), HMC(action, steps=6)
    one, other = plaquettes(cycle, 20, 10, 20), plaquettes(hmc, 20, 10, 20, seed=1)
    assert max(one.error, other.error) < 0.01
    assert abs(one.value - other.value) < 4 * (one.error**2 + other.error**2) ** 0.5
