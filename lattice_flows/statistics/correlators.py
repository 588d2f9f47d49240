"""Connected correlators of time slices, improved by control variates on both sides, and effective masses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.control_variates import check_enough, fitted, halves_of
from lattice_flows.statistics.series import Array


class ImprovedSlices(NamedTuple):
    """Slices O'(t) = O(t) + sum_i c_i Z_i(t) of each chain, and the coefficients of its first and second half."""

    series: list[Array]
    coefficients: Array
    """`(2, n_variates)`; those of a half are fitted in the other one."""


def improved_slices(series: Sequence[Array], zeros: Sequence[Array]) -> ImprovedSlices:
    """Fit c, the same for all slices, on one half of every chain, and use it in the other.

    Shapes: a list of `(n_i, T)` for the chains, and of `(n_i, T, n_variates)`.

    Raises:
        InvalidInput: the shapes do not fit, or as `check_enough`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> z, noise = rng.normal(size=(400, 8, 2)), rng.normal(size=(400, 8))
        >>> found = improved_slices([z[..., 0] - 2 * z[..., 1] + 0.1 * noise], [z])
        >>> found.coefficients.round(1)
        array([[-1.,  2.],
               [-1.,  2.]])
    """
    if [own.shape for own in series] != [own.shape[:-1] for own in zeros] or any(own.ndim != 2 for own in series):
        raise InvalidInput(
            "control variates of slices need a last axis behind (n, T) of the series, got "
            f"{[own.shape for own in zeros]} and {[own.shape for own in series]}"
        )
    check_enough(zeros[0].shape[-1], [own.size for own in series])
    halves = halves_of(series)
    better, coefficients = [np.array(own, np.float64) for own in series], []
    for fit, use in ((1, 0), (0, 1)):
        y = np.concatenate([own[half[fit]].ravel() for own, half in zip(series, halves, strict=True)])
        z = np.concatenate([own[half[fit]].reshape(-1, own.shape[-1]) for own, half in zip(zeros, halves, strict=True)])
        coefficients.append(-fitted(y, z))
        for new, own, half in zip(better, zeros, halves, strict=True):
            new[half[use]] += own[half[use]] @ coefficients[-1]
    return ImprovedSlices(better, np.stack(coefficients))


def connected(series: Sequence[Array]) -> list[Array]:
    """Products of slices t apart, less the mean: their means are the connected correlator C(t), t = 0 ... T / 2.

    Shapes: a list of `(n_i, T)` for the chains -> of `(n_i, T // 2 + 1)`, averaged over all pairs of slices.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(1000, 4))
        >>> connected([5 + x])[0].mean(0).round(1) + 0.0
        array([1., 0., 0.])
    """
    mean = np.concatenate(series).mean()
    parts = ((own - mean, own.shape[1]) for own in series)
    return [np.stack([(own * np.roll(own, -t, 1)).mean(1) for t in range(last // 2 + 1)], -1) for own, last in parts]


def effective_masses(correlator: Array) -> Array:
    """m(t) = log[C(t) / C(t + 1)] `(n - 1,)` of a correlator `(n,)`; nan where one of the two is negative.

    Example:
        >>> effective_masses(np.exp(-0.5 * np.arange(4)))
        array([0.5, 0.5, 0.5])
    """
    return -np.diff(np.log(np.where(np.asarray(correlator) > 0, correlator, np.nan)))
