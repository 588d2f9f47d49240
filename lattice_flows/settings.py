"""Frozen dataclasses that check every field against its annotation: an instance that exists is one that fits."""

import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from lattice_flows.errors import InvalidInput


class Rule(NamedTuple):
    """What a value must satisfy beyond its type, in words and as a test."""

    expectation: str
    holds: Callable[[Any], bool]


FINITE = Rule("finite", math.isfinite)
POSITIVE = Rule("> 0", lambda v: v > 0)


def at_least(bound: int) -> Rule:
    """The rule that a number is not below `bound`."""
    return Rule(f">= {bound}", lambda v: v >= bound)


class Settings:
    """Base of frozen dataclasses of settings: converts and checks every field, in types and in its `Rule`s.

    The types are str, int, float, `Literal`, tuple[T, ...] of the first three, and each of them or None. An int is
    accepted for a float, a list for a tuple, and a bool is neither.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Coupling(Settings):
        ...     beta: Annotated[float, FINITE, POSITIVE]
        >>> Coupling(beta=2)
        Coupling(beta=2.0)
        >>> Coupling(beta=-1.0)
        Traceback (most recent call last):
        lattice_flows.errors.InvalidInput: beta must be > 0, got -1.0
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), hint))

    @classmethod
    def from_table(cls, table: dict[str, Any], where: Callable[[str], str]) -> Any:
        """The settings in a table; ``where(name)`` says in an error where the value came from, "" being the table."""
        hints = _hints(cls)
        for name, value in table.items():
            if name not in hints:
                raise InvalidInput(f"unknown key {name!r}, valid keys: {', '.join(hints)} ({where(name)})")
            try:
                _checked(name, value, hints[name])
            except InvalidInput as error:
                raise InvalidInput(f"{error} ({where(name)})") from None
        for field in fields(cls):  # type: ignore[arg-type]  # the subclasses are dataclasses
            if field.default is MISSING and field.name not in table:
                raise InvalidInput(f"{field.name} is missing ({where(field.name)})")
        try:
            return cls(**table)
        except InvalidInput as error:  # a rule between fields
            raise InvalidInput(f"{error} ({where('')})") from None


_PLURALS = {int: "integers", float: "numbers", str: "strings"}


def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value in the annotated type, or InvalidInput."""
    if type(None) in get_args(hint):
        return None if value is None else _checked(name, value, get_args(hint)[0])
    kind, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    expectation, converted = _converted(value, kind)
    if converted is None:
        raise InvalidInput(f"{name} must be {expectation}, got {value!r}")
    for rule in rules:
        if not rule.holds(converted):
            raise InvalidInput(f"{name} must be {rule.expectation}, got {value!r}")
    return converted


def _converted(value: Any, kind: Any) -> tuple[str, Any]:
    """What is expected, and the value as that, or None if it is something else. A bool is not a number here."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return f"one of {', '.join(choices)}", value if value in choices else None
    if get_origin(kind) is tuple:
        item_kind = get_args(kind)[0]
        items = [_converted(item, item_kind)[1] for item in value] if isinstance(value, list | tuple) else [None]
        return f"a list of {_PLURALS[item_kind]}", None if None in items else tuple(items)
    if kind is float:
        return "a number", float(value) if number and (isinstance(value, float) or abs(value) < 1e300) else None
    if kind is int:
        return "an integer", value if type(value) is int else None
    return "a string", value if isinstance(value, str) else None
