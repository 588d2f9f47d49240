"""R-hat: whether chains that began apart have come to agree."""

import math

import numpy as np
import scipy

from lattice_flows.statistics.series import Array, Series, chains_of


def r_hat(series: Series) -> float:
    """The rank-normalised split R-hat: 1.00 where chains agree, above 1.01 where they should run longer.

    It is the larger `split_r_hat` of two sets of scores z = Phi^-1((rank - 3/8) / (n + 1/4)). The scores of x see
    different means, and need no moments of x. The scores of |x - median| see different spreads. Chains that never move
    have inf if they disagree, and nan if they agree: nothing is known then.

    Shapes: `(chains, n)`, or a list of `(n_i,)`, cut to the last measurements at the length of the shortest. The two
    halves of a chain `(n,)` can disagree, too. Errors: as `estimate`.

    Source: A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Burkner, 1903.08008.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4, 1000))
        >>> print(f"{r_hat(x):.3f} {r_hat(x + [[0], [0], [0], [1]]):.3f}")
        1.000 1.115
    """

    chains = chains_of(series)
    n = min(len(chain) for chain in chains) // 2
    halves = np.stack([half for chain in chains for half in (chain[-2 * n : -n], chain[-n:])])
    of_values, of_spread = (
        split_r_hat(scipy.special.ndtri((scipy.stats.rankdata(x).reshape(x.shape) - 0.375) / (x.size + 0.25)))
        for x in (halves, np.abs(halves - np.median(halves)))
    )
    return float(np.fmax(of_values, of_spread))


def split_r_hat(halves: Array) -> float:
    """R-hat of m half chains `(m, n)`: sqrt((within (n - 1) / n + between / n) / within).

    `within` is the mean of their variances, `between` n times the variance of their means.

    Source: A. Gelman, D. B. Rubin, Statist. Sci. 7 (1992) 457; split as in 1903.08008.
    """
    n = halves.shape[-1]
    # decided on the values, as rounded variances are not 0
    if (halves == halves[:, :1]).all():
        return math.nan if (halves == halves[0, 0]).all() else math.inf
    between, within = n * halves.mean(-1).var(ddof=1), halves.var(-1, ddof=1).mean()
    return float(np.sqrt((n - 1) / n + between / (n * within)))
