"""One class of settings from several: a section has its own keys, and those of the entries that it names."""

import functools
import inspect
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from lattice_flows.config.rules import Settings, keys
from lattice_flows.errors import InvalidInput


def combined(base: type[Settings], *parts: type[Settings] | None) -> type[Settings]:
    """The frozen dataclass with the keys of `base` and then those of each part; equal arguments give the same class.

    A part that is None, or that comes twice, adds nothing. Methods of a part go before those of the base. Instances
    pickle as long as base and parts can be imported.

    Raises:
        InvalidInput: a part is no frozen dataclass of `Settings`, or two of them have the same key.

    Example:
        >>> from lattice_flows.config.rules import Count, Positive
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
        if not (isinstance(kind, type) and issubclass(kind, Settings) and is_dataclass(kind) and _frozen(kind)):
            raise InvalidInput(f"settings must be a frozen dataclass that derives from config.Settings, got {kind}")
    once = dict.fromkeys(given)
    kinds = [kind for kind in once if not any(other is not kind and issubclass(other, kind) for other in once)]
    return kinds[0] if len(kinds) == 1 else _combined(*kinds)


def _frozen(kind: Any) -> bool:
    return bool(kind.__dataclass_params__.frozen)


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
