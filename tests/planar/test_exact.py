"""The exact values against published-precision tables, other formulas, and integrals done by brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ive

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Iwasaki, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.planar import exact
from lattice_flows.planar.characters import characters, known
from lattice_flows.planar.exact import exact_value

GROUPS = [U1(), SU(2), SU(3), SU(4)]

PLAQUETTES = [
    *zip([U1()] * 7, (1, 2, 3, 4, 5, 6, 7),
         (0.4463900, 0.6977747, 0.8099853, 0.8635226, 0.8933831, 0.9123593, 0.9255322), strict=True),
    *zip([SU(2)] * 5, (1.8, 2.2, 2.7, 4.0, 8.0), (0.3993724, 0.4644790, 0.5329707, 0.6580473, 0.8192494), strict=True),
    *zip([SU(3)] * 6, (3, 4, 5, 6, 8, 12),
         (0.2030751, 0.2796191, 0.3539544, 0.4225317, 0.5357540, 0.6776720), strict=True),
]  # fmt: skip

CHARGES_SQUARED = [
    (1, 2.60072, 10.40288),
    (2, 1.23930, 4.95720),
    (3, 0.70784, 2.83156),
    (4, 0.48202, 1.93388),
    (5, 0.36072, 1.47349),
    (6, 0.27920, 1.19470),
    (7, 0.21711, 1.00641),
]


@pytest.mark.parametrize(("group", "beta", "expected"), PLAQUETTES, ids=str)
def test_plaquette_in_infinite_volume(group, beta, expected):
    assert exact.plaquette(group, beta) == pytest.approx(expected, abs=0.51e-7)


@pytest.mark.parametrize(("beta", "small", "large"), CHARGES_SQUARED)
def test_topological_charge_squared(beta, small, large):
    assert exact.topological_charge_squared(beta, 8 * 8) == pytest.approx(small, abs=0.51e-5)
    assert exact.topological_charge_squared(beta, 16 * 16) == pytest.approx(large, abs=0.51e-5)


def test_plaquette_in_finite_volume():
    assert exact.plaquette(U1(), 7, volume=64) == pytest.approx(0.9257004, abs=0.51e-7)
    for group, beta in ((SU(2), 2.7), (SU(3), 6.0)):
        assert exact.plaquette(group, beta, volume=64) == pytest.approx(exact.plaquette(group, beta), abs=1e-6)


def bessel_coefficient(n: int, beta: float, labels: tuple[int, ...]) -> float:
    """e^{-beta} c_r = sum_k det_ij I_{l_j - j + i + k}(beta / N), l the rows of the Young diagram."""
    rows = np.array([sum(labels[j:]) for j in range(n)])
    index = np.arange(n)
    k = np.arange(-200, 201)[:, None, None]
    return np.linalg.det(ive(rows[None, :] - index[None, :] + index[:, None] + k, beta / n)).sum()


@pytest.mark.parametrize("beta", [0.5, 6.0, 60.0])
@pytest.mark.parametrize(
    ("group", "labels"),
    [
        *((SU(2), (p,)) for p in (0, 1, 5)),
        *((SU(3), labels) for labels in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 3), (5, 1))),
        *((SU(4), labels) for labels in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 0, 1), (2, 1, 2))),
    ],
    ids=str,
)
def test_characters_are_determinants_of_bessel_functions(group, labels, beta):
    table = characters(group, beta)
    scaled = table.ratio[labels] * table.dimension[labels] * math.exp(table.log_trivial - beta)
    assert scaled == pytest.approx(bessel_coefficient(group.n, beta, labels), rel=1e-11)


@pytest.mark.parametrize("beta", [0.5, 6.0, 60.0, 2000.0])
def test_characters_of_u1_are_bessel_functions(beta):
    table = characters(U1(), beta)
    n = np.arange(-10, 11)
    scaled = table.ratio[n + table.origin[0]] * math.exp(table.log_trivial - beta)
    np.testing.assert_allclose(scaled, ive(n, beta), rtol=1e-11, atol=1e-19)


def test_dimensions():
    assert [characters(SU(3), 1.0).dimension[p] for p in ((1, 0), (1, 1), (3, 0), (2, 2))] == [3, 8, 10, 27]
    assert [characters(SU(4), 1.0).dimension[p] for p in ((0, 1, 0), (1, 0, 1), (0, 2, 0))] == [6, 15, 20]


@pytest.mark.parametrize("volume", [1, 2, 6, 64])
@pytest.mark.parametrize("beta", [0.3, 2.5, 20.0])
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_plaquette_is_the_derivative_of_log_z(group, beta, volume):
    h = 1e-2 * beta
    log_z = {k: exact.log_partition(group, beta + k * h, volume) for k in (-3, -2, -1, 1, 2, 3)}
    stencil = {1: 45, 2: -9, 3: 1}
    slope = sum(c * (log_z[k] - log_z[-k]) for k, c in stencil.items()) / (60 * h)
    assert exact.plaquette(group, beta, volume) == pytest.approx(slope / volume, abs=1e-9)


@pytest.mark.parametrize(("group", "beta"), [(U1(), 1.5), (SU(2), 3.0), (SU(3), 5.0)], ids=str)
def test_wilson_loop_on_a_torus_of_three_plaquettes(group, beta):
    """The torus as a cut-open surface: P1 P2 P3 = U V U^-1 V^-1, integrated over P1, P2, U, V by brute force."""
    draws = group.haar(4, 200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    p1, p2, u, v = draws
    commutator = group.compose(group.compose(u, v), group.compose(group.inverse(u), group.inverse(v)))
    p3 = group.compose(group.inverse(group.compose(p1, p2)), commutator)
    weight = (beta * sum(group.retrace(p) for p in (p1, p2, p3))).double().softmax(-1)
    for area, loop in ((1, p1), (2, group.compose(p1, p2))):
        trace = group.retrace(loop)
        mean = float((weight * trace).sum())
        error = float((weight * (trace - mean)).square().sum().sqrt())
        assert abs(mean - exact.wilson_loop(group, beta, area, volume=3)) < 3.5 * error
    # the larger loop feels the torus: its infinite-volume value would not do
    assert abs(mean - exact.wilson_loop(group, beta, 2)) > 3.5 * error


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_wilson_loop_limits(group):
    assert exact.wilson_loop(group, 2.0, 0, volume=9) == pytest.approx(1, rel=1e-13)
    assert exact.wilson_loop(group, 2.0, 4) == pytest.approx(exact.plaquette(group, 2.0) ** 4, rel=1e-13)
    assert exact.wilson_loop(group, 2.0, 4, volume=400) == pytest.approx(exact.wilson_loop(group, 2.0, 4), rel=1e-12)
    assert exact.plaquette(group, 0.0) == exact.wilson_loop(group, 0.0, 2, volume=9) == 0
    assert exact.log_partition(group, 0.0, 16) == 0


def test_inside_and_outside_of_an_abelian_loop():
    for area in range(10):
        inside, outside = (exact.wilson_loop(U1(), 1.3, a, volume=9) for a in (area, 9 - area))
        assert inside == pytest.approx(outside, rel=1e-12)
    assert exact.plaquette(U1(), 1.3, volume=1) == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize(("group", "beta"), [(U1(), 1000.0), (SU(2), 1000.0), (SU(3), 100.0), (SU(4), 50.0)], ids=str)
def test_weak_coupling(group, beta):
    """1 - <P> -> dim(G) / 2 beta: every generator is a Gaussian mode."""
    generators = 1 if group == U1() else group.n**2 - 1
    assert 2 * beta * (1 - exact.plaquette(group, beta)) == pytest.approx(generators, rel=1 / beta)
    assert math.isfinite(exact.log_partition(group, beta, 64 * 64))
    assert 0 < exact.plaquette(group, beta, 16) - exact.plaquette(group, beta) < 1 / beta


@pytest.mark.parametrize("volume", [3, 4, 16, 256])
def test_charge_without_action(volume):
    """At beta = 0 the angles are uniform, each of variance (2 pi)^2 / 12."""
    assert exact.topological_charge_squared(0.0, volume) == pytest.approx(volume / 12, rel=1e-12)


@pytest.mark.parametrize("beta", [0.4, 2.0, 9.0])
def test_charge_of_three_plaquettes(beta):
    """Two angles are free, and Q = +-1 where their sum leaves (-pi, pi): an integral over a triangle."""
    x, w = np.polynomial.legendre.leggauss(60)
    unit, w = (x + 1) / 2, w / 2

    def weight(a, b):
        return np.exp(beta * (np.cos(a) + np.cos(b) + np.cos(a + b)))

    a, b = np.meshgrid(np.arange(64), np.arange(64)) * np.array(2 * math.pi / 64)
    total = weight(a, b).mean() * (2 * math.pi) ** 2
    first = math.pi * unit[:, None]
    charged = 2 * (math.pi * w[:, None] * first * w * weight(first, math.pi - first * unit)).sum()
    assert exact.topological_charge_squared(beta, 3) == pytest.approx(charged / total, rel=1e-12)


def test_charge_of_tiny_and_of_large_volumes():
    assert exact.topological_charge_squared(2.0, 1) == exact.topological_charge_squared(2.0, 2) == 0
    infinite = exact.topological_susceptibility(2.0)
    assert exact.topological_susceptibility(2.0, 64 * 64) == pytest.approx(infinite, rel=1e-10)
    # the continuum, where Q is a sum of Gaussian fluxes of variance 1 / (4 pi^2 beta) each
    assert 4 * math.pi**2 * 1000 * exact.topological_susceptibility(1000.0) == pytest.approx(1, rel=1e-3)
    assert 0 <= exact.topological_charge_squared(100.0, 16) < 1e-14


def wilson(group, beta, sites):
    return Wilson(GaugeField(group, sites), beta)


def test_exact_value_knows_the_standard_observables():
    sites = (6, 8)
    assert exact_value("plaquette", wilson(SU(3), 6.0, sites)) == exact.plaquette(SU(3), 6.0, 48)
    assert exact_value("wilson_loop_2x2", wilson(SU(2), 2.2, sites)) == exact.wilson_loop(SU(2), 2.2, 4, 48)
    assert exact_value("wilson_loop_2x3", wilson(U1(), 2.2, sites)) == exact.wilson_loop(U1(), 2.2, 6, 48)
    assert exact_value("topological_charge", wilson(U1(), 2.0, sites)) == 0
    squared = exact.topological_charge_squared(2.0, 48)
    assert exact_value("topological_charge_squared", wilson(U1(), 2.0, sites)) == squared
    assert exact_value("plaquette", wilson(U1(), 2.0, sites).at(0.0)) == 0


def test_squared_polyakov_loops_in_both_limits():
    """Haar's measure: V / T independent loops of <|tr U / N|^2> = 1 / N^2. At large beta they are all alike."""
    for group, n in ((U1(), 1), (SU(2), 2), (SU(3), 3)):
        assert exact.polyakov_loop_squared(group, 0.0, 4, volume=24) == pytest.approx(1 / n**2 / 6)
    assert exact.polyakov_loop_squared(U1(), 2000.0, 2, volume=4) == pytest.approx(1, abs=2e-3)
    assert exact.mean_polyakov_loop_squared(wilson(U1(), 1.0, (4, 4, 4)), 0) is None
    assert exact.mean_polyakov_loop_squared(wilson(SU(2), 2.0, (4, 6)), 0) == pytest.approx(0.044706, abs=1e-6)


class MoreThanWilson(Wilson):
    """With another term."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("name", "group", "sites", "action"),
    [
        ("plaquette", SU(3), (8, 8, 8), Wilson),
        ("plaquette", SU(3), (8, 8), Iwasaki),
        ("plaquette", SU(3), (8, 8), MoreThanWilson),
        ("plaquette", SU(9), (8, 8), Wilson),
        ("polyakov_loop", SU(3), (8, 8), Wilson),
        ("topological_charge", SU(2), (8, 8), Wilson),
        ("topological_charge", U1(), (4, 4, 4, 4), Wilson),
        ("topological_charge_squared", SU(2), (8, 8), Wilson),
        ("wilson_loop_2x2", SU(2), (2, 8), Wilson),
        ("wilson_loop_3x8", SU(2), (6, 8), Wilson),
        ("wilson_loop_0x2", SU(2), (6, 8), Wilson),
        ("energy", U1(), (8, 8), Wilson),
    ],
    ids=str,
)
def test_exact_value_is_none_without_a_formula(name, group, sites, action):
    assert exact_value(name, action(GaugeField(group, sites), beta=2.0)) is None


def test_known_groups():
    assert [group for group in (U1(), *map(SU, range(2, 8))) if known(group)] == [U1(), SU(2), SU(3), SU(4), SU(5)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact.plaquette(SU(9), 1.0), r"SU\(9\); available: U\(1\), SU\(2\), SU\(3\)"),
        (lambda: exact.plaquette(SU(2), -1.0), "beta must be finite and >= 0, got -1.0"),
        (lambda: exact.plaquette(SU(2), math.nan), "beta must be finite"),
        (lambda: exact.plaquette(SU(2), 1.0, volume=0), "volume"),
        (lambda: exact.log_partition(SU(2), 1.0, 2.5), "volume"),
        (lambda: exact.wilson_loop(SU(2), 1.0, 5, volume=4), "area"),
        (lambda: exact.wilson_loop(SU(2), 1.0, -1), "area"),
        (lambda: exact.polyakov_loop_squared(SU(2), 1.0, 3, volume=16), "the extent must divide the volume 16, got 3"),
        (lambda: exact.wilson_loop(SU(2), 1.0, 1.5), "area"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
