"""Frozen dataclasses that check every field against its annotation: an instance that exists is one that fits."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from lattice_flows.errors import InvalidInput


class Rule(NamedTuple):
    """A condition on a value beyond its type, in words and as a test."""

    expectation: str
    holds: Callable[[Any], bool]


FINITE = Rule("finite", math.isfinite)
POSITIVE = Rule("> 0", lambda v: v > 0)


def at_least(bound: int) -> Rule:
    """The rule that a number is not below `bound`."""
    return Rule(f">= {bound}", lambda v: v >= bound)


Positive = Annotated[float, FINITE, POSITIVE]
Count = Annotated[int, at_least(1)]
Steps = Annotated[int, at_least(0)]
Seed = Annotated[int, Rule("from 0 to 2^63 - 1", lambda v: 0 <= v < 2**63)]


class Settings:
    """Base of frozen dataclasses of settings: it converts and checks every field by its type and its `Rule`s.

    The types are str, bool, int, float, `Literal` of strings, tuple[T, ...] of str, int and float, and each of them or
    None. An int is accepted for a float, a list for a tuple, and a bool is no number.

    A field is a key of a TOML table. A trailing underscore is dropped there: the key `lambda` is the field `lambda_`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Coupling(Settings):
        ...     beta: Positive
        ...     lambda_: float = 0.5
        >>> Coupling(beta=2)
        Coupling(beta=2.0, lambda_=0.5)
        >>> Coupling(beta=2).table()
        {'beta': 2.0, 'lambda': 0.5}
        >>> Coupling(beta=-1.0)
        Traceback (most recent call last):
        lattice_flows.errors.InvalidInput: beta must be > 0, got -1.0
    """

    def __post_init__(self) -> None:
        for key, hint in hints(type(self)).items():
            name = field_name(type(self), key)
            object.__setattr__(self, name, _checked(key, getattr(self, name), hint))

    def check(self, config: Any) -> None:
        """Compare these settings with the other sections of a whole `Config`; by default all go together.

        Raises:
            InvalidInput: some do not.
        """

    def table(self) -> dict[str, Any]:
        """The settings as a TOML table; one that is None is left out."""
        values = ((key, getattr(self, field_name(type(self), key))) for key in hints(type(self)))
        return {key: value for key, value in values if value is not None}

    @classmethod
    def from_table(
        cls,
        table: Mapping[str, Any],
        where: Callable[[str], str],
        unknown: Callable[[str], str] = lambda name: f"unknown key {name!r}, valid keys",
    ) -> Any:
        """The settings in a TOML table.

        Args:
            where: the place of a key, for errors; of "" the place of the table.
            unknown: the words for a key that is not among the fields; the fields follow them.

        Raises:
            InvalidInput: a key that is unknown, missing, or does not fit.
        """
        known = hints(cls)
        for key, value in table.items():
            if key not in known:
                raise InvalidInput(f"{unknown(key)}: {', '.join(known)} ({where(key)})")
            try:
                _checked(key, value, known[key])
            except InvalidInput as error:
                raise InvalidInput(f"{error} ({where(key)})") from None
        for field in fields(cls):  # type: ignore[arg-type]  # the subclasses are dataclasses
            key = field.name.removesuffix("_")
            if field.default is MISSING and field.default_factory is MISSING and key not in table:
                raise InvalidInput(f"{key} is missing ({where(key)})")
        try:
            return cls(**{field_name(cls, key): value for key, value in table.items()})
        except InvalidInput as error:  # a rule between fields
            raise InvalidInput(f"{error} ({where('')})") from None


def hints(kind: Any) -> dict[str, Any]:
    """The annotations of all fields of a class of settings by their keys, in order."""
    return _hints(kind)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    annotations = get_type_hints(kind, include_extras=True)
    return {field.name.removesuffix("_"): annotations[field.name] for field in fields(kind)}


def field_name(kind: Any, key: str) -> str:
    """The field that a key stands for."""
    return key if key in {field.name for field in fields(kind)} else f"{key}_"


_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
_PLURALS = {int: "integers", float: "numbers", str: "strings"}


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
    """The expectation in words, and the value in the type, or None if it is of another type."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return f"one of {', '.join(choices)}", value if value in choices else None
    if get_origin(kind) is tuple:
        item_kind = get_args(kind)[0]
        items = [_converted(item, item_kind)[1] for item in value] if isinstance(value, list | tuple) else [None]
        return f"a list of {_PLURALS[item_kind]}", None if None in items else tuple(items)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return _WORDS[kind], float(value) if number and (isinstance(value, float) or abs(value) < 1e300) else None
    if kind not in _WORDS:
        raise TypeError(f"settings are str, bool, int, float, Literal, tuples of them, or None, not {kind}")
    return _WORDS[kind], value if type(value) is kind else None
