"""Observables: gauge invariance, known fields, loops walked link by link, and the exact values of a small lattice."""

import itertools
import math

import pytest
import torch

from lattice_flows import SU, U1, GaugeField, ScalarField
from lattice_flows.actions import Wilson
from lattice_flows.config.registry import OBSERVABLES
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import gauge_transform, plaquette
from lattice_flows.lattice import polyakov_loop as untraced
from lattice_flows.observables import (
    ObservableEntry,
    average_plaquette,
    polyakov_correlator,
    polyakov_loop,
    polyakov_loop_modulus,
    polyakov_loops,
    space_like_plaquette,
    standard_observables,
    time_like_plaquette,
    topological_charge,
    wilson_loop,
)
from lattice_flows.planar import exact
from lattice_flows.planar.exact import exact_value
from lattice_flows.statistics import ess, ess_error
from lattice_flows.testing import assert_gauge_invariant

GROUPS = [U1(), SU(2), SU(3)]
LATTICES = [(4, 6), (3, 4, 5), (3, 4, 3, 3)]


def by_space(lattices):
    spaces = [GaugeField(group, sites) for group in GROUPS for sites in lattices]
    return pytest.mark.parametrize("space", spaces, ids=str)


def random_links(space, *batch, seed=0, dtype=torch.float64):
    return space.group.haar(*batch, *space.axes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def all_observables(space):
    named = standard_observables(space)
    named["wilson_loop_2x1"] = wilson_loop(space, 2, 1)
    for mu in range(space.dim):
        named[f"polyakov_loop_{mu}"] = polyakov_loop(space, mu)
    return named


@by_space(LATTICES)
def test_gauge_invariant_and_batched(space):
    links = random_links(space, 2, 3)
    generator = torch.Generator().manual_seed(1)
    V = space.group.haar(2, 3, *space.lattice.extents, generator=generator, dtype=torch.float64)
    moved = gauge_transform(links, V, space)
    for name, observable in all_observables(space).items():
        value = observable(links)
        assert value.shape == (2, 3), name
        assert value.is_complex() == name.startswith("polyakov_loop_"), name
        torch.testing.assert_close(observable(moved), value, rtol=0, atol=1e-12, msg=name)
        torch.testing.assert_close(observable(links[1, 2]), value[1, 2], rtol=0, atol=1e-14, msg=name)


@by_space(LATTICES)
def test_unit_field(space):
    links = space.cold(1, dtype=torch.float64)
    for name, observable in all_observables(space).items():
        expected = 0 if name.startswith("topological") else 1
        assert abs(observable(links) - expected) < 1e-14, name


def walk(group, links, x, steps, sites):
    """The product of links from x along unit steps (mu, +-1), one at a time."""
    product, x = None, list(x)
    for mu, sign in steps:
        if sign < 0:
            x[mu] = (x[mu] - 1) % sites[mu]
        link = links[(mu, *x)]
        link = link if sign > 0 else group.inverse(link)
        product = link if product is None else group.compose(product, link)
        if sign > 0:
            x[mu] = (x[mu] + 1) % sites[mu]
    return product


@pytest.mark.parametrize(("r", "t"), [(1, 1), (2, 1), (2, 2), (1, 2)])
@by_space([(4, 3), (3, 4, 3)])
def test_wilson_loop_by_hand(space, r, t):
    group, sites = space.group, space.lattice.extents
    links = random_links(space)
    traces = []
    for mu, nu in itertools.permutations(range(len(sites)), 2):
        steps = [(mu, 1)] * r + [(nu, 1)] * t + [(mu, -1)] * r + [(nu, -1)] * t
        for x in itertools.product(*map(range, sites)):
            traces.append(group.retrace(walk(group, links, x, steps, sites)))
    expected = torch.stack(traces).mean()
    torch.testing.assert_close(wilson_loop(space, r, t)(links), expected, rtol=0, atol=1e-13)
    if r == t == 1:
        torch.testing.assert_close(average_plaquette(space)(links), expected, rtol=0, atol=1e-13)


@by_space([(3, 4, 5), (3, 4, 3, 3)])
def test_plaquettes_apart(space):
    """Weighted by the number of planes they make up the plaquette; other spatial links do not change the time-like."""
    links, d = random_links(space, 2), space.dim
    space_like, time_like = space_like_plaquette(space), time_like_plaquette(space)
    planes = (d - 1) * (d - 2) / 2
    total = (planes * space_like(links) + (d - 1) * time_like(links)) / (planes + d - 1)
    torch.testing.assert_close(average_plaquette(space)(links), total, rtol=0, atol=1e-13)
    changed = links.clone()
    changed[:, -1] = random_links(space, 2, seed=5)[:, -1]
    assert torch.equal(space_like(changed), space_like(links))
    assert not torch.equal(time_like(changed), time_like(links))


def test_in_two_dimensions_all_plaquettes_are_time_like():
    space = GaugeField(SU(2), (4, 3))
    assert torch.equal(time_like_plaquette(space)(random_links(space)), average_plaquette(space)(random_links(space)))
    with pytest.raises(InvalidInput, match="all plaquettes are time-like in two dimensions"):
        space_like_plaquette(space)


@by_space([(4, 3), (3, 4, 3)])
def test_polyakov_loop_by_hand(space):
    group, sites = space.group, space.lattice.extents
    links = random_links(space)
    for mu in range(len(sites)):
        starts = itertools.product(*(range(1 if nu == mu else extent) for nu, extent in enumerate(sites)))
        loops = [group.trace(walk(group, links, x, [(mu, 1)] * sites[mu], sites)) for x in starts]
        expected = torch.stack(loops).mean()
        torch.testing.assert_close(polyakov_loop(space, mu)(links), expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_loops(space)(links)[mu], expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_loop(space, mu - len(sites))(links), expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_loop_modulus(space, mu)(links), expected.abs(), rtol=0, atol=1e-13)


@by_space(LATTICES)
def test_polyakov_correlator(space, generator):
    """Every pair of loops, and what follows for the averages: C(0) = mean |l|^2, and the mean of C is |mean l|^2."""
    links = random_links(space, 2)
    d, sites = space.dim, space.lattice.extents
    for mu in range(d):
        across = tuple(sorted(set(range(d)) - {mu}))
        observable = polyakov_correlator(space, mu)
        correlator = observable(links)
        loops = space.group.trace(untraced(links, mu, space)).select(1 + mu, 0)
        assert correlator.shape == loops.shape == (2, *(sites[nu] for nu in across))
        for r in itertools.product(*(range(sites[nu]) for nu in across)):
            ahead = loops.roll(tuple(-x for x in r), tuple(range(1, d)))
            expected = (loops.conj() * ahead).flatten(1).mean(1)
            torch.testing.assert_close(correlator[:, *r], expected, rtol=0, atol=1e-13)
        mean = polyakov_loop(space, mu)(links)
        torch.testing.assert_close(correlator.flatten(1).mean(1).real, mean.abs().square(), rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_correlator(space, mu - d)(links[0]), correlator[0])
        assert_gauge_invariant(
            lambda x, observable=observable: torch.view_as_real(observable(x)), links, space, generator=generator
        )


def test_centre_symmetry_turns_the_polyakov_loop():
    space = GaugeField(SU(3), (4, 6))
    links = random_links(space)
    centre = torch.exp(torch.tensor(2j * math.pi / 3, dtype=torch.complex128))
    turned = links.clone()
    turned[1, :, 2] *= centre
    torch.testing.assert_close(polyakov_loop(space, 1)(turned), centre * polyakov_loop(space, 1)(links))
    torch.testing.assert_close(polyakov_loop(space, 0)(turned), polyakov_loop(space, 0)(links))
    torch.testing.assert_close(average_plaquette(space)(turned), average_plaquette(space)(links))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_topological_charge_is_an_integer(dtype, tolerance):
    space = GaugeField(U1(), (8, 6))
    charge = topological_charge(space)(random_links(space, 100, dtype=dtype))
    assert charge.dtype == dtype
    assert (charge - charge.round()).abs().max() < tolerance
    assert charge.round().unique().numel() > 3


@pytest.mark.parametrize("q", [-2, 0, 1, 3])
def test_topological_charge_of_constant_flux(q):
    """U_1(x, y) = 2 pi q x / V and a seam at the end of direction 0: every plaquette angle is 2 pi q / V."""
    lx, ly = 6, 8
    space = GaugeField(U1(), (lx, ly))
    x, y = torch.meshgrid(torch.arange(lx).double(), torch.arange(ly).double(), indexing="ij")
    links = torch.zeros(2, lx, ly, dtype=torch.float64)
    links[1] = 2 * math.pi * q * x / (lx * ly)
    links[0, -1] = -2 * math.pi * q * y[-1] / ly
    links = U1().compose(links, torch.zeros_like(links))
    angles = plaquette(links, 0, 1, space)
    torch.testing.assert_close(angles, torch.full_like(angles, 2 * math.pi * q / (lx * ly)), rtol=0, atol=1e-13)
    assert float(topological_charge(space)(links)) == pytest.approx(q, abs=1e-12)
    squared = standard_observables(space)["topological_charge_squared"](links)
    assert float(squared) == pytest.approx(q**2, abs=1e-11)


def test_registry():
    both, apart = ["plaquette", "wilson_loop_2x2"], ["plaquette_space", "plaquette_time"]
    charge = ["topological_charge", "topological_charge_squared"]
    for group, sites, names in (
        (U1(), (4, 4), [*both, *charge, "polyakov_loop"]),
        (U1(), [2, 4], ["plaquette", *charge, "polyakov_loop"]),
        (U1(), (4, 4, 4), ["plaquette", *apart, "wilson_loop_2x2", "polyakov_loop"]),
        (SU(2), (4, 4), [*both, "polyakov_loop"]),
    ):
        assert list(standard_observables(GaugeField(group, sites))) == names
    assert not {*both, *charge, "polyakov_loop"} & set(standard_observables(ScalarField((4, 4))))
    assert [OBSERVABLES[name].label for name in standard_observables(GaugeField(U1(), (4, 4)))] == [
        "plaquette",
        "Wilson loop W(2,2)",
        "topological charge Q",
        "<Q^2>",
        "Polyakov loop |L|",
    ]


def test_an_observable_of_ones_own(monkeypatch):
    """It is measured where it applies, after the others, and its exact value is known by its name."""
    monkeypatch.setattr(OBSERVABLES, "_entries", dict(OBSERVABLES._all()))
    entry = ObservableEntry(
        "<phi^2>",
        lambda space: (lambda x: x.square().flatten(-space.dim).mean(-1)) if isinstance(space, ScalarField) else None,
        lambda action: action.space.volume if action.beta == 1 else None,
    )
    OBSERVABLES.register("square", entry)
    space = ScalarField((4, 4))
    assert list(standard_observables(space))[-1] == "square"
    assert standard_observables(space)["square"](torch.full((3, 4, 4), 2.0)).tolist() == [4, 4, 4]
    assert "square" not in standard_observables(GaugeField(U1(), (4, 4)))
    action = Wilson(GaugeField(U1(), (4, 4)), beta=1.0)
    assert (exact_value("square", action), exact_value("square", action.at(2.0))) == (16, None)
    assert entry._replace(exact=None).exact_mean(action) is None


@pytest.mark.parametrize(("group", "sites", "beta"), [(U1(), (3, 3), 1.0), (SU(2), (3, 3), 1.0)], ids=str)
def test_exact_values_on_a_small_lattice(group, sites, beta):
    """Haar fields weighted with exp(-S), S the Wilson action."""
    space = GaugeField(group, sites)
    links = random_links(space, 20_000)
    observables = standard_observables(space)
    volume = math.prod(sites)
    log_w = beta * volume * observables["plaquette"](links)
    weight = log_w.softmax(-1)
    predicted = math.exp(2 * exact.log_partition(group, beta, volume) - exact.log_partition(group, 2 * beta, volume))
    assert abs(ess(log_w) - predicted) < 3.5 * ess_error(log_w)
    compared = 0
    for name, observable in observables.items():
        expected = exact_value(name, Wilson(space, beta))
        if expected is not None:
            values = observable(links)
            mean = (weight * values).sum()
            error = (weight * (values - mean)).square().sum().sqrt()
            assert abs(mean - expected) < 3.5 * error, name
            compared += 1
    assert compared == (4 if group == U1() else 2)


SPACE = GaugeField(U1(), (4, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_loop(SPACE, 0, 1), "sides of a Wilson loop"),
        (lambda: wilson_loop(SPACE, 4, 1), "4 x 1 Wilson loop needs extents > 4, got a lattice of 4x6"),
        (lambda: polyakov_loop(SPACE, 2), "direction must be from -2 to 1"),
        (lambda: polyakov_correlator(SPACE, 2), "direction must be from -2 to 1"),
        (lambda: polyakov_loop(SPACE, -3), "direction must be from -2 to 1"),
        (lambda: topological_charge(GaugeField(SU(2), (4, 4))), r"U\(1\) in two dimensions, got .*SU\(2\)"),
        (lambda: topological_charge(GaugeField(U1(), (4, 4, 4))), "in two dimensions, got .*4x4x4"),
        (lambda: average_plaquette(GaugeField(SU(2), (4, 6)))(random_links(SPACE)), r"SU\(2\)"),
        (lambda: average_plaquette(GaugeField(U1(), (4, 6, 4)))(random_links(SPACE)), "4x6x4"),
        (lambda: average_plaquette(GaugeField(U1(), (6, 4)))(random_links(SPACE)), "6x4"),
        *((lambda f=f: f(U1()), "space of links") for f in (average_plaquette, topological_charge)),
        *((lambda f=f: f(ScalarField((4, 4)), 1), "space of links") for f in (polyakov_loop, polyakov_loop_modulus)),
        (lambda: wilson_loop(ScalarField((4, 4)), 1, 1), "space of links"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
