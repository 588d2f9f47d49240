"""The Gamma method by pyerrors, on observables of pyerrors made from series."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics.series import Array, Series, chains_of

# pyerrors' default for the parameter S of Wolff's automatic window, pinned against changes of its globals
_S = 2.0


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
        >>> import numpy as np
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
    obs = {name: as_obs(own, ensemble, replica) for name, own in chains.items()}
    for name, one in obs.items():
        one.tag = name
    return obs


def as_obs(chains: list[Array], ensemble: str = "chain", replica: Sequence[str] | None = None) -> Any:
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


def analysed(chains: list[Array]) -> tuple[Any, str]:
    """The Obs of chains after the Gamma method, and the name of its ensemble."""
    obs = as_obs(chains)
    obs.gamma_method(S=_S, tau_exp=0.0)
    return obs, obs.e_names[0]


@cache
def _pyerrors() -> ModuleType:
    # loaded on first use: it pulls in matplotlib and changes numpy's print options, which an import must not do
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*scipy.odr", category=DeprecationWarning)
        import pyerrors
    return pyerrors
