"""Modules of the user's own, whose import adds entries to the registries."""

import contextlib
import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lattice_flows.errors import InvalidInput


def import_modules(names: Iterable[str], where: str, folder: str | Path = ".") -> None:
    """Import modules that define entries of the registries, from a folder, the current folder, or the usual places.

    Raises:
        InvalidInput: one cannot be imported.
    """
    with _search_path(folder):
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise InvalidInput(
                    f"cannot import {name}: {error} ({where}); it is looked for in {Path(folder).resolve()}, in the "
                    "current folder and in $PYTHONPATH"
                ) from error


@contextlib.contextmanager
def _search_path(folder: str | Path) -> Iterator[None]:
    added = list(dict.fromkeys((str(Path(folder).resolve()), str(Path.cwd()))))
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for path in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(path)
