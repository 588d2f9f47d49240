"""The character expansion of the Boltzmann weight of one plaquette, from which two-dimensional gauge theory follows."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group

Array = NDArray[np.float64]
Label = tuple[int, ...]

# labels live on a box with N - 1 axes, which a desktop can fill up to N = 5
_KNOWN = {"U(1)": 1} | {f"SU({n})": n for n in range(2, 6)}
# coefficients below this fraction of the trivial one cannot show in a double
_NEGLIGIBLE = 1e-18


@dataclass(frozen=True, eq=False)
class Characters:
    """exp(beta/N Re tr U) = sum_r c_r chi_r(U) in terms of lambda_r = c_r / d_r.

    The index of r is its label: n + size for U(1), and the Dynkin labels (p_1, ..., p_{N-1}) for SU(N).

    Attributes:
        ratio: lambda_r / lambda_0, with 0 the trivial representation.
        dimension: d_r.
        origin: the index of the trivial representation.
        log_trivial: log lambda_0.
        weights: the weights `(N, rank)` of the fundamental representation, in the units of the labels.
    """

    ratio: Array
    dimension: Array
    origin: Label
    log_trivial: float
    weights: NDArray[np.int_]

    @property
    def fundamental(self) -> float:
        """lambda_F / lambda_0, F the fundamental representation."""
        # weights[0] is the highest weight, which is the label of the representation
        return float(self.ratio[tuple(self.weights[0] + self.origin)])


def characters(group: Group, beta: float) -> Characters:
    """The coefficients of the weight of one plaquette, as many as double precision can see.

    exp(beta/N Re tr U) = exp(beta (chi_F + chi_F*) / 2N), and a factor chi_F moves labels by the weights of F. So c is
    exp(beta M) e_0 with M = (N_F + N_F^T) / 2N, summed as

        e^{-beta} c = sum_k Poisson(k; beta) M^k e_0.

    All terms are positive and at most 1: nothing cancels or overflows, as Bessel functions or their determinants do.

    Raises:
        InvalidInput: beta is negative or not finite, or the group is not U(1), SU(2), ..., SU(5).

    Example:
        >>> from lattice_flows import SU
        >>> round(characters(SU(2), 2.2).fundamental, 7)
        0.464479
    """
    if not (math.isfinite(beta) and beta >= 0):
        raise InvalidInput(f"beta must be finite and >= 0, got {beta}")
    if not known(group):
        raise InvalidInput(f"no exact values for {group.name}; available: {', '.join(_KNOWN)}")
    return _converged(_KNOWN[group.name], float(beta))


def known(group: Group) -> bool:
    """Whether `characters` has the coefficients of a group: U(1), and SU(2) ... SU(5)."""
    return group.name in _KNOWN


@lru_cache(maxsize=64)
def _converged(n: int, beta: float) -> Characters:
    size = 8
    while True:
        shape = (2 * size + 1,) if n == 1 else (size + 1,) * (n - 1)
        origin = (size,) if n == 1 else (0,) * (n - 1)
        # box j of the Young diagram raises the label p_j and lowers p_{j-1}
        weights = np.eye(n, max(1, n - 1), dtype=int) - np.eye(n, max(1, n - 1), -1, dtype=int)
        dimension = _dimensions(n, shape)
        scaled = _series(shape, origin, weights, beta) / dimension
        ratio = scaled / scaled[origin]
        # the loss at the border of the box has the size of the coefficients there
        if all(np.take(ratio, -1, axis).max() < _NEGLIGIBLE for axis in range(ratio.ndim)):
            return Characters(ratio, dimension, origin, beta + float(np.log(scaled[origin])), weights)
        size += size // 2


def _series(shape: Label, origin: Label, weights: NDArray[np.int_], beta: float) -> Array:
    power = np.zeros(shape)
    power[origin] = 1.0
    total = np.zeros(shape)
    k = 0
    while True:
        term = math.exp(scipy.special.xlogy(k, beta) - beta - scipy.special.gammaln(k + 1)) * power
        total += term
        # past the mode of the Poisson weights the terms fall ever faster
        if k > beta and term.max() < _NEGLIGIBLE * total[origin]:
            return total
        power = (fuse(power, weights) + fuse(power, -weights)) / (2 * len(weights))
        k += 1


def fuse(coefficients: Array, weights: NDArray[np.int_]) -> Array:
    """The coefficients sum_s N_{sF}^r a_s of chi_F sum_s a_s chi_s, from a_s and the weights of F."""
    # a negative label is no representation: terms that leave the box of labels are dropped
    result = np.zeros_like(coefficients)
    for weight in weights:
        # steps are -1, 0 or 1
        target = tuple(slice(max(step, 0), -1 if step < 0 else None) for step in weight)
        source = tuple(slice(max(-step, 0), -1 if step > 0 else None) for step in weight)
        result[target] += coefficients[source]
    return result


def _dimensions(n: int, shape: Label) -> Array:
    """Weyl's formula: d = prod_{i<=j} (p_i + ... + p_j + j - i + 1) / (j - i + 1) over the Dynkin labels."""
    labels = np.indices(shape, dtype=np.float64)
    dimension = np.ones(shape)
    for i in range(n - 1):
        for j in range(i, n - 1):
            dimension *= 1 + labels[i : j + 1].sum(axis=0) / (j - i + 1)
    return dimension
