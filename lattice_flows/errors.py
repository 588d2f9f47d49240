"""Errors for a person to act on: one line with the value, the expectation and the remedy."""

import contextlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST = 4000
"""The characters of the longest error."""


class LatticeFlowsError(Exception):
    """An error that input can cause; the command line prints it as one line, without a traceback."""

    def __str__(self) -> str:
        words = super().__str__()
        return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."


class InvalidInput(LatticeFlowsError, ValueError):
    """An argument, a setting or a file does not fit."""


class NumericalFailure(LatticeFlowsError, ArithmeticError):
    """A computation fails: training diverges, or a decomposition does not converge."""


class Interrupted(LatticeFlowsError):
    """A run stops on request, after it has written everything that it needs to go on."""


class SomeFailed(LatticeFlowsError):
    """Some of several items fail; `answer` is that of the others, and `errors` has one for each item that fails."""

    def __init__(self, answer: str, errors: Sequence[Exception]):
        super().__init__("; ".join(map(str, errors)))
        self.answer, self.errors = answer, errors


def each(items: Iterable[Item], work: Callable[[Item], Result]) -> tuple[list[Result], list[Exception]]:
    """The results of all items that do not fail, and the errors of the others.

    Raises:
        LatticeFlowsError: all fail; it is the error of the first one.

    Example:
        >>> from pathlib import Path
        >>> results, errors = each([".", "no/folder"], lambda path: Path(path).stat().st_nlink > 0)
        >>> results, len(errors)
        ([True], 1)
    """
    results, errors = [], list[Exception]()
    for item in items:
        try:
            results.append(work(item))
        except (LatticeFlowsError, OSError) as error:
            errors.append(error)
    if errors and not results:
        raise errors[0]
    return results, errors


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Add the place of the input, unless it is empty, to the message of an InvalidInput."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({place})" if place else str(error)) from None


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
