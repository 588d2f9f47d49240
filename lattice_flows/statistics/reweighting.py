"""Means in one distribution from samples of another, such as a flow or a chain at another coupling."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.estimate import Estimate, estimate
from lattice_flows.statistics.resampling import optimal_bin_size
from lattice_flows.statistics.series import Array, Series, chains_of, never_move, split_chains
from lattice_flows.statistics.weights import ParetoTail, checked_weights, ess, ess_error, pareto_tail


class Reweighted(NamedTuple):
    """A reweighted mean, with the quality of the weights."""

    estimate: Estimate
    """The mean in the target distribution, with error and tau_int of the reweighted observable."""
    ess: float
    """(sum w)^2 / (n sum w^2), without regard to autocorrelation."""
    ess_error: float
    tail: ParetoTail
    """The tail of the weights; `tail.warning` is empty where it can be trusted."""


def reweight(series: Series, log_w: Series) -> Reweighted:
    """<O>_p = sum w O / sum w from samples of q with weights w = p / q up to a constant.

    The error is that of the ratio to first order, by the Gamma method on O_bar + w (O - O_bar) / w_bar with the mean
    O_bar. Independent samples are a chain with tau_int = 1/2; samples of a Markov chain keep their autocorrelation. The
    bias of the ratio, of relative order 1 / (n ESS), is not removed. The error of the ESS is by the jackknife over at
    most 100 blocks, none shorter than the `optimal_bin_size` for the weights.

    Shapes: both `(n,)`, or `(chains, n)`, or a list of `(n_i,)`; log_w may be -inf.

    Raises:
        InvalidInput: as `estimate` and `ess`, or weights that do not belong to the measurements.

    Source: A. M. Ferrenberg, R. H. Swendsen, Phys. Rev. Lett. 61 (1988) 2635; for the ratio U. Wolff, hep-lat/0306017.

    Example:
        >>> x = np.random.default_rng(0).normal(size=10_000)
        >>> result = reweight(x, log_w=0.5 * x)  # exactly 0.5, with an ESS of exp(-1/4) = 0.779
        >>> print(result.estimate, f"{result.ess:.3f} +- {result.ess_error:.3f}", result.tail.warning == "")
        0.499(12) 0.785 +- 0.004 True
    """
    chains = chains_of(series)
    log_chains = split_chains(log_w)
    lengths = [len(chain) for chain in chains]
    if lengths != (others := [len(chain) for chain in log_chains]):
        raise InvalidInput(
            f"every measurement needs one weight, got {others} weights in chains of {lengths} measurements"
        )
    logs = checked_weights(torch.from_numpy(np.concatenate(log_chains)))
    w = logs.exp().numpy()
    w /= w.mean()
    ends = np.cumsum(lengths)[:-1]
    tau = estimate(np.split(w, ends)).tau_int
    blocks = w.size // optimal_bin_size(0.5 if math.isnan(tau) else tau, w.size)
    share, share_error = ess(logs).item(), ess_error(logs, max(2, min(100, blocks))).item()
    return Reweighted(_ratio(chains, w, ends), share, share_error, pareto_tail(logs))


def _ratio(chains: list[Array], w: Array, ends: NDArray[np.int64]) -> Estimate:
    values, frozen = np.concatenate(chains), never_move(chains)
    if frozen and (values == values[0]).all():
        return estimate(chains)  # rounding of the ratio must not look like movement
    mean = float(w @ values) / len(values)
    result = estimate(np.split(mean + w * (values - mean), ends))
    return dataclasses.replace(result, tau_int=math.nan, tau_int_error=math.nan, frozen=True) if frozen else result
