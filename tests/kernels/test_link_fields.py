"""The memory of fields and how threads wait for each other, through the ops; and the memory of tensors."""

import ctypes
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lattice_flows import SU, U1, GaugeField
from lattice_flows.actions import Iwasaki, Wilson
from lattice_flows.kernels.link_flow import link_flow
from lattice_flows.kernels.link_sweeps import HEAT_BATH, OVER_RELAXATION, link_sweeps
from lattice_flows.kernels.link_trajectories import link_trajectories

KEYS, CALLS = torch.tensor([[3, 4]]), torch.tensor([5])
SINGLE, DOUBLE = torch.float32, torch.float64
CASES = [
    (U1(), (8, 64), SINGLE), (SU(2), (4, 8, 16), DOUBLE), (SU(2), (16, 32), SINGLE), (SU(2), (16, 32), DOUBLE),
    (SU(3), (8, 64), SINGLE),
]  # fmt: skip
"""Of 32 sites a sublattice or more, so that threads share them; of several sizes of fields, one of them twice."""


def results(case):
    """What all ops make of the links of a case."""
    group, extents, dtype = case
    space = GaugeField(group, extents)
    links = space.prior(1, torch.Generator().manual_seed(7), dtype=dtype)
    found = []
    for action in (Wilson(space, 2.0), Iwasaki(space, 1.0)) if min(extents) > 4 else (Wilson(space, 2.0),):
        weights = action.loop_weights()
        found += link_sweeps(links, extents, weights, [HEAT_BATH, OVER_RELAXATION], KEYS, CALLS)
        found += link_trajectories(links, extents, weights, [0.05, 0.1, 0.05], 0.1, KEYS, CALLS)
    return [*found, *link_flow(links, extents, [0.1], 1e-3, 0.05, torch.full((1,), 0.02).double())]


def same(found, expected):
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.fixture(scope="module")
def alone():
    """The results of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield [results(case) for case in CASES]
    torch.set_num_threads(threads)


@pytest.mark.parametrize("threads", [3, 7])
def test_threads_wait_for_each_other(threads, alone):
    """In many small calls, of more threads than there are cores."""
    torch.set_num_threads(threads)
    for _ in range(3):
        assert all(same(results(case), expected) for case, expected in zip(CASES, alone, strict=True))


def test_calls_at_the_same_time_have_memory_of_their_own(alone):
    torch.set_num_threads(1)
    cases = list(zip(CASES, alone, strict=True)) * 6
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: same(results(pair[0]), pair[1]), cases))
    assert all(found)


def test_a_field_finds_the_memory_of_another_of_its_size(alone):
    """It is not that of zeros: nothing is read before it is written, in whatever order sizes come."""
    torch.set_num_threads(1)
    pairs = list(zip(CASES, alone, strict=True))
    for case, expected in itertools.chain(reversed(pairs), pairs[::2], pairs[1::2]):
        assert same(results(case), expected)


STEPS = """
import resource, torch
from lattice_flows.kernels import build
build.native("uniforms", torch.float32)
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    used = [torch.ones(2**20) for _ in range(12)]  # a thousand pages each
    del used
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.pythonapi, "mallopt") or any(name.startswith(("MALLOC_", "GLIBC_")) for name in os.environ),
    reason="needs glibc as it is",
)
def test_steps_take_no_memory_from_the_system():
    """Once there is a kernel: glibc would give back what a step has used, and take it again page by page."""
    found = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1000
