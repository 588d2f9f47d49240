"""A Slurm for the tests that need one."""

import os

import cluster
import pytest
from launcher import missing_mpi


@pytest.fixture(scope="session")
def slurm():
    """While it is there, the commands of Slurm in this process talk to it."""
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
