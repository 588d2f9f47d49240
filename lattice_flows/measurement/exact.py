"""Exact values of the Wilson action on a two-dimensional periodic lattice of V plaquettes, in lattice units."""

import math
import re
from collections.abc import Sequence

import numpy as np
from scipy.special import roots_legendre

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import U1
from lattice_flows.measurement.characters import Array, Named, characters


def log_partition(group: Named, beta: float, volume: int) -> float:
    """log Z of S = -(beta/N) sum_P Re tr P with normalised Haar measure, Z = sum_r (c_r / d_r)^V.

    Raises:
        InvalidInput: a group without a formula, beta < 0, or a volume that is not a positive integer.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413.

    Example:
        >>> from lattice_flows import SU
        >>> round(log_partition(SU(3), beta=6.0, volume=64), 6)
        79.096966
    """
    volume = _checked_volume(volume)
    table = characters(group, beta)
    return volume * table.log_trivial + math.log((table.ratio**volume).sum())


def wilson_loop(group: Named, beta: float, area: int, volume: int | None = None) -> float:
    """<Re tr W / N> of a contractible loop that does not cross itself, in infinite volume unless `volume` is given.

    In infinite volume it is (lambda_F / lambda_0)^A with lambda_r = c_r / d_r. On the torus

        <tr W> = (1/Z) sum_{r,s} (d_s / d_r) N_{sF}^r lambda_s^A lambda_r^(V-A),

    with N_{sF}^r how often r occurs in the product of s and the fundamental representation F.

    Args:
        area: the number A of plaquettes inside the loop.

    Raises:
        InvalidInput: as `log_partition`, or an area that is not an integer from 0 to the volume.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413; B. E. Rusakov, Mod. Phys. Lett. A 5 (1990) 693.

    Example:
        >>> from lattice_flows import SU
        >>> round(wilson_loop(SU(2), beta=2.7, area=4), 6), round(wilson_loop(SU(2), beta=2.7, area=4, volume=16), 6)
        (0.080689, 0.080818)
    """
    volume = None if volume is None else _checked_volume(volume)
    if area != int(area) or area < 0 or (volume is not None and area > volume):
        raise InvalidInput(f"area must be an integer from 0 to the volume {volume}, got {area}")
    table = characters(group, beta)
    if volume is None:
        return table.fundamental**area
    inside = table.fuse(table.dimension * table.ratio**area)
    traces = (inside * table.ratio ** (volume - area) / table.dimension).sum() / (table.ratio**volume).sum()
    return float(traces) / len(table.weights)


def plaquette(group: Named, beta: float, volume: int | None = None) -> float:
    """<Re tr P / N> = (1/V) d log Z / d beta, in infinite volume unless `volume` is given.

    Raises:
        InvalidInput: as `log_partition`.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413.

    Example:
        >>> from lattice_flows import U1
        >>> round(plaquette(U1(), beta=7.0), 7), round(plaquette(U1(), beta=7.0, volume=64), 7)
        (0.9255322, 0.9257004)
    """
    return wilson_loop(group, beta, 1, volume)


def topological_charge_squared(beta: float, volume: int) -> float:
    """<Q^2> of the geometric charge Q = sum_P arg P / 2 pi of U(1).

    <Q^2> = -d^2 log Z(theta) / d theta^2 at theta = 0, with

        Z(theta) = sum_n z_n^V,   z_n(theta) = int dphi / 2 pi  e^{beta cos phi} cos((n + theta / 2 pi) phi).

    Two terms cancel where <Q^2> is exponentially small: the absolute error stays near 1e-14.

    Raises:
        InvalidInput: as `log_partition`.

    Source: C. Bonati, P. Rossi, 1901.09830.

    Example:
        >>> round(topological_charge_squared(beta=2.0, volume=64), 5)
        1.2393
    """
    volume = _checked_volume(volume)
    ratio, first, second = _theta_derivatives(beta)
    if volume < 3:
        return 0.0  # the plaquettes of one or two sites are 1, or each other's inverse
    z = (ratio**volume).sum()
    curvature = volume * (ratio ** (volume - 1) * second).sum()
    curvature += volume * (volume - 1) * (ratio ** (volume - 2) * first**2).sum()
    return max(0.0, -float(curvature / z))  # rounding must not make a square negative


def topological_susceptibility(beta: float, volume: int | None = None) -> float:
    """<Q^2> / V of U(1), in infinite volume unless `volume` is given: there it is -z_0''/ z_0.

    Raises:
        InvalidInput: as `log_partition`.

    Source: C. Bonati, P. Rossi, 1901.09830.

    Example:
        >>> round(256 * topological_susceptibility(beta=7.0, volume=256), 5)
        1.00641
    """
    if volume is not None:
        return topological_charge_squared(beta, volume) / volume
    ratio, _, second = _theta_derivatives(beta)
    return -float(second[len(ratio) // 2])


def exact_value(
    name: str, group: Named, beta: float, sites: Sequence[int], action_name: str = "wilson"
) -> float | None:
    """The exact mean of the observable that `standard_observables` calls `name`, or None where no formula is known.

    Known for the Wilson action in two dimensions: `plaquette`, `wilson_loop_RxT` for loops that fit the lattice, and
    for U(1) `topological_charge` (0 by symmetry) and `topological_charge_squared`.

    Raises:
        InvalidInput: beta < 0.

    Example:
        >>> from lattice_flows import SU
        >>> round(exact_value("plaquette", SU(3), beta=6.0, sites=(16, 16)), 7)
        0.4225317
        >>> exact_value("plaquette", SU(3), beta=6.0, sites=(8, 8, 8, 8)) is None
        True
    """
    if action_name != "wilson" or len(sites) != 2 or not _has_formula(group):
        return None
    volume = math.prod(sites)
    loop = re.fullmatch(r"wilson_loop_(\d+)x(\d+)", name)
    if name == "plaquette":
        return plaquette(group, beta, volume)
    if loop and max(map(int, loop.groups())) < min(sites):
        return wilson_loop(group, beta, int(loop[1]) * int(loop[2]), volume)
    if group.name == U1().name and name == "topological_charge":
        return 0.0
    if group.name == U1().name and name == "topological_charge_squared":
        return topological_charge_squared(beta, volume)
    return None


def _theta_derivatives(beta: float) -> tuple[Array, Array, Array]:
    """z_n, dz_n/dtheta and d^2 z_n/dtheta^2 at theta = 0, all divided by z_0, for n = -size ... size."""
    ratio = characters(U1(), beta).ratio
    size = len(ratio) // 2
    n = np.arange(-size, size + 1)[:, None]
    # e^{beta cos phi} and cos(n phi) have frequencies up to size (beyond, there is nothing a double can see), so the
    # integrand is a polynomial of degree about pi * size on the half circle: exact with half as many Gauss points
    x, weights = roots_legendre(2 * size + 64)
    phi = math.pi * (x + 1) / 2
    density = weights * np.exp(beta * (np.cos(phi) - 1))
    density /= density.sum()
    first = -(np.sin(n * phi) * phi * density).sum(axis=1) / (2 * math.pi)
    second = -(np.cos(n * phi) * phi**2 * density).sum(axis=1) / (2 * math.pi) ** 2
    return ratio, first, second


def _has_formula(group: Named) -> bool:
    try:
        characters(group, 0.0)
    except InvalidInput:
        return False
    return True


def _checked_volume(volume: int) -> int:
    if volume != int(volume) or volume < 1:
        raise InvalidInput(f"volume must be a number of plaquettes, an integer >= 1, got {volume}")
    return int(volume)
