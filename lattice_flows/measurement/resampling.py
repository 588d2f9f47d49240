"""Jackknife and bootstrap: errors of quantities derived from the means of several observables."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.measurement.series import Array, split_list
from lattice_flows.measurement.statistics import Estimate, estimate

Samples = Tensor | ArrayLike | Sequence[Tensor]
Function = Callable[[Array], Any]


class Derived(NamedTuple):
    """A derived quantity with its statistical error.

    `reliable` says whether the bins could be chosen: every observable has a known autocorrelation time, the bins are
    long against it, and there are enough of them for the error to be known to about a quarter.
    """

    value: Array
    """f of the means over all measurements, `(*out,)`."""
    error: Array
    """`(*out,)`."""
    bin_size: int
    """How many consecutive measurements, at least, a bin has."""
    bins: int
    """How many bins there are in all chains."""
    tau_int: float
    """The longest autocorrelation time of the observables, in measurements; nan where one is frozen, or all."""
    reliable: bool


def jackknife(f: Function, samples: Samples, bin_size: int | None = None) -> Derived:
    """f(<O>) of the means of some observables, with its error by the jackknife over bins.

    With theta_b = f(means without bin b) of B bins, error^2 = (B - 1)/B sum_b (theta_b - mean theta)^2. Consecutive
    measurements go into one bin, which is long against the autocorrelation: unless a size is given, it is
    `optimal_bin_size` for the longest tau_int that is measured among the observables. Bins stay within their chain,
    and where an observable is frozen, a chain is one bin.

    Shapes: samples `(n, *shape)`; several chains: a list of such, `list(samples)` of `(chains, n, *shape)`. f takes
    means `(*shape,)` as an array and returns a number or an array `(*out,)`.

    Raises:
        InvalidInput: as `estimate`; chains of different observables; a bin size below 1; fewer than two bins.

    Source: B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM (1982); for bins in Markov chains
    U. Wolff, hep-lat/0306017.

    Example:
        >>> x = np.random.default_rng(0).normal(loc=[2.0, 1.0], size=(10_000, 2))
        >>> ratio = jackknife(lambda mean: mean[0] / mean[1], x)
        >>> print(f"{ratio.value:.3f} +- {ratio.error:.3f} from {ratio.bins} bins of {ratio.bin_size}")
        1.998 +- 0.023 from 526 bins of 19
    """
    binned = _bin(samples, bin_size)
    total, n, count = binned.sums.sum(0), binned.sizes.sum(), len(binned.sizes)
    theta = np.stack([f((total - own) / (n - size)) for own, size in zip(binned.sums, binned.sizes, strict=True)])
    return binned.derived(f(total / n), np.sqrt((count - 1) * theta.var(0)))


def bootstrap(
    f: Function, samples: Samples, generator: torch.Generator, draws: int = 1000, bin_size: int | None = None
) -> Derived:
    """f(<O>) of the means of some observables, with the spread of f over means of bins that are drawn again.

    Each draw takes as many bins as there are, with replacement; the error is the standard deviation over the draws.
    Unlike the jackknife it does without derivatives of f (for a median, or a fit with a cut), at the price of its own
    noise, 1 / sqrt(2 draws). Bins are those of `jackknife`.

    Shapes: as `jackknife`.

    Raises:
        InvalidInput: as `jackknife`, or fewer than two draws.

    Source: B. Efron, Ann. Statist. 7 (1979) 1.

    Example:
        >>> x = np.random.default_rng(0).normal(loc=[2.0, 1.0], size=(10_000, 2))
        >>> ratio = bootstrap(lambda mean: mean[0] / mean[1], x, torch.Generator().manual_seed(0))
        >>> print(f"{ratio.value:.3f} +- {ratio.error:.3f}")
        1.998 +- 0.023
    """
    if draws < 2:
        raise InvalidInput(f"a bootstrap needs at least two draws, got draws={draws}; 1000 know the error to 2 percent")
    binned = _bin(samples, bin_size)
    count = len(binned.sizes)
    theta = []
    for _ in range(draws):
        drawn = torch.randint(count, (count,), generator=generator, device=generator.device)
        times = np.bincount(drawn.cpu().numpy(), minlength=count)
        theta.append(f(np.tensordot(times, binned.sums, 1) / (times @ binned.sizes)))
    return binned.derived(f(binned.sums.sum(0) / binned.sizes.sum()), np.std(theta, axis=0))


def optimal_bin_size(tau_int: float, n: int) -> int:
    """The size of bins that knows the error best: (2 n tau_int^2)^(1/3).

    Short bins lose a share tau_int / 2B of the error, few of them know it to a share sqrt(B / 2n): their sum is least
    there, and falls like n^(-1/3).

    Source: U. Wolff, hep-lat/0306017.

    Example:
        >>> optimal_bin_size(tau_int=10, n=100_000)
        272
    """
    return max(1, math.ceil((2 * n * tau_int**2) ** (1 / 3) - 1e-9))


class _Bins(NamedTuple):
    """Sums `(bins, *shape)` over bins of `sizes` `(bins,)` measurements."""

    sums: Array
    sizes: Any
    size: int
    tau_int: float
    trusted: bool

    def derived(self, value: Any, error: Any) -> Derived:
        count = len(self.sizes)
        # what short bins lose of the error, and how well the number of bins knows it
        doubt = (self.tau_int - 0.5) / self.size + 1 / math.sqrt(2 * count)
        value, error = np.asarray(value, dtype=np.float64), np.asarray(error, dtype=np.float64)
        return Derived(value, error, self.size, count, self.tau_int, self.trusted and doubt < 0.25)


def _bin(samples: Samples, bin_size: int | None) -> _Bins:
    chains = split_list(samples)
    shape = chains[0].shape[1:] if chains else ()
    for i, chain in enumerate(chains):
        if chain.ndim == 0 or chain.shape[1:] != shape:
            raise InvalidInput(f"chain {i} must have shape (n, *{shape}) as chain 0 has, got {chain.shape}")
    if bin_size is not None and bin_size < 1:
        raise InvalidInput(f"bin_size must be >= 1 measurements, got {bin_size}")
    columns = np.ndindex(shape)
    measured = [estimate([chain[:, *column] for chain in chains]) for column in columns]
    moving = [one for one in measured if one.error > 0]
    tau = _longest(moving)
    longest = max(len(chain) for chain in chains)
    if bin_size is None and moving:
        # of what is frozen, not even a whole chain is longer than the autocorrelation
        bin_size = longest if math.isnan(tau) else optimal_bin_size(tau, sum(len(chain) for chain in chains))
    size = min(bin_size or 1, longest)
    sums, sizes = [], []
    for chain in chains:
        edges = np.linspace(0, len(chain), max(1, len(chain) // size) + 1).astype(np.int64)
        sums.append(np.add.reduceat(chain, edges[:-1], axis=0, dtype=np.float64))
        sizes.append(np.diff(edges))
    binned = _Bins(np.concatenate(sums), np.concatenate(sizes), size, tau, all(one.reliable for one in moving))
    if len(binned.sizes) < 2:
        raise InvalidInput(f"an error needs at least two bins, got one of {size} measurements; make the chain longer")
    return binned


def _longest(moving: list[Estimate]) -> float:
    """The longest autocorrelation time; nan where there is none, or one that has no number."""
    times = [one.tau_int for one in moving]
    return max(times) if times and not any(map(math.isnan, times)) else math.nan
