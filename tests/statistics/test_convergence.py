"""R-hat, on chains that agree and on chains that do not."""

import math

import numpy as np
import pytest
import torch
from known_chains import ar1
from scipy.stats import cauchy

from lattice_flows.errors import InvalidInput
from lattice_flows.statistics import r_hat
from lattice_flows.statistics.convergence import split_r_hat


def of_halves(chains):
    """R-hat of the halves of chains, without ranks."""
    return split_r_hat(np.concatenate(np.split(np.asarray(chains), 2, axis=1)))


@pytest.mark.parametrize("a", [0.0, 0.8])
@pytest.mark.parametrize("chains", [1, 4])
def test_chains_that_agree(a, chains):
    values = np.array([r_hat(x) for x in ar1(a, 4000, seed=1, chains=20 * chains).reshape(20, chains, 4000)])
    assert (values < 1.01).all()
    assert (values > 0.999).all()


def test_stuck_chains():
    noise = ar1(0.5, 500, seed=2, chains=4)
    apart = noise + 3 * np.arange(4)[:, None]
    assert r_hat(apart) > 1.5
    assert r_hat(noise[0] + np.linspace(0, 5, 500)) > 1.5  # a drift, seen by the halves of a single chain
    one_frozen = np.where(np.arange(4)[:, None] == 2, 2.0, noise)
    assert r_hat(one_frozen) > 1.1
    assert r_hat([[-1.0] * 10, [0.0] * 10]) == math.inf
    assert r_hat(np.repeat([1.0, 2.0], 50)) == math.inf
    assert math.isnan(r_hat(np.full((3, 10), 0.1)))


def test_known_value():
    """Chains at +-d with unit variance: var+ / within = 1 + 4/3 d^2 for four halves, up to 1/n."""
    noise = ar1(0.0, 200_000, seed=3, chains=2)
    for d in (0.1, 0.5, 2.0):
        assert of_halves(noise + np.array([[d], [-d]])) == pytest.approx(math.sqrt(1 + 4 / 3 * d**2), abs=0.003)


def test_ranks_see_what_moments_do_not():
    rng = np.random.default_rng(4)
    heavy = cauchy.rvs(size=(4, 2000), random_state=rng)
    assert r_hat(heavy) < 1.01
    assert r_hat(heavy + 3 * (np.arange(4) == 3)[:, None]) > 1.1
    spread = rng.normal(size=(4, 2000)) * [[1], [1], [1], [4]]
    assert of_halves(spread) < 1.01
    assert r_hat(spread) > 1.1


def test_ways_to_give_chains():
    x = ar1(0.5, 101, seed=5, chains=3)
    expected = r_hat(x)
    assert r_hat(torch.from_numpy(x)) == expected
    assert r_hat([x[0], np.concatenate([[50.0] * 7, x[1]]), x[2]]) == expected  # the last of the longer one
    assert r_hat(x[:, 1:]) == expected
    with pytest.raises(InvalidInput, match="at least 5"):
        r_hat(np.zeros((2, 4)))
