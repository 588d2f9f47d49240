"""Frozen dataclasses that check every field against its annotation: an instance that exists is one that fits.

A section of a config is put together from several: it has its own keys, and those of the entries that it names.
"""

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from lattice_flows.config.text import shown
from lattice_flows.errors import InvalidInput, naming


class Rule(NamedTuple):
    """A condition on a value beyond its type, in words and as a test."""

    expectation: str
    holds: Callable[[Any], object]


FINITE = Rule("finite", math.isfinite)
POSITIVE = Rule("> 0", lambda v: v > 0)


def at_least(bound: int) -> Rule:
    """The rule that a number is not below `bound`."""
    return Rule(f">= {bound}", lambda v: v >= bound)


def at_most(bound: int) -> Rule:
    """The rule that a number is not above `bound`: what it counts takes memory or time."""
    return Rule(f"<= {bound:,}", lambda v: v <= bound)


def matching(expectation: str, pattern: str) -> Rule:
    """The rule that the whole of a text matches a regular expression."""
    return Rule(expectation, re.compile(pattern).fullmatch)


Positive = Annotated[float, FINITE, POSITIVE]
Count = Annotated[int, at_least(1), at_most(10**9)]
Steps = Annotated[int, at_least(0), at_most(10**9)]
Seed = Annotated[int, Rule("from 0 to 2^63 - 1", lambda v: 0 <= v < 2**63)]


class Settings:
    """Base of frozen dataclasses of settings: it converts and checks every field by its type and its `Rule`s.

    The types are str, bool, int, float, `Literal` of strings, tuple[T, ...] of str, int, float and such tuples, and each
    of them or None. An int is accepted for a float, a list for a tuple, and a bool is no number.

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
        for key, (name, hint, _) in keys(type(self)).items():
            object.__setattr__(self, name, _checked(key, getattr(self, name), hint))

    def check(self, config: Any) -> None:
        """Compare these settings with the other sections of a whole `Config`; by default all go together.

        Raises:
            InvalidInput: some do not.
        """

    def table(self) -> dict[str, Any]:
        """The settings as a TOML table; one that is None is left out."""
        values = {key: getattr(self, name) for key, (name, *_) in keys(type(self)).items()}
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_table(
        cls,
        table: Mapping[str, Any],
        where: Callable[[str], str],
        unknown: Callable[[str], str] = lambda name: f"unknown key {shown(name)}, valid keys",
    ) -> Any:
        """The settings in a TOML table.

        Args:
            where: the place of a key, for errors; of "" the place of the table.
            unknown: the words for a key that is not among the fields; the fields follow them.

        Raises:
            InvalidInput: a key that is unknown, missing, or does not fit.
        """
        known, values = keys(cls), {}
        for key, value in table.items():
            with naming(where(key)):
                if key not in known:
                    raise InvalidInput(f"{unknown(key)}: {', '.join(known)}")
                values[known[key].field] = _checked(key, value, known[key].hint)
        for key, (_, _, required) in known.items():
            if required and key not in table:
                raise InvalidInput(f"{key} is missing ({where(key)})")
        with naming(where("")):  # a rule between fields
            return cls(**values)


def within(section: str, place: Callable[[str], str]) -> Callable[[str], str]:
    """The places of the keys of a section, from those of ``section`` and of ``section.key``."""
    return lambda key: place(f"{section}.{key}" if key else section)


class Key(NamedTuple):
    """A key of a class of settings: the field that it stands for, its annotation, and whether it has no default."""

    field: str
    hint: Any
    required: bool


def keys(kind: Any) -> dict[str, Key]:
    """The keys of a class of settings, in order; `Settings` itself and None have none."""
    return _keys(kind)


@functools.cache
def _keys(kind: Any) -> dict[str, Key]:
    if not is_dataclass(kind):
        return {}
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name.removesuffix("_"): Key(
            field.name, hints[field.name], field.default is MISSING and field.default_factory is MISSING
        )
        for field in fields(kind)
    }


_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
_PLURALS = {int: "integers", float: "numbers", str: "strings"}


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value in the annotated type, or InvalidInput."""
    if type(None) in get_args(hint):
        return None if value is None else _checked(name, value, get_args(hint)[0])
    kind, *rules = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    expectation, converted = _converted(value, kind)
    if converted is None:
        raise InvalidInput(f"{name} must be {expectation}, got {shown(value)}")
    for rule in rules:
        if not rule.holds(converted):
            raise InvalidInput(f"{name} must be {rule.expectation}, got {shown(value)}")
    return converted


def _converted(value: Any, kind: Any) -> tuple[str, Any]:
    """The expectation in words, and the value in the type, or None if it is of another type."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return f"one of {', '.join(choices)}", value if value in choices else None
    if get_origin(kind) is tuple:
        item_kind = get_args(kind)[0]
        items = [_converted(item, item_kind)[1] for item in value] if isinstance(value, list | tuple) else [None]
        return f"a list of {_plural(item_kind)}", None if None in items else tuple(items)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return _WORDS[kind], float(value) if number and (isinstance(value, float) or abs(value) < 1e300) else None
    if kind not in _WORDS:
        raise TypeError(f"settings are str, bool, int, float, Literal, tuples of them, or None, not {kind}")
    if type(value) is str and kind is str and not _is_text(value):
        return "text in UTF-8, without NUL", None
    return _WORDS[kind], value if type(value) is kind else None


def _plural(kind: Any) -> str:
    return f"lists of {_plural(get_args(kind)[0])}" if get_origin(kind) is tuple else _PLURALS[kind]


def _is_text(value: str) -> bool:
    """Whether files and the names of files can hold a string: no NUL, no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def combined(base: type[Settings], *parts: type[Settings] | None) -> type[Settings]:
    """The frozen dataclass with the keys of `base` and then those of each part; equal arguments give the same class.

    A part that is None, or that comes twice, adds nothing. Methods of a part go before those of the base. Instances
    pickle as long as base and parts can be imported.

    Raises:
        InvalidInput: a part is no frozen dataclass of `Settings`, or two of them have the same key.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Section(Settings):
        ...     name: str = "wilson"
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Coupling(Settings):
        ...     beta: Positive
        >>> combined(Section, Coupling, Coupling)(beta=2)
        Section(name='wilson', beta=2.0)
    """
    given: list[Any] = [base, *(part for part in parts if part not in (None, Settings))]
    for kind in given:
        params = getattr(kind, "__dataclass_params__", None)
        if not (isinstance(kind, type) and issubclass(kind, Settings) and params and params.frozen):
            raise InvalidInput(f"settings must be a frozen dataclass that derives from config.Settings, got {kind}")
    once = dict.fromkeys(given)
    kinds = [kind for kind in once if not any(other is not kind and issubclass(other, kind) for other in once)]
    return kinds[0] if len(kinds) == 1 else _combined(*kinds)


@functools.cache
def _combined(*kinds: Any) -> Any:
    base = kinds[0]
    owners: dict[str, Any] = {}
    taken = set(dir(base)) - base.__dataclass_fields__.keys()
    for kind in kinds:
        for key, (name, *_) in keys(kind).items():
            if name in taken:
                raise InvalidInput(f"a key cannot be called {key!r}, the name of a method: rename it")
            definition = next(owner for owner in kind.__mro__ if name in inspect.get_annotations(owner))
            if owners.setdefault(key, definition) is not definition:
                raise InvalidInput(
                    f"{owners[key].__qualname__} and {definition.__qualname__} both have a key {key!r}: "
                    "rename one, or let them share a class"
                )
    # of dataclasses the last base has the first fields
    methods = {"__doc__": base.__doc__, "__module__": base.__module__, "__reduce__": _reduce, "_kinds": kinds}
    return dataclass(frozen=True, kw_only=True)(type(base.__name__, kinds[::-1], methods))


def _reduce(self: Any) -> tuple[Any, ...]:
    """The class has no name to be found by: it is made again from its parts."""
    return _restored, (type(self)._kinds, {field.name: getattr(self, field.name) for field in fields(self)})


def _restored(kinds: tuple[type[Settings], ...], values: dict[str, Any]) -> Settings:
    return combined(*kinds)(**values)
