"""Errors for a person to act on: one line with the value, the expectation and the remedy."""

import contextlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class LatticeFlowsError(Exception):
    """An error that input can cause; the command line prints it as one line, without a traceback."""


class InvalidInput(LatticeFlowsError, ValueError):
    """An argument, a setting or a file does not fit."""


class NumericalFailure(LatticeFlowsError, ArithmeticError):
    """A computation fails: training diverges, or a decomposition does not converge."""


class Interrupted(LatticeFlowsError):
    """A run stops on request, after it has written everything that it needs to go on."""


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Add the place of the input to the message of an InvalidInput."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({place})") from None


def moved(room: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for names that stand elsewhere.

    Args:
        names: `module:name` leads to the place, which is imported on demand; other words are the new name, in an error.

    Example:
        >>> moved("lattice_flows.flows", {"hierarchical": "lattice_flows.planar.hierarchical:hierarchical"})
        <function moved.<locals>.get at ...>
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        if ":" in names[name]:
            return pkgutil.resolve_name(names[name])
        raise ImportError(f"{room}.{name} is now {names[name]}")

    return get
