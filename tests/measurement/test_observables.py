"""Observables: gauge invariance, known fields, loops walked link by link, and the exact values of a small lattice."""

import itertools
import math

import pytest
import torch

from lattice_flows import SU, U1, fields
from lattice_flows.errors import InvalidInput
from lattice_flows.measurement import (
    average_plaquette,
    ess,
    ess_error,
    exact,
    exact_value,
    polyakov_correlator,
    polyakov_loop,
    polyakov_loop_modulus,
    standard_observables,
    topological_charge,
    wilson_loop,
)
from lattice_flows.testing import assert_gauge_invariant

GROUPS = [U1(), SU(2), SU(3)]
LATTICES = [(4, 6), (3, 4, 5), (3, 4, 3, 3)]


def random_links(group, sites, *batch, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return group.haar(*batch, len(sites), *sites, generator=generator, dtype=dtype)


def all_observables(group, sites):
    named = standard_observables(group, sites)
    named["wilson_loop_2x1"] = wilson_loop(group, 2, 1, dim=len(sites))
    for mu in range(len(sites)):
        named[f"polyakov_loop_{mu}"] = polyakov_loop(group, mu, dim=len(sites))
    return named


@pytest.mark.parametrize("sites", LATTICES, ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_gauge_invariant_and_batched(group, sites):
    links = random_links(group, sites, 2, 3)
    V = group.haar(2, 3, *sites, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = fields.gauge_transform(links, V, group, dim=len(sites))
    for name, observable in all_observables(group, sites).items():
        value = observable(links)
        assert value.shape == (2, 3), name
        assert value.is_complex() == name.startswith("polyakov_loop_"), name
        torch.testing.assert_close(observable(moved), value, rtol=0, atol=1e-12, msg=name)
        torch.testing.assert_close(observable(links[1, 2]), value[1, 2], rtol=0, atol=1e-14, msg=name)


@pytest.mark.parametrize("sites", LATTICES, ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_unit_field(group, sites):
    links = group.identity(len(sites), *sites, dtype=torch.float64)
    for name, observable in all_observables(group, sites).items():
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
@pytest.mark.parametrize("sites", [(4, 3), (3, 4, 3)], ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_wilson_loop_by_hand(group, sites, r, t):
    links = random_links(group, sites)
    traces = []
    for mu, nu in itertools.permutations(range(len(sites)), 2):
        steps = [(mu, 1)] * r + [(nu, 1)] * t + [(mu, -1)] * r + [(nu, -1)] * t
        for x in itertools.product(*map(range, sites)):
            traces.append(group.retrace(walk(group, links, x, steps, sites)))
    expected = torch.stack(traces).mean()
    torch.testing.assert_close(wilson_loop(group, r, t)(links), expected, rtol=0, atol=1e-13)
    if r == t == 1:
        torch.testing.assert_close(average_plaquette(group)(links), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sites", [(4, 3), (3, 4, 3)], ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_polyakov_loop_by_hand(group, sites):
    links = random_links(group, sites)
    for mu in range(len(sites)):
        starts = itertools.product(*(range(1 if nu == mu else extent) for nu, extent in enumerate(sites)))
        loops = [group.trace(walk(group, links, x, [(mu, 1)] * sites[mu], sites)) for x in starts]
        expected = torch.stack(loops).mean()
        torch.testing.assert_close(polyakov_loop(group, mu)(links), expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_loop(group, mu - len(sites))(links), expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_loop_modulus(group, mu)(links), expected.abs(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("sites", LATTICES, ids=str)
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_polyakov_correlator(group, sites, generator):
    """Every pair of loops, and what follows for the averages: C(0) = mean |l|^2, and the mean of C is |mean l|^2."""
    links = random_links(group, sites, 2)
    d = len(sites)
    for mu in range(d):
        across = tuple(sorted(set(range(d)) - {mu}))
        observable = polyakov_correlator(group, mu, dim=d)
        correlator = observable(links)
        loops = group.trace(fields.polyakov_loop(links, mu, group, dim=d)).select(1 + mu, 0)
        assert correlator.shape == loops.shape == (2, *(sites[nu] for nu in across))
        for r in itertools.product(*(range(sites[nu]) for nu in across)):
            ahead = loops.roll(tuple(-x for x in r), tuple(range(1, d)))
            expected = (loops.conj() * ahead).flatten(1).mean(1)
            torch.testing.assert_close(correlator[:, *r], expected, rtol=0, atol=1e-13)
        mean = polyakov_loop(group, mu, dim=d)(links)
        torch.testing.assert_close(correlator.flatten(1).mean(1).real, mean.abs().square(), rtol=0, atol=1e-13)
        torch.testing.assert_close(polyakov_correlator(group, mu - d, dim=d)(links[0]), correlator[0])
        assert_gauge_invariant(
            lambda x, observable=observable: torch.view_as_real(observable(x)), links, group, generator=generator, dim=d
        )


def test_centre_symmetry_turns_the_polyakov_loop():
    group, sites = SU(3), (4, 6)
    links = random_links(group, sites)
    centre = torch.exp(torch.tensor(2j * math.pi / 3, dtype=torch.complex128))
    turned = links.clone()
    turned[1, :, 2] *= centre
    torch.testing.assert_close(polyakov_loop(group, 1)(turned), centre * polyakov_loop(group, 1)(links))
    torch.testing.assert_close(polyakov_loop(group, 0)(turned), polyakov_loop(group, 0)(links))
    torch.testing.assert_close(average_plaquette(group)(turned), average_plaquette(group)(links))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_topological_charge_is_an_integer(dtype, tolerance):
    charge = topological_charge(U1())(random_links(U1(), (8, 6), 100, dtype=dtype))
    assert charge.dtype == dtype
    assert (charge - charge.round()).abs().max() < tolerance
    assert charge.round().unique().numel() > 3


@pytest.mark.parametrize("q", [-2, 0, 1, 3])
def test_topological_charge_of_constant_flux(q):
    """U_1(x, y) = 2 pi q x / V and a seam at the end of direction 0: every plaquette angle is 2 pi q / V."""
    lx, ly = 6, 8
    x, y = torch.meshgrid(torch.arange(lx).double(), torch.arange(ly).double(), indexing="ij")
    links = torch.zeros(2, lx, ly, dtype=torch.float64)
    links[1] = 2 * math.pi * q * x / (lx * ly)
    links[0, -1] = -2 * math.pi * q * y[-1] / ly
    links = U1().compose(links, torch.zeros_like(links))
    angles = fields.plaquette(links, 0, 1, U1())
    torch.testing.assert_close(angles, torch.full_like(angles, 2 * math.pi * q / (lx * ly)), rtol=0, atol=1e-13)
    assert float(topological_charge(U1())(links)) == pytest.approx(q, abs=1e-12)
    squared = standard_observables(U1(), (lx, ly))["topological_charge_squared"](links)
    assert float(squared) == pytest.approx(q**2, abs=1e-11)


def test_registry():
    both = ["plaquette", "wilson_loop_2x2"]
    charge = ["topological_charge", "topological_charge_squared"]
    assert list(standard_observables(U1(), (4, 4))) == [*both, *charge, "polyakov_loop"]
    assert list(standard_observables(U1(), [2, 4])) == ["plaquette", *charge, "polyakov_loop"]
    assert list(standard_observables(U1(), (4, 4, 4))) == [*both, "polyakov_loop"]
    assert list(standard_observables(SU(2), (4, 4))) == [*both, "polyakov_loop"]


@pytest.mark.parametrize(("group", "sites", "beta"), [(U1(), (3, 3), 1.0), (SU(2), (3, 3), 1.0)], ids=str)
def test_exact_values_on_a_small_lattice(group, sites, beta):
    """Haar fields weighted with exp(-S), S the Wilson action."""
    n = 20_000
    links = random_links(group, sites, n)
    observables = standard_observables(group, sites)
    volume = math.prod(sites)
    log_w = beta * volume * observables["plaquette"](links)
    weight = log_w.softmax(-1)
    predicted = math.exp(2 * exact.log_partition(group, beta, volume) - exact.log_partition(group, 2 * beta, volume))
    assert abs(ess(log_w) - predicted) < 3.5 * ess_error(log_w)
    compared = 0
    for name, observable in observables.items():
        expected = exact_value(name, group, beta, sites)
        if expected is not None:
            values = observable(links)
            mean = (weight * values).sum()
            error = (weight * (values - mean)).square().sum().sqrt()
            assert abs(mean - expected) < 3.5 * error, name
            compared += 1
    assert compared == (4 if group == U1() else 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda links: wilson_loop(U1(), 0, 1), "sides of a Wilson loop"),
        (lambda links: wilson_loop(U1(), 4, 1)(links), "4 x 1 Wilson loop needs extents > 4"),
        (lambda links: polyakov_loop(U1(), 2)(links), "direction must be from -2 to 1"),
        (lambda links: polyakov_correlator(U1(), 2)(links), "direction must be from -2 to 1"),
        (lambda links: polyakov_loop(U1(), -3)(links), "direction must be from -2 to 1"),
        (lambda links: topological_charge(SU(2)), r"U\(1\) in two dimensions, got SU\(2\)"),
        (lambda links: topological_charge(U1())(torch.zeros(3, 4, 4, 4)), "2-dimensional"),
        (lambda links: average_plaquette(SU(2))(links), r"SU\(2\)"),
        (lambda links: average_plaquette(U1(), dim=3)(links), "3-dimensional"),
        (lambda links: standard_observables(U1(), (8,)), "sites"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(InvalidInput, match=message):
        call(random_links(U1(), (4, 6)))
