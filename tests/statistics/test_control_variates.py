"""Improved estimates: right on average, with errors that cover, and never moved by what is only rounding."""

import numpy as np
import pytest
from known_chains import ar1

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import estimate, improved


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_errors_cover_and_nothing_is_biased(rho):
    """300 chains whose mean is 2, with eight control variates, of which three explain most of it."""
    shape, pulls, gains = (300, 1000), [], []
    zeros = np.stack([ar1(rho, shape[1], seed=k, chains=shape[0]) for k in range(8)], -1)
    own = 2 + zeros[..., 0] - 0.5 * zeros[..., 1] * zeros[..., 2] + zeros[..., 3] + 0.1 * zeros[..., 4] ** 3
    for series, variates in zip(own, zeros, strict=True):
        found = improved(series, variates)
        pulls.append((found.estimate.value - 2) / found.estimate.error)
        gains.append(found.gain)
    assert np.mean(np.abs(pulls) < 1) == pytest.approx(0.68, abs=0.05 + 0.027)  # and the error of 300 of them
    assert abs(np.mean(pulls)) < 4 / 300**0.5
    assert 4 < np.median(gains) < 12


def test_copies_are_no_new_control_variates():
    """The difference of a quantity and its copy is rounding, whose mean is not that of an ensemble."""
    rng = np.random.default_rng(0)
    z, noise = rng.normal(size=(4, 500, 2)), rng.normal(size=(4, 500))
    series = z[..., 0] + noise
    copies = np.concatenate((z, z * (1 + 1e-7 * rng.normal(size=z.shape)) + 1e-7, np.zeros_like(z)), -1)
    with_copies, without = improved(series, copies), improved(series, z)
    assert with_copies.estimate.value == pytest.approx(without.estimate.value, abs=1e-4)
    assert abs(without.estimate.value) < 4 * without.estimate.error
    assert estimate(without.series).value == without.estimate.value


def test_chains_that_are_too_short():
    series, zeros = np.arange(60.0), np.arange(480.0).reshape(60, 8)
    with pytest.raises(InvalidInput, match=r"8 control variates need chains of 64 measurements in all, .* got 60"):
        improved(series, zeros)
    with pytest.raises(InvalidInput, match="a last axis behind the shape of the series"):
        improved(series, zeros[:50])
