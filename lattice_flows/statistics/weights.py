"""Importance weights: the effective sample size with its error, and the tail, which tells whether to trust them."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lattice_flows.errors import InvalidInput


def ess(log_w: Tensor) -> Tensor:
    """The effective sample size per sample, ESS = (sum w)^2 / (n sum w^2) in (0, 1], of n log-weights.

    Shapes: log_w `(*batch, n)`, real, -inf for a weight of zero -> `(*batch,)` in the precision of log_w.

    Raises:
        InvalidInput: no weights, complex weights, a NaN or +inf among them, or all of them zero.

    Source: A. Kong, Univ. of Chicago Dept. of Statistics, Technical Report 348 (1992).

    Example:
        >>> ess(torch.tensor([0.0, 0.0, float("-inf"), float("-inf")]))
        tensor(0.5000)
    """
    log_w = torch.as_tensor(log_w)
    precise = checked_weights(log_w)
    n = precise.shape[-1]
    value = torch.exp(2 * precise.logsumexp(-1) - (2 * precise).logsumexp(-1) - math.log(n))
    # rounding may exceed 1 by an ulp
    return value.clamp(max=1.0).to(log_w.dtype if log_w.is_floating_point() else precise.dtype)


def ess_error(log_w: Tensor, blocks: int = 100) -> Tensor:
    """The statistical error of `ess(log_w)` by the jackknife over `blocks` blocks of consecutive weights.

    With theta_b the ESS of all weights outside block b, error^2 = (B - 1)/B sum_b (theta_b - mean theta)^2. For weights
    along a Markov chain, choose blocks longer than the autocorrelation. If a single weight dominates, the sample is too
    small for the ESS and its error.

    Shapes: log_w `(*batch, n)` -> `(*batch,)`.

    Raises:
        InvalidInput: as `ess`; or fewer than two blocks with a nonzero weight.

    Source: B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM (1982).

    Example:
        >>> log_w = 0.5 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> print(f"{ess(log_w):.3f} +- {ess_error(log_w):.3f}")  # exactly exp(-1/4) = 0.779 for these weights
        0.771 +- 0.005
    """
    log_w = torch.as_tensor(log_w)
    precise = checked_weights(log_w)
    kept, sums, squares = _of_other_blocks(blocks, precise, 2 * precise)
    error = jackknife_error(torch.exp(2 * sums - squares) / kept)
    return error.to(log_w.dtype if log_w.is_floating_point() else precise.dtype)


def forward_ess(log_w: Tensor, blocks: int = 100) -> tuple[Tensor, Tensor]:
    """The effective sample size from log-weights of independent samples of the target p, with its jackknife error.

    ESS = (E_q w)^2 / E_q w^2 = 1 / (E_p[w] E_p[1 / w]). `ess` estimates the same on samples of the model q, but misses
    parts of the target that the model hardly ever reaches. Here such parts have large weights.

    Shapes: log_w `(n,)`, n >= 2 -> two scalars. Errors: as `ess_error`.

    Example:
        >>> log_w = 0.25 + 0.5 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        >>> value, error = forward_ess(log_w)
        >>> print(f"{value:.3f} +- {error:.3f}")  # exactly exp(-1/4) = 0.779 for these weights
        0.778 +- 0.003
    """
    precise = checked_weights(torch.as_tensor(log_w))
    kept, sums, inverse_sums = _of_other_blocks(blocks, precise, -precise)
    value = len(precise) ** 2 * torch.exp(-precise.logsumexp(-1) - (-precise).logsumexp(-1))
    return value, jackknife_error(kept**2 * torch.exp(-sums - inverse_sums))


def expected_acceptance(log_w: Tensor) -> Tensor:
    """The acceptance of independence Metropolis in equilibrium, from log-weights of independent proposals.

    A chain at x accepts y with min(1, w(y) / w(x)), so that the mean is E_qq[min(w(x), w(y))] / E_q[w], here over all
    pairs of different proposals. Errors: as `ess`. Shapes: log_w `(n,)`, n >= 2 -> a scalar.

    Example:
        >>> expected_acceptance(torch.tensor([0.0, 0.0, float("-inf")]))  # from a state, to the other or to the zero
        tensor(0.5000, dtype=torch.float64)
    """
    w = checked_weights(torch.as_tensor(log_w)).sort().values.exp()
    larger = torch.arange(len(w) - 1, -1, -1, device=w.device)  # the number of weights above each
    return 2 * (larger * w).sum() / ((len(w) - 1) * w.sum())


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
            "a few samples carry the ESS and all reweighted means; train further, give more samples, or do not reweight"
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
    excess = largest_weights(logs)[1]
    m = len(excess)
    if n <= 20 or 0 < m < 5:  # no tail
        return ParetoTail(math.inf, math.nan, threshold, m)
    if m == 0:
        return ParetoTail(-math.inf, math.nan, threshold, 0)
    k, _ = fit_generalised_pareto(excess)
    k = (m * k + 10 * 0.5) / (m + 10)
    return ParetoTail(k, (1 + max(k, -0.5)) / math.sqrt(m), threshold, m)


def largest_weights(logs: Tensor) -> tuple[float, NDArray[np.float64]]:
    """The weight where the tail begins, and what the min(n / 5, 3 sqrt(n)) largest ones exceed it by.

    Shapes: checked log-weights `(n,)` -> a number and `(m,)`; m is smaller where the largest weights are equal.
    """
    n = len(logs)
    size = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    # the largest weights and, before them, the weight where the tail begins
    largest = np.sort(logs.topk(min(n, size + 1)).values.detach().cpu().numpy())
    tail = largest[largest > largest[0]]
    # w - w_0 without the digits that a difference would lose
    excess = np.exp(tail) * -np.expm1(largest[0] - tail)
    return float(np.exp(largest[0])), excess[excess > 0]


def fit_generalised_pareto(x: ArrayLike) -> tuple[float, float]:
    """Shape k and scale sigma of P(X > x) = (1 + k x / sigma)^(-1 / k), from draws x > 0.

    theta = -k / sigma is averaged over a grid, with the likelihood at the best k of each theta. This replaces a search
    for the maximum. The standard error of k is (1 + k) / sqrt(n). Shapes: x `(n,)`.

    Source: J. Zhang, M. A. Stephens, Technometrics 51 (2009) 316.
    """
    x = np.sort(np.asarray(x, dtype=np.float64))
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all() or x[0] <= 0:
        raise InvalidInput(f"a Pareto fit needs draws (n,) that are finite and > 0, got shape {x.shape}")
    n = len(x)
    grid = 30 + math.isqrt(n)
    quartile = max(x[max(0, math.floor(n / 4 + 0.5) - 1)], 1e-300 * x[-1])  # whose inverse is finite
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    shape = np.array([np.log1p(-one * x).mean() for one in theta])  # the most likely k for each theta
    log_likelihood = n * (np.log(-theta / shape) - shape - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    best = float(theta @ weights / weights.sum())
    k = float(np.log1p(-best * x).mean())
    return k, -k / best


def _of_other_blocks(blocks: int, log_w: Tensor, log_x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each block of consecutive terms: the number of all other terms, and log sum w and log sum x over them."""
    if blocks < 2:
        raise InvalidInput(f"a jackknife needs at least two blocks, got blocks={blocks}")
    n = log_w.shape[-1]
    size = max(1, n // blocks)
    count = -(-n // size)
    own = torch.eye(count, dtype=torch.bool, device=log_w.device)
    kept = n - torch.tensor([size] * (count - 1) + [n - size * (count - 1)], device=log_w.device)
    rows = [
        torch.nn.functional.pad(x, (0, count * size - n), value=-math.inf).unflatten(-1, (count, size))
        for x in (log_w, log_x)
    ]
    if ((rows[0] > -math.inf).any(-1).sum(-1) < 2).any():
        raise InvalidInput("the error of an ESS needs nonzero weights in at least two blocks; give more weights")
    # sums over the other blocks, not differences of sums: one weight may dominate the total
    w, x = (row.logsumexp(-1).unsqueeze(-2).masked_fill(own, -math.inf).logsumexp(-1) for row in rows)
    return kept, w, x


def jackknife_error(theta: Tensor) -> Tensor:
    """The jackknife error `(*batch,)` from estimates theta `(*batch, blocks)`, each without a block."""
    return ((theta.shape[-1] - 1) * theta.var(-1, correction=0)).sqrt()


def checked_weights(log_w: Tensor) -> Tensor:
    """Log-weights `(*batch, n)` in float64, the largest of each n moved to 0. Errors: as `ess`."""
    if log_w.ndim == 0 or log_w.shape[-1] == 0:
        raise InvalidInput(f"log_w must hold at least one weight, got shape {tuple(log_w.shape)}")
    if log_w.is_complex():
        raise InvalidInput(f"log_w must be real, got {log_w.dtype}")
    # in float32 the difference of two large logarithms would cost the digits of the ESS
    precise = log_w.double()
    top = precise.amax(-1, keepdim=True)
    if precise.isnan().any() or (top == math.inf).any():
        raise InvalidInput("log_w must be finite or -inf, got NaN or +inf; look for a diverging action or log_q")
    if (top == -math.inf).any():
        raise InvalidInput("all weights are zero: every log_w is -inf")
    return precise - top.detach()
