"""Integrals over the coupling by the rule of Gauss and Legendre, with their errors."""

from collections.abc import Callable

import numpy as np

from lattice_flows.statistics import Estimate


def integrated(mean: Callable[[int, float], Estimate], begin: float, end: float, nodes: int) -> tuple[float, float]:
    """The integral over beta from begin to end, with its error.

    Args:
        mean: the integrand, from the number of a node and beta there.
        nodes: their number.
    """
    places, weights = np.polynomial.legendre.leggauss(nodes)
    shares = (end - begin) * weights / 2
    found = [mean(k, float(begin + (end - begin) * (1 + place) / 2)) for k, place in enumerate(places)]
    total = sum(share * own.value for share, own in zip(shares, found, strict=True))
    variance = sum((share * own.error) ** 2 for share, own in zip(shares, found, strict=True))
    return float(total), float(variance**0.5)
