"""Markov chains: means with errors by the Gamma method of pyerrors, autocorrelation times, and reasons against both."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.moves import LEAST_DISTINCT, Moves, frozen_chains, frozen_in_words
from lattice_flows.statistics.series import Array, Series, chains_of, never_move, to_numpy

LEAST_TAU_INT = 200
"""The length of chains, in units of tau_int, from which on errors can be relied on."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its statistical error, printed as `0.5978(3)`: one digit of the error, two where it starts with 1.

    `tau_int` = 1/2 + sum_{1<=t<=window} rho(t) and `window` count updates, with a measurement at multiples of `every`;
    `n` is the number of measurements in all chains. `error` and `tau_int` are nan for stuck and frozen chains. `frozen`
    has the numbers of the chains that never move. `tau_int_error` / `tau_int` is the error of log tau_int, as a long
    tau_int is mostly found too short (`tau_int_range`). `reason` says in words why the error cannot be relied on:

        frozen: chains 3, 7                 they never move, which is no chance
        stuck: 8 distinct configurations    see `Moves.stuck`
        short: 430 distinct configurations count as 90      see `Moves.uneven`
        short: the window does not close    the sum for tau_int has not converged at the largest lag
        short: 40 tau_int of 200            of 2000 updates, tau_int = 50: too many errors are too small

    Example:
        >>> result = Estimate(value=0.59781, error=0.00031, tau_int=0.5, tau_int_error=0.0, window=1, n=1000)
        >>> print(result, result.reliable, result.n_eff)
        0.5978(3) True 1000.0
    """

    value: float
    error: float
    tau_int: float
    tau_int_error: float
    window: int
    n: int
    every: int = 1
    frozen: tuple[int, ...] = ()
    reason: str = ""

    @property
    def reliable(self) -> bool:
        """Whether there is no `reason` against the error."""
        return not self.reason

    @property
    def n_eff(self) -> float:
        """The number of independent measurements, n every / (2 tau_int); nan for stuck and frozen chains."""
        return self.n * self.every / (2 * self.tau_int)

    def tau_int_range(self, errors: float = 1.0) -> tuple[float, float]:
        """The interval of tau_int within some errors of its logarithm; nan for stuck and frozen chains.

        The distribution of tau_int is skew: two symmetric errors hold for 90 to 93 percent of reliable chains just long
        enough, these for 96 to 97 (autoregressive chains, experiments/coverage).

        Example:
            >>> low, high = Estimate(0.5, 0.1, tau_int=8.0, tau_int_error=2.0, window=40, n=2000).tau_int_range()
            >>> print(f"{low:.1f} to {high:.1f}")
            6.2 to 10.3
        """
        factor = math.exp(errors * self.tau_int_error / self.tau_int)
        return self.tau_int / factor, self.tau_int * factor

    def __str__(self) -> str:
        return ", ".join(filter(None, (self._number(), self.reason)))

    def _number(self) -> str:
        if math.isnan(self.error) and math.isfinite(self.value):
            return f"{self.value:.4g}"
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

    `lags` are the t and w in updates, `window` the w that the Gamma method chose.
    """

    lags: NDArray[np.int64]
    rho: Array
    tau_int: Array
    tau_int_error: Array
    window: int


def estimate(series: Series, moves: Moves | None = None, every: int = 1) -> Estimate:
    """The mean of a Markov chain, or of several, with error and integrated autocorrelation time by the Gamma method.

    error^2 = 2 tau_int var / n with tau_int = 1/2 + sum_{1<=t<=window} rho(t). Several chains are replica of one
    ensemble: deviations are taken from the mean of all chains, so chains that disagree enlarge the error. pyerrors
    keeps tau_int >= 1/2: for anticorrelated chains the error is an upper bound. States that last give another bound,
    n_eff <= `Moves.effective`. Movement is decided on the digits, so round an integer charge.

    Shapes: `(n,)`; or `(chains, n)`, or a list of `(n_i,)`, for several chains.

    Args:
        moves: those of the configurations; by default those that the series shows.
        every: the number of updates from one measurement to the next.

    Raises:
        InvalidInput: fewer than 5 measurements in a chain, values that are not finite real numbers, every < 1, or moves
            of other chains.

    Source: U. Wolff, hep-lat/0306017; F. Joswig, S. Kuberski, J. T. Kuhlmann, J. Neuendorf (pyerrors), 2209.14371.

    Example:
        >>> x = np.random.default_rng(0).normal(size=10_000)
        >>> print(estimate(x))
        0.006(10)
        >>> print(estimate(np.repeat(x[:8], 100)))
        0.352, stuck: 8 distinct configurations
    """
    chains = chains_of(series)
    if every < 1:
        raise InvalidInput(f"every must be >= 1 updates, got {every}")
    if moves is not None and moves.lengths != (lengths := [len(chain) for chain in chains]):
        raise InvalidInput(f"moves must be those of the chains, of {lengths} measurements, got {moves.lengths}")
    n, frozen = sum(len(chain) for chain in chains), frozen_chains(chains)
    seen = Moves.of_values(chains)
    if moves is None and not _returns(chains, seen):
        moves = seen
    reason = frozen_in_words(frozen, len(chains)) if frozen else moves.stuck if moves else ""
    if not reason and seen.distinct < LEAST_DISTINCT and 2 * seen.distinct < n:
        reason = f"stuck: {seen.distinct - len(chains)} changes of the value"
    if reason:
        values = np.concatenate(chains)
        value = float(values[0] if (values == values[0]).all() else values.mean())
        return Estimate(value, math.nan, math.nan, math.nan, 0, n, every, frozen, reason)
    obs, name = _analysed(chains)
    window, tau = int(obs.e_windowsize[name]), float(obs.e_tauint[name])
    longest = max(tau, n / (2 * moves.effective)) if moves else tau
    if window >= len(obs.e_rho[name]) - 1:
        reason = "short: the window does not close"
    elif n < LEAST_TAU_INT * longest:
        reason = f"short: {n / longest:.0f} tau_int of {LEAST_TAU_INT}"
    elif moves:
        reason = moves.uneven
    return Estimate(
        value=float(obs.value),
        error=float(obs.dvalue) * math.sqrt(longest / tau),
        tau_int=every * longest,
        tau_int_error=every * float(obs.e_dtauint[name]),
        window=every * window,
        n=n,
        every=every,
        reason=reason,
    )


def autocorrelation(series: Series, every: int = 1) -> Autocorrelation:
    """The autocorrelation function of a chain, or of several, and its running sum, for plots of tau_int.

    rho(t) = Gamma(t) / Gamma(0), for t up to half the longest chain. The running sum lacks a correction of relative
    order window / n that `estimate` has. Chains that never move have rho(0) = 1 alone, and a tau_int of nan.

    Shapes, arguments, errors and sources: as `estimate`.

    Example:
        >>> result = autocorrelation(np.random.default_rng(0).normal(size=10_000))
        >>> print(result.window, result.rho[0], abs(result.rho[1]) < 0.03)
        1 1.0 True
    """
    chains = chains_of(series)
    if never_move(chains):
        return Autocorrelation(np.zeros(1, np.int64), np.ones(1), np.full(1, math.nan), np.full(1, math.nan), 0)
    obs, name = _analysed(chains)
    rho, tau_int, error = obs.e_rho[name], every * obs.e_n_tauint[name], every * obs.e_n_dtauint[name]
    return Autocorrelation(every * np.arange(len(rho)), rho, tau_int, error, every * int(obs.e_windowsize[name]))


def observables_to_pyerrors(
    series: Mapping[str, Series],
    ensemble: str,
    replica: Sequence[str] | None = None,
    idl: Sequence[int] | Sequence[Sequence[int]] | None = None,
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
        idl: the updates of the measurements, rising, for series with gaps: of all chains, or one list for each chain.
            Default: 1, 2, ...

    Raises:
        InvalidInput: as `estimate`; series of different chains, a `|` in the id, or names or updates that do not fit
            the chains.

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
    updates = None if idl is None else _updates(idl, next(iter(lengths.values()), []))
    obs = {name: _as_obs(own, ensemble, replica, updates) for name, own in chains.items()}
    for name, one in obs.items():
        one.tag = name
    return obs


def _returns(chains: list[Array], seen: Moves) -> bool:
    """Whether a series takes values again and again, as a charge does, so that it does not show every move."""
    return 2 * len(np.unique(np.concatenate(chains))) < seen.distinct


def _updates(idl: Sequence[int] | Sequence[Sequence[int]], lengths: list[int]) -> list[list[int]]:
    """The updates of each of several chains of these lengths."""
    lists = [to_numpy(own) for own in (idl if len(idl) and np.ndim(idl[0]) else [idl] * len(lengths))]
    for i, own in enumerate(lists):
        if own.ndim != 1 or own.dtype.kind not in "iu" or not (np.diff(own.astype(np.int64)) > 0).all():
            begin = own.ravel()[:5].tolist()
            raise InvalidInput(f"idl must hold whole numbers of updates that rise, got {begin} ... for chain {i}")
    if [len(own) for own in lists] != lengths:
        raise InvalidInput(f"idl must name {lengths} updates of the chains, got {[len(own) for own in lists]}")
    return [own.tolist() for own in lists]


def _as_obs(
    chains: list[Array],
    ensemble: str = "chain",
    replica: Sequence[str] | None = None,
    idl: list[list[int]] | None = None,
) -> Any:
    """One `pyerrors.Obs` of chains, with deviations from the mean of all of them."""
    if replica is None and len(chains) > 1:
        replica = [f"r{i}" for i in range(len(chains))]
    names = [ensemble] if replica is None else [f"{ensemble}|{name}" for name in replica]
    obs = _pyerrors().Obs(chains, names, idl=idl)
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
