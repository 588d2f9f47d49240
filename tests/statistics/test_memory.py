"""What is done with a series of n numbers takes a few times 8 n bytes."""

import resource
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from known_chains import ar1

from lattice_flows.statistics import (
    autocorrelation,
    bootstrap,
    estimate,
    jackknife,
    observables_to_pyerrors,
    pareto_tail,
    r_hat,
    reweight,
)

N = 200_000

# what takes a series, and how many copies of it the peak may be worth: of the memory that numpy asks for
CASES = {
    "estimate": (estimate, 10),
    "autocorrelation": (autocorrelation, 10),
    "obs": (lambda x: observables_to_pyerrors({"x": x}, "A"), 2),
    "jackknife": (lambda x: jackknife(np.square, x), 10),
    "bootstrap": (lambda x: bootstrap(np.square, x, torch.Generator().manual_seed(0), draws=10), 10),
    "reweight": (lambda x: reweight(x, 0.1 * x), 14),
    "r_hat": (r_hat, 11),
}


@pytest.mark.parametrize("name", CASES)
def test_peak(name):
    function, copies = CASES[name]
    function(ar1(0.8, 1000, seed=0)[0])  # what is loaded on the first call
    x = ar1(0.8, N, seed=1)[0]
    tracemalloc.start()
    try:
        function(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < copies * x.nbytes


@pytest.mark.parametrize("function", [lambda x: reweight(x, 0.1 * x), pareto_tail], ids=["reweight", "pareto_tail"])
def test_peak_with_torch(function):
    """The highest mark of the process, which may have been higher before, so that less is seen."""
    x = ar1(0.0, N, seed=1)[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function(x)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 40 * x.nbytes
