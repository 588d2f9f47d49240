"""The tail of importance weights, which tells whether means and an ESS can be trusted."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.weights import checked_weights

# fewer weights than this are no tail
_SHORTEST = 5
# the prior of the shape: its weight in numbers of weights, and its mean
_PRIOR_COUNT, _PRIOR_SHAPE = 10, 0.5


class ParetoTail(NamedTuple):
    """The generalised Pareto distribution of the largest weights: 1 / k is the number of their moments.

    The ESS and errors of reweighted means need k < 1/2; up to 0.7 they converge, slowly.
    """

    k: float
    """The shape; -inf if the largest weights are equal, inf if they are too few for a fit."""
    error: float
    """The standard error of k, (1 + k) / sqrt(n_tail); nan where k is infinite."""
    threshold: float
    """min(1 - 1 / log10 n, 0.7), the largest k that n weights can bear."""
    n_tail: int
    """The number of weights in the fit."""

    @property
    def trusted(self) -> bool:
        """Whether k is at most the threshold."""
        return self.k <= self.threshold

    @property
    def warning(self) -> str:
        """One line if the weights cannot be trusted, else an empty string.

        Example:
            >>> ParetoTail(k=0.912, error=0.11, threshold=0.7, n_tail=300).warning
            'do not trust the weights: Pareto k = 0.91 +- 0.11 is above 0.70, so a few samples carry the ESS and all...
        """
        if self.trusted:
            return ""
        if self.k == math.inf:
            return "do not trust the weights: too few of them stand out for a Pareto k, give more samples"
        return (
            f"do not trust the weights: Pareto k = {self.k:.2f} +- {self.error:.2f} is above {self.threshold:.2f}, so "
            "a few samples carry the ESS and all reweighted means; train longer, or give more samples"
        )


def pareto_tail(log_w: Tensor | ArrayLike) -> ParetoTail:
    """Fit the largest min(n / 5, 3 sqrt(n)) of n weights by a generalised Pareto distribution.

    For the sake of short tails, ten more weights draw the shape of M weights to 1/2: (M k + 10/2) / (M + 10).

    Shapes: log_w `(n,)`, -inf for a weight of zero.

    Raises:
        InvalidInput: as `ess`, or another shape.

    Source: A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry, 1507.02646.

    Example:
        >>> log_w = np.random.default_rng(0).exponential(scale=0.3, size=100_000)  # P(w > t) = t^(-1/0.3): k = 0.3
        >>> tail = pareto_tail(log_w)
        >>> print(f"{tail.k:.2f} +- {tail.error:.2f}, {tail.trusted}")
        0.31 +- 0.04, True
    """
    logs = checked_weights(torch.as_tensor(log_w))
    if logs.ndim != 1:
        raise InvalidInput(f"log_w must have shape (n,), got {tuple(logs.shape)}; one tail at a time")
    n = len(logs)
    threshold = min(1 - 1 / math.log10(n), 0.7) if n > 1 else -math.inf
    size = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    # the largest weights and, before them, the weight where the tail begins
    largest = np.sort(logs.topk(min(n, size + 1)).values.detach().cpu().numpy())
    tail = largest[largest > largest[0]]
    # w - w_0 without the digits that a difference would lose
    excess = np.exp(tail) * -np.expm1(largest[0] - tail)
    excess = excess[excess > 0]
    m = len(excess)
    if size < _SHORTEST or 0 < m < _SHORTEST:
        return ParetoTail(math.inf, math.nan, threshold, m)
    if m == 0:
        return ParetoTail(-math.inf, math.nan, threshold, 0)
    k, _ = fit_generalised_pareto(excess)
    k = (m * k + _PRIOR_COUNT * _PRIOR_SHAPE) / (m + _PRIOR_COUNT)
    return ParetoTail(k, (1 + max(k, -0.5)) / math.sqrt(m), threshold, m)


def fit_generalised_pareto(x: ArrayLike) -> tuple[float, float]:
    """Shape k and scale sigma of P(X > x) = (1 + k x / sigma)^(-1 / k), from draws x > 0.

    theta = -k / sigma is averaged over a grid, with the likelihood at the best k of each theta. This replaces a search
    for the maximum. The standard error of k is (1 + k) / sqrt(n).

    Shapes: x `(n,)`.

    Raises:
        InvalidInput: no draws, or one that is not finite and > 0.

    Source: J. Zhang, M. A. Stephens, Technometrics 51 (2009) 316.

    Example:
        >>> u = np.random.default_rng(0).uniform(size=4000)
        >>> k, sigma = fit_generalised_pareto(2.0 * (u**-0.4 - 1) / 0.4)
        >>> print(f"{k:.2f} {sigma:.2f}")
        0.41 2.02
    """
    x = np.sort(np.asarray(x, dtype=np.float64))
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all() or x[0] <= 0:
        raise InvalidInput(f"a Pareto fit needs draws (n,) that are finite and > 0, got shape {x.shape}")
    n = len(x)
    grid = 30 + math.isqrt(n)
    quartile = x[max(0, math.floor(n / 4 + 0.5) - 1)]
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    shape = np.array([_shape(x, one) for one in theta])
    log_likelihood = n * (np.log(-theta / shape) - shape - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    best = float(theta @ weights / weights.sum())
    k = _shape(x, best)
    return k, -k / best


def _shape(x: NDArray[np.float64], theta: float) -> float:
    """The most likely k for theta = -k / sigma."""
    return float(np.log1p(-theta * x).mean())
