"""Control variates: smaller errors of means by quantities whose mean is known to be zero."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.estimate import Estimate, estimate
from lattice_flows.statistics.moves import Moves
from lattice_flows.statistics.series import Array, Series, chains_of

PER_COEFFICIENT = 4
"""The number of measurements, of those that a fit sees, for each coefficient."""


LEAST = 1e-5
"""Combinations of control variates that vary less, relative to others, are rounding errors, whose mean is not zero."""


class Improved(NamedTuple):
    """The improved estimate of a mean, and how much less the improved series varies."""

    estimate: Estimate
    gain: float
    """The variance without control variates over that with them."""
    series: list[Array]
    """The improved measurements of each chain; their mean is the improved estimate."""
    coefficients: Array
    """Those `(k,)` that are given, or else fitted to all measurements, for use in other ensembles."""


def check_enough(count: int, lengths: Sequence[int]) -> None:
    """Raise InvalidInput if chains of these lengths are too short to fit so many coefficients."""
    if sum(length // 2 for length in lengths) < PER_COEFFICIENT * count:
        raise InvalidInput(
            f"{count} control variates need chains of {2 * PER_COEFFICIENT * count} measurements in all, as each half "
            f"fits their coefficients; got {sum(lengths)}"
        )


def halves_of(chains: Sequence[Array]) -> list[tuple[slice, slice]]:
    """The first and the second half of each chain."""
    return [(slice(0, len(chain) // 2), slice(len(chain) // 2, None)) for chain in chains]


def fitted(y: Array, z: Array, least: float = LEAST) -> Array:
    """The coefficients c `(k,)` for which y - z c varies least, y `(n,)` and z `(n, k)`.

    Combinations of columns that vary less than `least`, relative to others, are left out.
    """
    scale = z.std(0)
    scale = np.where(scale > 0, scale, np.inf)
    return np.linalg.lstsq((z - z.mean(0)) / scale, y - y.mean(), rcond=least)[0] / scale


def improved(
    series: Series,
    zeros: Array | Sequence[Array],
    moves: Moves | None = None,
    every: int = 1,
    coefficients: Array | None = None,
) -> Improved:
    """The mean of a series O, from O - sum_i c_i Z_i with quantities Z_i of mean zero.

    The coefficients that minimise the variance are fitted on one half of every chain and used in the other, so that the
    estimate has no bias; it has none either with coefficients of another ensemble. The error is that of the Gamma
    method.

    Shapes: series `(n,)`; or `(chains, n)`, or a list of `(n_i,)`, for several chains; zeros the same with a last axis
    for the control variates.

    Args:
        moves, every: as for `estimate`.
        coefficients: c `(k,)` of another ensemble, in place of fits.

    Raises:
        InvalidInput: series and zeros differ in shape, too few measurements for so many coefficients, or as `estimate`.

    Source: R. Assaraf and M. Caffarel, Phys. Rev. Lett. 83 (1999) 4682.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> z, noise = rng.normal(size=(1000, 2)), rng.normal(size=1000)
        >>> result = improved(5 + z[:, 0] - 2 * z[:, 1] + 0.1 * noise, z)
        >>> print(result.estimate, f"{result.gain:.0f}")
        4.995(3) 517
    """
    own = chains_of(series)
    single = len(own) == 1 and np.shape(zeros)[:1] == own[0].shape
    given = [np.asarray(chain, np.float64) for chain in ([zeros] if single else zeros)]
    if [chain.shape[:-1] for chain in given] != [chain.shape for chain in own]:
        shapes = [chain.shape for chain in given], [chain.shape for chain in own]
        raise InvalidInput(f"control variates need a last axis behind the shape of the series, got {shapes}")
    if coefficients is None:
        better, coefficients = _cross_fitted(own, given), fitted(np.concatenate(own), np.concatenate(given))
    else:
        better = [chain - z @ coefficients for chain, z in zip(own, given, strict=True)]
    variances = [np.concatenate(chains).var() for chains in (own, better)]
    gain = float(variances[0] / variances[1]) if variances[1] else float("inf" if variances[0] else "nan")
    return Improved(estimate(better, moves, every), gain, better, coefficients)


def _cross_fitted(own: Sequence[Array], given: Sequence[Array]) -> list[Array]:
    """The chains without the control variates, by the coefficients of the other half of each of them."""
    halves = halves_of(own)
    check_enough(given[0].shape[-1], list(map(len, own)))
    better = [chain.copy() for chain in own]
    for fit, use in ((0, 1), (1, 0)):
        z = np.concatenate([chain[half[fit]] for chain, half in zip(given, halves, strict=True)])
        y = np.concatenate([chain[half[fit]] for chain, half in zip(own, halves, strict=True)])
        coefficients = fitted(y, z)
        for new, chain, half in zip(better, given, halves, strict=True):
            new[half[use]] -= chain[half[use]] @ coefficients
    return better
