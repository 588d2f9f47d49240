"""Fixtures shared by all tests, and the marker `quick` of the laws."""

import os
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
# programs of experiments/kernels are tested with the kernels
sys.path[:0] = [str(TESTS), str(TESTS.parent / "experiments" / "kernels")]

from launcher import missing_mpi  # noqa: E402

torch.set_num_threads(1)  # fixtures of modules begin before those of tests
collect_ignore = ["plugins"]  # their import adds names to the registries

LAWS = {
    "actions", "config", "flows", "groups", "lattice", "layers", "observables", "operators", "planar", "sampling",
    "statistics", "training",
}  # fmt: skip
"""The rooms whose tests are laws over tables of cases."""


def pytest_collection_modifyitems(items):
    """Mark the tests of these rooms as quick, but for those that are marked slow."""
    for item in items:
        room = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if room in LAWS and item.get_closest_marker("slow") is None:
            item.add_marker("quick")


@pytest.fixture(autouse=True)
def _single_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    """A fresh random stream, the same for every test."""
    return torch.Generator().manual_seed(20240611)


@pytest.fixture(scope="session")
def slurm():
    """A Slurm of its own: the commands of Slurm in this process talk to it."""
    import cluster  # of the folder of the tests that need it

    if why := cluster.missing():
        pytest.skip(why)
    with cluster.running() as variables, pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("SLURM_", "SBATCH_")):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def mpi():
    """A reason to skip where jobs cannot have several processes."""
    if why := missing_mpi():
        pytest.skip(why)
