"""The effective sample size of independent weights, with an error, or with the reason why there is none."""

import itertools
import math
import operator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lattice_flows.statistics.estimate import Estimate
from lattice_flows.statistics.weights import checked_weights, ess, fit_generalised_pareto, largest_weights, pareto_tail

HIGHEST_K = 0.25
"""Weights have a fourth moment below this Pareto k."""


def estimate_ess(log_w: Tensor | ArrayLike) -> Estimate:
    """The effective sample size of independent weights, with its error.

    error^2 = ESS^2 <psi^2> / n with psi = 2 (w - 1) - (w^2 / <w^2> - 1) of weights with <w> = 1. It takes the fourth
    moment of w, hence a Pareto k below 1/4; and the largest weights of a sample are mostly too small to show it. So
    their part of <psi^2> is that of the generalised Pareto distribution, with k a fifth of its error larger than the
    fitted one. Where k + error / 2 >= 1/4 there is no error: the true ESS is then mostly below the estimate.

    Shapes: log_w `(n,)`, -inf for a weight of zero. Errors: as `pareto_tail`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(estimate_ess(0.5 * rng.normal(size=10_000)))  # exactly exp(-1/4) = 0.779
        0.785(3)
        >>> print(estimate_ess(2.0 * rng.normal(size=10_000)))  # exactly exp(-4) = 0.018
        0.02509, at most: Pareto k = 0.61 +- 0.09 leaves the weights without a fourth moment
    """
    logs = checked_weights(torch.as_tensor(log_w))
    value, tail, n = ess(logs), pareto_tail(logs), len(logs)
    reason, error = "", math.nan
    if tail.k == -math.inf:
        reason = "the largest weights are equal: no tail to judge by"
    elif not math.isfinite(tail.k):
        reason = "at most: too few weights stand out for a Pareto k"
    elif tail.k + tail.error / 2 >= HIGHEST_K:
        reason = f"at most: Pareto k = {tail.k:.2f} +- {tail.error:.2f} leaves the weights without a fourth moment"
    else:
        error = float(value) * math.sqrt(_mean_square(logs, tail.k + tail.error / 5) / n)
    # in units of the mean: independent weights have tau_int = 1/2
    return Estimate(float(value), error, 0.5, 0.0, 0, n, reason=reason)


def _mean_square(logs: Tensor, k: float) -> float:
    """<psi^2>, the part of the tail from the generalised Pareto distribution."""
    w = logs.exp().numpy()
    mean = w.mean()
    start, excess = largest_weights(logs)
    sigma = fit_generalised_pareto(excess)[1] / mean
    w = np.sort(w / mean)[: len(w) - len(excess)]
    square = float(np.exp(2 * logs.numpy()).mean()) / mean**2
    psi = np.polynomial.Polynomial([-1, 2, -1 / square])
    # E x^r = r! sigma^r / ((1 - k) ... (1 - r k)) of x = w - w_0
    moments = itertools.accumulate((r * sigma / (1 - r * k) for r in range(1, 5)), operator.mul, initial=1.0)
    beyond = (psi**2)(np.polynomial.Polynomial([start / mean, 1])).coef
    of_tail = sum(float(factor) * moment for factor, moment in zip(beyond, moments, strict=True))
    return (float((psi(w) ** 2).sum()) + len(excess) * of_tail) / len(logs)
