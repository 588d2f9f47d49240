"""Markov chains: means with errors by the Gamma method of pyerrors, autocorrelation times, and acceptance rates."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.series import Array, Series, chains_of, never_move, to_numpy


@dataclass(frozen=True)
class Estimate:
    """A mean with its statistical error, printed as `0.5978(3)`: one digit of the error, two where it starts with 1.

    `tau_int` = 1/2 + sum_{1<=t<=window} rho(t) counts updates (white noise: 0.5), and `n` is the number of measurements
    in all chains. `window_closed` is False if the sum has not converged at the largest lag: `error` and `tau_int` are
    then lower bounds. `frozen` is True if no chain ever moved: `tau_int` is then nan, and `error` is 0 or measures the
    disagreement of the chains.

    Example:
        >>> result = Estimate(value=0.59781, error=0.00031, tau_int=0.5, tau_int_error=0.0, window=1, n=1000)
        >>> print(result, result.reliable)
        0.5978(3) True
    """

    value: float
    error: float
    tau_int: float
    tau_int_error: float
    window: int
    n: int
    window_closed: bool = True
    frozen: bool = False

    @property
    def reliable(self) -> bool:
        """Whether the chain moves and is long enough for its autocorrelation.

        The window must close. The relative error of the error, sqrt((window + 1/2) / n), must be below 1/4
        (U. Wolff, hep-lat/0306017).
        """
        moved = self.error > 0 and not self.frozen
        return moved and self.window_closed and (self.window + 0.5) / self.n < 1 / 16

    def __str__(self) -> str:
        if self.error == 0 or not math.isfinite(self.value) or not math.isfinite(self.error):
            return f"{self.value:.10g}({self.error:.3g})"
        mantissa, exponent = f"{self.error:.1e}".split("e")
        last = int(exponent) - (mantissa[0] == "1")  # the power of ten of the last printed digit
        if last >= 0:
            return f"{round(self.value, -last):z.0f}({round(self.error, -last):.0f})"
        error = f"{self.error:.{-last}f}"
        return f"{self.value:z.{-last}f}({error if float(error) >= 1 else int(error.replace('.', ''))})"


class Autocorrelation(NamedTuple):
    """The normalised autocorrelation `rho[t]` and `tau_int[w]` = 1/2 + sum_{1<=t<=w} rho(t) with its errors.

    `window` is the w that the Gamma method chose.
    """

    rho: Array
    tau_int: Array
    tau_int_error: Array
    window: int


def acceptance(accepted: Tensor | ArrayLike) -> float:
    """The fraction of accepted updates, over all chains.

    Shapes: accepted `(*chains, updates)`, boolean.

    Raises:
        InvalidInput: no updates, or values that are neither true nor false.

    Example:
        >>> acceptance([True, False, False, True])
        0.5
    """
    return float(_checked_flags(accepted).mean())


def longest_rejection_run(accepted: Tensor | ArrayLike) -> int:
    """The largest number of consecutive rejections in any chain.

    Shapes and errors: as `acceptance`.

    Example:
        >>> longest_rejection_run([True, False, False, True, False])
        2
    """
    flags = _checked_flags(accepted)
    # with an accepted update on either side of every chain, runs are gaps between accepted updates
    padded = np.pad(flags, [(0, 0)] * (flags.ndim - 1) + [(1, 1)], constant_values=True)
    return int(np.diff(np.flatnonzero(padded)).max()) - 1


def estimate(series: Series) -> Estimate:
    """The mean of a Markov chain, or of several, with error and integrated autocorrelation time by the Gamma method.

    error^2 = 2 tau_int var / n with tau_int = 1/2 + sum_{1<=t<=window} rho(t). Several chains are replica of one
    ensemble: deviations are taken from the mean of all chains, so chains that disagree enlarge the error. pyerrors
    keeps tau_int >= 1/2: for anticorrelated chains the error is an upper bound. Chains that never move are `frozen`: an
    error of 0 then means no movement, not certainty. Movement is decided on the digits, so round an integer charge.

    Shapes: `(n,)`; or `(chains, n)`, or a list of `(n_i,)`, for several chains.

    Raises:
        InvalidInput: fewer than 5 measurements in a chain, or values that are not finite real numbers.

    Source: U. Wolff, hep-lat/0306017; F. Joswig, S. Kuberski, J. T. Kuhlmann, J. Neuendorf (pyerrors), 2209.14371.

    Example:
        >>> print(estimate(np.random.default_rng(0).normal(size=10_000)))
        0.006(10)
    """
    chains = chains_of(series)
    n = sum(len(chain) for chain in chains)
    frozen = never_move(chains)
    if frozen and len({float(chain[0]) for chain in chains}) == 1:
        return Estimate(float(chains[0][0]), 0.0, math.nan, math.nan, 0, n, frozen=True)
    obs, name = _analysed(chains)
    window = int(obs.e_windowsize[name])
    return Estimate(
        value=float(obs.value),
        error=float(obs.dvalue),
        tau_int=math.nan if frozen else float(obs.e_tauint[name]),
        tau_int_error=math.nan if frozen else float(obs.e_dtauint[name]),
        window=window,
        n=n,
        window_closed=window < len(obs.e_rho[name]) - 1,
        frozen=frozen,
    )


def autocorrelation(series: Series) -> Autocorrelation:
    """The autocorrelation function of a chain, or of several, and its running sum, for plots of tau_int.

    rho(t) = Gamma(t) / Gamma(0), for t up to half the longest chain. The running sum lacks a correction of relative
    order window / n that `estimate` has. Chains that never move have rho(0) = 1 alone, and a tau_int of nan.

    Shapes, errors and sources: as `estimate`.

    Example:
        >>> result = autocorrelation(np.random.default_rng(0).normal(size=10_000))
        >>> print(result.window, result.rho[0], abs(result.rho[1]) < 0.03)
        1 1.0 True
    """
    chains = chains_of(series)
    if never_move(chains):
        return Autocorrelation(np.ones(1), np.full(1, math.nan), np.full(1, math.nan), 0)
    obs, name = _analysed(chains)
    return Autocorrelation(obs.e_rho[name], obs.e_n_tauint[name], obs.e_n_dtauint[name], int(obs.e_windowsize[name]))


def observables_to_pyerrors(
    series: Mapping[str, Series], ensemble: str, replica: Sequence[str] | None = None
) -> dict[str, Any]:
    """Series as `pyerrors.Obs` by the same names, which keep the correlations between them in computations.

    The deviations of every chain are taken from the mean of all chains, as in `estimate` and in Wolff's estimator. An
    Obs made by hand takes those of each replicum from its own mean, so it misses the error from chains that disagree.
    Functions of these Obs inherit the rule. `pyerrors.reweight` and `pyerrors.input` do not keep it: reweight by the
    ratio of <w O> and <w>. The Obs have no errors yet: call `gamma_method(S=2.0)` on the results.

    Shapes: each series `(n,)`, or `(chains, n)`, or a list of `(n_i,)`; the same chains for all of them.

    Args:
        ensemble: the id of correlated data for pyerrors; other ensembles are independent of this one.
        replica: a name for each chain, `r0`, `r1`, ... unless given; a single chain needs none.

    Raises:
        InvalidInput: as `estimate`; series of different chains, a `|` in the id, or names that do not fit the chains.

    Source: U. Wolff, hep-lat/0306017; F. Joswig, S. Kuberski, J. T. Kuhlmann, J. Neuendorf (pyerrors), 2209.14371.

    Example:
        >>> x, y = np.random.default_rng(0).normal(loc=[[2.0], [1.0]], size=(2, 10_000))
        >>> obs = observables_to_pyerrors({"x": x, "y": y}, "A1")
        >>> ratio = obs["x"] / obs["y"]
        >>> ratio.gamma_method(S=2.0)
        >>> print(ratio)
        2.000(23)
    """
    if "|" in ensemble:
        raise InvalidInput(f"the id of an ensemble must not hold '|', got {ensemble!r}; chains go into replica")
    chains = {name: chains_of(values) for name, values in series.items()}
    lengths = {name: [len(chain) for chain in own] for name, own in chains.items()}
    for name, own in lengths.items():
        if own != (first := next(iter(lengths.values()))):
            raise InvalidInput(f"all series must come from the same chains, got lengths {own} for {name} and {first}")
        if replica is not None and len(set(replica)) != len(own):
            raise InvalidInput(f"replica must name each of {len(own)} chains, got {list(replica)}")
    obs = {name: _as_obs(own, ensemble, replica) for name, own in chains.items()}
    for name, one in obs.items():
        one.tag = name
    return obs


def _checked_flags(accepted: Any) -> NDArray[np.bool_]:
    flags = to_numpy(accepted)
    if flags.ndim == 0 or flags.size == 0:
        raise InvalidInput(f"accepted must hold at least one update, got shape {flags.shape}")
    if not np.isin(flags, (0, 1)).all():
        raise InvalidInput(f"accepted must be true or false for every update, got {flags.dtype} with other values")
    return flags.astype(np.bool_)


def _as_obs(chains: list[Array], ensemble: str = "chain", replica: Sequence[str] | None = None) -> Any:
    """One `pyerrors.Obs` of chains, with deviations from the mean of all of them."""
    if replica is None and len(chains) > 1:
        replica = [f"r{i}" for i in range(len(chains))]
    names = [ensemble] if replica is None else [f"{ensemble}|{name}" for name in replica]
    obs = _pyerrors().Obs(chains, names)
    # pyerrors measures the fluctuations of a replicum from its own mean, which hides a disagreement of replica (chains
    # frozen in different sectors would have no error at all); the data are deltas + r_values
    for name in names:
        obs.deltas[name] += obs.r_values[name] - obs.value
        obs.r_values[name] = obs.value
    return obs


def _analysed(chains: list[Array]) -> tuple[Any, str]:
    """The Obs of chains after the Gamma method, and the name of its ensemble."""
    obs = _as_obs(chains)
    obs.gamma_method(S=2.0, tau_exp=0.0)  # pyerrors' default for S, pinned against changes of its globals
    return obs, obs.e_names[0]


@cache
def _pyerrors() -> Any:
    # loaded on first use: it pulls in matplotlib and changes numpy's print options, which an import must not do
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*scipy.odr", category=DeprecationWarning)
        import pyerrors
    return pyerrors
