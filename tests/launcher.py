"""The MPI that tests of several processes run on."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

# programs that pip has brought are beside this Python
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


def missing_mpi():
    """Why there can be no world of several processes here, or None."""
    if MPIEXEC is None or importlib.util.find_spec("mpi4py") is None:
        return "no mpi4py with an MPI: pip install mpi4py mpich"
    return None
