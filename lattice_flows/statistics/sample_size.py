"""The effective sample size of independent weights, with an error, or with the reason why there is none."""

import math

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lattice_flows.statistics.estimate import Estimate
from lattice_flows.statistics.series import Array
from lattice_flows.statistics.weights import checked_weights, ess, largest_weights, pareto_tail

DOUBT = 0.05
"""There is no error where the weights have no second moment with a larger probability."""
_SHAPES = (np.arange(24) + 0.5) / 24  # of k; their cells meet at 1/2
_SCALES = np.linspace(-5, 5, 15)  # of log sigma, in units of 1 / sqrt(m)


def estimate_ess(log_w: Tensor | ArrayLike) -> Estimate:
    """The effective sample size of independent weights, with its error.

    The largest weights decide about it, and a sample mostly lacks them: its own ESS is too large. So the tail is that
    of a generalised Pareto distribution, whose shape k has a uniform prior in (0, 1), and whose scale has a uniform
    logarithm; weights below the tail count as they are. The value is the middle of the central 68 percent of the
    posterior of the ESS, which is 0 for k >= 1/2, and the error half their width. A posterior holds also where one
    looks at k first. If k >= 1/2 with more than 5 percent, there is an upper bound in words, and the value is that of
    the sample.

    Shapes: log_w `(n,)`, -inf for a weight of zero. Errors: as `pareto_tail`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(estimate_ess(0.5 * rng.normal(size=10_000)))  # exactly exp(-1/4) = 0.779
        0.783(4)
        >>> print(estimate_ess(2.0 * rng.normal(size=10_000)))  # exactly exp(-4) = 0.018
        0.02509, at most 0.039, as Pareto k = 0.61 +- 0.09 leaves the weights without a second moment
    """
    logs = checked_weights(torch.as_tensor(log_w))
    value, tail, n = float(ess(logs)), pareto_tail(logs), len(logs)
    reason, error = "", math.nan
    if tail.k == -math.inf:
        reason = "the largest weights are equal: no tail to judge by"
    elif not math.isfinite(tail.k):
        reason = "an upper bound: too few weights stand out for a Pareto k"
    else:
        likelihood, center, spread = _posterior(logs)
        chance, finite = scipy.special.softmax(likelihood), len(center)
        if chance[finite:].sum() > DOUBT:
            bound = _quantile(scipy.special.softmax(likelihood[:finite]), center, spread, 2)
            words = f"Pareto k = {tail.k:.2f} +- {tail.error:.2f} leaves the weights without a second moment"
            reason = f"at most {bound:.2g}, as {words}"
        else:
            low, high = (_quantile(chance[:finite], center, spread, sigma) for sigma in (-1, 1))
            value, error = (low + high) / 2, (high - low) / 2
    # in units of the mean: independent weights have tau_int = 1/2
    return Estimate(value, error, 0.5, 0.0, 0, n, reason=reason)


def _posterior(logs: Tensor) -> tuple[Array, Array, Array]:
    """The log-likelihood of each k and sigma; for k < 1/2 log ESS, and its error by the weights below the tail.

    Shapes: `(shapes, scales)`, and `(shapes / 2, scales)`.
    """
    start, excess = largest_weights(logs)
    n, m, unit = len(logs), len(excess), start + float(np.median(excess))
    # d = x - 1 of x = w / unit, which keeps the digits of weights that hardly differ
    d, begin, y = np.expm1(np.sort(logs.numpy())[: n - m] - math.log(unit)), start / unit - 1, excess / unit
    k = _SHAPES[:, None]
    sigma = k * np.median(y) / (2**k - 1) * np.exp(_SCALES / math.sqrt(m))  # a tail of this median, and others
    sums = np.array([np.log1p(shape / own[:, None] * y).sum(-1) for shape, own in zip(_SHAPES, sigma, strict=True)])
    likelihood = -m * np.log(sigma) - (1 + 1 / k) * sums
    k, sigma = k[: len(k) // 2], sigma[: len(k) // 2]
    # means of d and d^2 in the tail, then of all; ESS = 1 / (1 + v) with v = var w / <w>^2
    one = begin + sigma / (1 - k)
    two = begin * (2 * one - begin) + 2 * sigma**2 / ((1 - k) * (1 - 2 * k))
    first, second = (d.sum() + m * one) / n, (d @ d + m * two) / n
    v = (second - first**2) / (1 + first) ** 2
    # with e = w / <w> - 1, log ESS varies as the mean of (v + 2 v e - e^2) / (1 + v): in the tail, of its mean there
    one, two = (one - first) / (1 + first), (two - 2 * first * one + first**2) / (1 + first) ** 2
    of_tail = v + 2 * v * one - two
    likely = first.flat[likelihood[: len(k)].argmax()]
    e = (d - likely) / (1 + likely)
    square = v**2 * ((1 + 2 * e) ** 2).sum() - 2 * v * ((1 + 2 * e) @ e**2) + (e**4).sum()
    return likelihood, -np.log1p(v), np.sqrt(square.clip(0) + m * of_tail**2) / (n * (1 + v))


def _quantile(chance: Array, center: Array, spread: Array, sigma: float) -> float:
    """The ESS below which a probability of Phi(sigma) lies, that of no second moment counting as 0."""
    none, wanted = 1 - chance.sum(), scipy.special.ndtr(sigma)
    low, high = -40.0, 0.0
    for _ in range(60):
        middle = (low + high) / 2
        if none + (chance * scipy.special.ndtr((middle - center) / spread)).sum() > wanted:
            high = middle
        else:
            low = middle
    return math.exp(high)
