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
    commit = _commit(Path(lattice_flows.__file__).parent)
    return {"version": lattice_flows.__version__} | ({"commit": commit} if commit else {})


def _commit(package: Path) -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=10).stdout.strip()

    try:
        # an environment inside somebody else's repository is not a checkout of this one
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
