"""Quantities derived from averages; `jackknife` gives them errors."""

import numpy as np
import scipy
from numpy.typing import ArrayLike

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.series import Array

# the value of t^2 <E> at t_0, and of its logarithmic slope at w_0^2
_TARGET = 0.3


def creutz_ratios(loops: ArrayLike) -> Array:
    """chi(R, T) = -log[W(R, T) W(R-1, T-1) / (W(R, T-1) W(R-1, T))] of average Wilson loops, W(R, 0) = W(0, T) = 1.

    At large R and T it is the string tension: terms of perimeter and corners cancel. A negative loop gives nan.

    Shapes: loops `(*batch, r, t)`, averages of `wilson_loops` -> `(*batch, r, t)`.

    Source: M. Creutz, Phys. Rev. Lett. 45 (1980) 313.

    Example:
        >>> creutz_ratios([[0.8, 0.64], [0.64, 0.4096]])  # an area law
        array([[0.22314355, 0.22314355],
               [0.22314355, 0.22314355]])
    """
    logs = _log(loops)
    logs = np.pad(logs, [(0, 0)] * (logs.ndim - 2) + [(1, 0), (1, 0)])
    return -np.diff(np.diff(logs, axis=-1), axis=-2)


def effective_potential(loops: ArrayLike) -> Array:
    """V(R, T) = log[W(R, T) / W(R, T+1)] of average Wilson loops, which tends to the static potential V(R) at large T.

    A negative loop gives nan.

    Shapes: loops `(*batch, r, t)`, averages of `wilson_loops` with a direction of time -> `(*batch, r, t - 1)`.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> effective_potential([[0.8, 0.64], [0.64, 0.4096]])
        array([[0.22314355],
               [0.4462871 ]])
    """
    return -np.diff(_log(loops), axis=-1)


def susceptibility(mean: ArrayLike, mean_square: ArrayLike, volume: int) -> Array:
    """chi = V (<x^2> - <x>^2), from the averages of an intensive x and of x^2.

    For the Polyakov loop, x is |L| and V the number of loops: the volume without the direction of the loop.

    Shapes: both `(*batch,)` -> `(*batch,)`.

    Source: B. Svetitsky and L. G. Yaffe, Nucl. Phys. B 210 (1982) 423, for the loop as an order parameter.

    Example:
        >>> print(f"{susceptibility(0.5, 0.26, volume=64):.2f}")
        0.64
    """
    return volume * (np.asarray(mean_square, dtype=np.float64) - np.square(np.asarray(mean, dtype=np.float64)))


def t0(times: ArrayLike, density: ArrayLike) -> float:
    """The flow time t_0 with t_0^2 <E(t_0)> = 0.3, E an action density, on the cubic spline through the points.

    The scale of length is sqrt(8 t_0). A jackknife over configurations gives the error:
    `jackknife(lambda mean: t0(times, mean), densities)` with densities `(n_configurations, n)`.

    Shapes: increasing flow times and <E(t)> at these times, both `(n,)`, n >= 4.

    Raises:
        InvalidInput: shapes that do not fit, times that do not increase, or t^2 <E> does not rise through 0.3.

    Source: M. Luscher, 1006.4518.

    Example:
        >>> times = np.linspace(0, 4, 41)
        >>> print(f"{t0(times, 0.1 / (0.01 + times)):.4f}")  # t^2 = 3 t + 0.03
        3.0100
    """
    return _rise(*_flow_curve(times, density), "t^2 <E>")


def w0(times: ArrayLike, density: ArrayLike) -> float:
    """The length w_0 with t d/dt [t^2 <E(t)>] = 0.3 at the flow time t = w_0^2, E an action density.

    Shapes, arguments and errors: as `t0`.

    Source: S. Borsanyi et al., 1203.4469.

    Example:
        >>> times = np.linspace(0, 4, 41)
        >>> print(f"{w0(times, 0.1 / np.maximum(times, 0.1)):.4f}")  # t d/dt (t / 10) = t / 10 at t = 3
        1.7321
    """
    times, curve = _flow_curve(times, density)
    slope = times * scipy.interpolate.CubicSpline(times, curve)(times, 1)
    return float(np.sqrt(_rise(times, slope, "t d/dt t^2 <E>")))


def _log(loops: ArrayLike) -> Array:
    values = np.asarray(loops, dtype=np.float64)
    if values.ndim < 2:
        raise InvalidInput(f"average Wilson loops must be (*batch, r, t), got shape {values.shape}")
    return np.log(np.where(values > 0, values, np.nan))


def _flow_curve(times: ArrayLike, density: ArrayLike) -> tuple[Array, Array]:
    """The times and t^2 <E>."""
    t, e = (np.asarray(x, dtype=np.float64) for x in (times, density))
    if t.ndim != 1 or t.shape != e.shape or len(t) < 4 or not (np.diff(t) > 0).all():
        raise InvalidInput(f"a scale needs densities (n,) at n >= 4 increasing times, got {e.shape} at {t.shape}")
    return t, t**2 * e


def _rise(times: Array, curve: Array, name: str) -> float:
    """The time when a curve first rises through the target."""
    rises = np.flatnonzero((curve[:-1] < _TARGET) & (curve[1:] >= _TARGET))
    if not len(rises):
        raise InvalidInput(f"{name} must rise through {_TARGET}, got at most {curve.max():.3g}; flow longer")
    middle = times[rises[0] : rises[0] + 2].mean()
    roots = scipy.interpolate.CubicSpline(times, curve).solve(_TARGET)
    return float(roots[np.abs(roots - middle).argmin()])
