"""R-hat: whether chains that began apart have come to agree."""

import math

import numpy as np
from scipy.special import ndtri

from lattice_flows.measurement.series import Array, Series, chains_of


def r_hat(series: Series) -> float:
    """The rank-normalised split R-hat: 1.00 where chains agree, above 1.01 where they should run longer.

    The larger of two `split_r_hat`: of z = Phi^-1((rank - 3/8) / (n + 1/4)), which sees means that differ and needs no
    moments, and of the same of |x - median|, which sees spreads that differ.

    Shapes: `(chains, n)` or a list of `(n_i,)`, of which the last measurements are taken, as many as the shortest has;
    the two halves of a chain `(n,)` can disagree, too.

    Returns:
        inf for chains that never move and disagree; nan for chains that never move and agree: nothing is known then.

    Raises:
        InvalidInput: as `estimate`.

    Source: A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Burkner, 1903.08008.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4, 1000))
        >>> print(f"{r_hat(x):.3f} {r_hat(x + [[0], [0], [0], [1]]):.3f}")
        1.000 1.115
    """
    halves = _halves(series)
    return float(np.fmax(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(np.abs(halves - np.median(halves))))))


def split_r_hat(series: Series) -> float:
    """R-hat of the halves of chains, sqrt((within (n - 1) / n + between / n) / within), where there is a variance.

    `within` is the mean of the variances of m half chains of n measurements, `between` n times the variance of their
    means.

    Shapes, Returns, Raises: as `r_hat`.

    Source: A. Gelman, D. B. Rubin, Statist. Sci. 7 (1992) 457; split as in 1903.08008.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4, 1000))
        >>> print(f"{split_r_hat(x):.3f}")
        1.000
    """
    return _r_hat(_halves(series))


def _halves(series: Series) -> Array:
    chains = chains_of(series)
    half = min(len(chain) for chain in chains) // 2
    return np.stack([part for chain in chains for part in (chain[-2 * half : -half], chain[-half:])])


def _normal_scores(x: Array) -> Array:
    from scipy.stats import rankdata  # here, because it takes as long to load as all the rest

    return ndtri((rankdata(x).reshape(x.shape) - 0.375) / (x.size + 0.25))


def _r_hat(x: Array) -> float:
    n = x.shape[-1]
    # decided on the values, as rounded variances are not 0
    moves = (x != x[:, :1]).any()
    between = n * x.mean(-1).var(ddof=1)
    if not moves:
        return math.nan if (x == x[0, 0]).all() else math.inf
    within = x.var(-1, ddof=1).mean()
    return float(np.sqrt((n - 1) / n + between / (n * within)))
