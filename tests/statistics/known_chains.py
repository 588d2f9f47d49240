"""Chains whose autocorrelation is known."""

import math

import numpy as np
from scipy.signal import lfilter


def ar1(a: float, n: int, seed: int, chains: int = 1) -> np.ndarray:
    """Chains x_t = a x_{t-1} + noise in equilibrium, of mean 0 and variance 1: rho(t) = a^t."""
    rng = np.random.default_rng(seed)
    noise = math.sqrt(1 - a**2) * rng.normal(size=(chains, n))
    start = rng.normal(size=(chains, 1))
    return lfilter([1], [1, -a], noise, zi=a * start)[0]
