"""The code that made a file: the package version and, in a checkout, the git commit."""

import subprocess
from functools import cache
from pathlib import Path

import lattice_flows


@cache
def provenance() -> dict[str, str]:
    """Return ``version`` and, in a checkout, ``commit``, which ends in ``-dirty`` where files differ from it.

    Example:
        >>> provenance()["version"] == lattice_flows.__version__
        True
    """
    version = {"version": lattice_flows.__version__}
    try:
        # an environment inside somebody else's repository is not a checkout of this one
        _git("ls-files", "--error-unmatch", "__init__.py")
        return version | {"commit": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")}
    except (OSError, subprocess.SubprocessError):
        return version


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(lattice_flows.__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=10).stdout.strip()
