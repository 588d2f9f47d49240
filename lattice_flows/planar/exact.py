"""Exact values of the Wilson action on a two-dimensional periodic lattice of V plaquettes, in lattice units."""

import math
import re
from typing import TypeGuard

import numpy as np
import scipy

from lattice_flows.actions import Action, Wilson
from lattice_flows.config.registry import OBSERVABLES
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import U1, Group
from lattice_flows.planar.characters import Array, characters, fuse, known


def log_partition(group: Group, beta: float, volume: int) -> float:
    """log Z of S = -(beta/N) sum_P Re tr P with normalised Haar measure, Z = sum_r (c_r / d_r)^V.

    Raises:
        InvalidInput: a group without a formula, beta < 0, or a volume that is no integer >= 1.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413.

    Example:
        >>> from lattice_flows import SU
        >>> round(log_partition(SU(3), beta=6.0, volume=64), 6)
        79.096966
    """
    volume = _checked_volume(volume)
    table = characters(group, beta)
    return volume * table.log_trivial + math.log((table.ratio**volume).sum())


def wilson_loop(group: Group, beta: float, area: int, volume: int | None = None) -> float:
    """<Re tr W / N> of a contractible loop around `area` plaquettes that does not cross itself.

    In infinite volume, the default, it is (lambda_F / lambda_0)^A with lambda_r = c_r / d_r. On the torus

        <tr W> = (1/Z) sum_{r,s} (d_s / d_r) N_{sF}^r lambda_s^A lambda_r^(V-A),

    with N_{sF}^r the multiplicity of r in the product of s and the fundamental representation F.

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
    inside = fuse(table.dimension * table.ratio**area, table.weights)
    traces = (inside * table.ratio ** (volume - area) / table.dimension).sum() / (table.ratio**volume).sum()
    return float(traces) / len(table.weights)


def polyakov_loop_squared(group: Group, beta: float, extent: int, volume: int) -> float:
    """<|L|^2> of the average L of tr / N over the Polyakov loops of length `extent` on a torus.

    Loops at the distance x have

        <tr L(0)^* tr L(x)> = (1/Z) sum_{r,s} N_{sF}^r lambda_s^(x T) lambda_r^(V - x T),

    with T = `extent`, and <|L|^2> is 1 / N^2 times the mean over x = 0 ... V/T - 1.

    Raises:
        InvalidInput: as `log_partition`, or a volume that is no multiple of the extent.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413; B. E. Rusakov, Mod. Phys. Lett. A 5 (1990) 693.

    Example:
        >>> from lattice_flows import SU
        >>> round(polyakov_loop_squared(SU(2), beta=2.0, extent=4, volume=24), 6)
        0.044706
    """
    volume = _checked_volume(volume)
    if extent != int(extent) or extent < 1 or volume % extent:
        raise InvalidInput(f"the extent must divide the volume {volume}, got {extent}")
    table = characters(group, beta)
    areas = np.arange(0, volume, int(extent))
    pairs = [(fuse(table.ratio**area, table.weights) * table.ratio ** (volume - area)).sum() for area in areas]
    return float(np.mean(pairs) / (table.ratio**volume).sum()) / len(table.weights) ** 2


def plaquette(group: Group, beta: float, volume: int | None = None) -> float:
    """<Re tr P / N> = (1/V) d log Z / d beta: `wilson_loop` of area 1, with its errors and source.

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
    """<Q^2> / V of U(1), with the errors and source of <Q^2>; by default in infinite volume, where it is -z_0''/ z_0.

    Example:
        >>> round(256 * topological_susceptibility(beta=7.0, volume=256), 5)
        1.00641
    """
    if volume is not None:
        return topological_charge_squared(beta, volume) / volume
    ratio, _, second = _theta_derivatives(beta)
    return -float(second[len(ratio) // 2])


def mean_plaquette(action: Action) -> float | None:
    """<Re tr P / N>, or None where no formula is known."""
    return mean_wilson_loop(action, 1, 1)


def mean_wilson_loop(action: Action, r: int, t: int) -> float | None:
    """<Re tr W / N> of the r x t Wilson loop, or None where no formula is known or the loop does not fit."""
    if not _solved(action) or max(r, t) >= min(action.space.lattice.extents):
        return None
    return wilson_loop(action.space.group, action.beta, r * t, action.space.volume)


def mean_wilson_loop_2x2(action: Action) -> float | None:
    """<Re tr W / N> of the 2 x 2 Wilson loop, as `mean_wilson_loop`."""
    return mean_wilson_loop(action, 2, 2)


def mean_polyakov_loop_squared(action: Action, direction: int) -> float | None:
    """<|L|^2> of the average Polyakov loop along a direction, or None where no formula is known."""
    if not _solved(action):
        return None
    space = action.space
    return polyakov_loop_squared(space.group, action.beta, space.lattice.extents[direction], space.volume)


def mean_charge(action: Action) -> float | None:
    """<Q> = 0 by symmetry, or None where the geometric charge or a formula is missing."""
    return 0.0 if _solved(action) and action.space.group.abelian else None


def mean_charge_squared(action: Action) -> float | None:
    """<Q^2>, or None where the geometric charge or a formula is missing."""
    if not _solved(action) or not action.space.group.abelian:
        return None
    return topological_charge_squared(action.beta, action.space.volume)


def exact_value(name: str, action: Action) -> float | None:
    """The exact mean of the observable called `name`, or None where no formula is known.

    Names are those of `standard_observables`, and `wilson_loop_RxT` for loops that fit. Formulas are those of the
    Wilson action in two dimensions.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> round(exact_value("plaquette", Wilson(GaugeField(SU(3), (16, 16)), beta=6.0)), 7)
        0.4225317
        >>> exact_value("plaquette", Wilson(GaugeField(SU(3), (8, 8, 8, 8)), beta=6.0)) is None
        True
    """
    if name in OBSERVABLES:
        return OBSERVABLES[name].exact_mean(action)
    loop = re.fullmatch(r"wilson_loop_([1-9]\d*)x([1-9]\d*)", name)
    return mean_wilson_loop(action, int(loop[1]), int(loop[2])) if loop else None


def log_z(action: Action) -> float | None:
    """log Z with normalised Haar measure, or None where no formula is known; at beta = 0 it is 0.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.actions import Wilson
        >>> round(log_z(Wilson(GaugeField(SU(2), (4, 6)), beta=2.0)), 6)
        11.139227
    """
    return log_partition(action.space.group, action.beta, action.space.volume) if _solved(action) else None


def _solved(action: Action) -> TypeGuard[Wilson]:
    """Whether this is the Wilson action in two dimensions, of a group with known characters."""
    # of this class itself: a subclass may have more terms
    return type(action) is Wilson and action.space.dim == 2 and known(action.space.group)


def _theta_derivatives(beta: float) -> tuple[Array, Array, Array]:
    """z_n, dz_n/dtheta and d^2 z_n/dtheta^2 at theta = 0, all divided by z_0, for n = -size ... size."""
    ratio = characters(U1(), beta).ratio
    size = len(ratio) // 2
    n = np.arange(-size, size + 1)[:, None]
    # the frequencies of e^{beta cos phi} and cos(n phi) reach size: the integrand is a polynomial of degree about
    # pi * size on the half circle, exact with half as many Gauss points
    x, weights = scipy.special.roots_legendre(2 * size + 64)
    phi = math.pi * (x + 1) / 2
    density = weights * np.exp(beta * (np.cos(phi) - 1))
    density /= density.sum()
    first = -(np.sin(n * phi) * phi * density).sum(axis=1) / (2 * math.pi)
    second = -(np.cos(n * phi) * phi**2 * density).sum(axis=1) / (2 * math.pi) ** 2
    return ratio, first, second


def _checked_volume(volume: int) -> int:
    if volume != int(volume) or volume < 1:
        raise InvalidInput(f"volume must be a number of plaquettes, an integer >= 1, got {volume}")
    return int(volume)
