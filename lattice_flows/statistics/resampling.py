"""Jackknife and bootstrap: errors of quantities derived from the means of several observables."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.estimate import estimate
from lattice_flows.statistics.series import Array, split_list

Samples = Tensor | ArrayLike | Sequence[Tensor]
Function = Callable[[Array], Any]


class Derived(NamedTuple):
    """A derived quantity with its statistical error.

    It is `reliable` if every observable has a known autocorrelation time, the bins are long against it, and their
    number determines the error to about a quarter.
    """

    value: Array
    """f of the means over all measurements, `(*out,)`."""
    error: Array
    """`(*out,)`."""
    bin_size: int
    """The least number of consecutive measurements in a bin."""
    bins: int
    """The number of bins in all chains."""
    tau_int: float
    """The longest autocorrelation time of the observables, in measurements; nan if one of them, or all, are frozen."""
    reliable: bool


def jackknife(f: Function, samples: Samples, bin_size: int | None = None) -> Derived:
    """f(<O>) of the means of some observables, with its error by the jackknife over bins.

    With theta_b = f(means without bin b) of B bins, error^2 = (B - 1)/B sum_b (theta_b - mean theta)^2. A bin holds
    consecutive measurements of one chain. The default size is the `optimal_bin_size` for the longest measured tau_int
    of the observables; if one of them is frozen, each chain is one bin.

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

    def error(sums: Array, sizes: Array) -> Array:
        total, n = sums.sum(0), sizes.sum()
        theta = np.stack([f((total - own) / (n - size)) for own, size in zip(sums, sizes, strict=True)])
        return np.sqrt((len(sizes) - 1) * theta.var(0))

    return _derived(f, samples, bin_size, error)


def bootstrap(
    f: Function, samples: Samples, generator: torch.Generator, draws: int = 1000, bin_size: int | None = None
) -> Derived:
    """f(<O>) of the means of some observables, with its error by the bootstrap over the bins of `jackknife`.

    Each draw takes B of the B bins with replacement; the error is the standard deviation of f over the draws. Unlike
    the jackknife, it needs no derivatives of f (for a median, or a fit with a cut). Its noise is 1 / sqrt(2 draws).

    Shapes and errors: as `jackknife`; fewer than two draws are an error, too.

    Source: B. Efron, Ann. Statist. 7 (1979) 1.

    Example:
        >>> x = np.random.default_rng(0).normal(loc=[2.0, 1.0], size=(10_000, 2))
        >>> ratio = bootstrap(lambda mean: mean[0] / mean[1], x, torch.Generator().manual_seed(0))
        >>> print(f"{ratio.value:.3f} +- {ratio.error:.3f}")
        1.998 +- 0.023
    """
    if draws < 2:
        raise InvalidInput(f"a bootstrap needs at least two draws, got draws={draws}; 1000 know the error to 2 percent")

    def error(sums: Array, sizes: Array) -> Array:
        count, theta = len(sizes), []
        for _ in range(draws):
            drawn = torch.randint(count, (count,), generator=generator, device=generator.device)
            times = np.bincount(drawn.cpu().numpy(), minlength=count)
            theta.append(f(np.tensordot(times, sums, 1) / (times @ sizes)))
        return np.std(theta, axis=0)

    return _derived(f, samples, bin_size, error)


def optimal_bin_size(tau_int: float, n: int) -> int:
    """The size of bins with the best known error: (2 n tau_int^2)^(1/3).

    Bins of size B lose a share tau_int / 2B of the error, and n / B bins know it to a share sqrt(B / 2n). This size
    minimises the sum of both, which falls like n^(-1/3).

    Source: U. Wolff, hep-lat/0306017.
    """
    return max(1, math.ceil((2 * n * tau_int**2) ** (1 / 3) - 1e-9))


def _derived(f: Function, samples: Samples, bin_size: int | None, error: Callable[[Array, Array], Array]) -> Derived:
    """f with its error, a function of sums `(bins, *shape)` over bins and of the sizes `(bins,)` of the bins."""
    chains = split_list(samples)
    shape = chains[0].shape[1:] if chains else ()
    for i, chain in enumerate(chains):
        if chain.ndim == 0 or chain.shape[1:] != shape:
            raise InvalidInput(f"chain {i} must have shape (n, *{shape}) as chain 0 has, got {chain.shape}")
    if bin_size is not None and bin_size < 1:
        raise InvalidInput(f"bin_size must be >= 1 measurements, got {bin_size}")
    measured = [estimate([chain[:, *column] for chain in chains]) for column in np.ndindex(shape)]
    moving = [one for one in measured if one.error > 0]
    tau = float(np.max([one.tau_int for one in moving])) if moving else math.nan  # nan if one is
    longest = max(len(chain) for chain in chains)
    if bin_size is None and moving:
        # the autocorrelation of a frozen observable is longer than any chain
        bin_size = longest if math.isnan(tau) else optimal_bin_size(tau, sum(len(chain) for chain in chains))
    size = min(bin_size or 1, longest)
    edges = [np.linspace(0, len(chain), max(1, len(chain) // size) + 1).astype(np.int64) for chain in chains]
    sizes = np.concatenate([np.diff(own) for own in edges])
    count = len(sizes)
    if count < 2:
        raise InvalidInput(f"an error needs at least two bins, got one of {size} measurements; make the chain longer")
    parts = zip(chains, edges, strict=True)
    sums = np.concatenate([np.add.reduceat(chain, own[:-1], axis=0, dtype=np.float64) for chain, own in parts])
    value, spread = (np.asarray(x, dtype=np.float64) for x in (f(sums.sum(0) / sizes.sum()), error(sums, sizes)))
    # the share of the error that short bins lose, and the relative error of the error
    doubt = (tau - 0.5) / size + 1 / math.sqrt(2 * count)
    return Derived(value, spread, size, count, tau, all(one.reliable for one in moving) and doubt < 0.25)
