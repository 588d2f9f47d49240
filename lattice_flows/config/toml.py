"""Configs from TOML files, with dotted overrides such as ``training.steps=500``, and back."""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from lattice_flows.config.config import Config, configured, renamed
from lattice_flows.config.registry import import_modules
from lattice_flows.config.rules import placed
from lattice_flows.errors import InvalidInput

COMMAND_LINE = "command line"


def load(
    path: str | Path, overrides: Iterable[str] = (), imports: Sequence[str] = (), *, beside: bool = True
) -> Config:
    """The config in a TOML file, after overrides such as ``training.steps=500``.

    Values of overrides are TOML; other text is taken as a string, so ``lattice.group=SU(3)`` needs no quotes. A
    ``[provenance]`` section, which run folders have, is ignored.

    The modules in the key ``imports`` at the top of the file, and in `imports`, are imported first. They are looked for
    in the current folder before the usual places.

    Args:
        beside: whether modules are looked for in the folder of the file, too. A folder from somebody else is not to
            bring its own.

    Raises:
        InvalidInput: in one line that names the value, the expectation, the file and the dotted key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot read the config: {error.strerror} ({path})") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"a config must be TOML, in UTF-8 ({path})") from error
    _, named = _parsed(text, str(path))
    import_modules(named, f"{path}: imports", Path(path).parent if beside else ".")
    import_modules(imports, f"{COMMAND_LINE}: --import")
    return loads(text, str(path), overrides, imports)


def loads(text: str, where: str, overrides: Iterable[str] = (), imports: Sequence[str] = ()) -> Config:
    """The config in TOML text, as `load`, but without importing any module.

    Args:
        where: the place of the text, for errors.
        imports: further modules that the config is to name.
    """
    tables, named = _parsed(text, where)
    named = tuple(dict.fromkeys((*named, *imports)))
    places: dict[str, str] = {}
    given = {section: _table(section, table, where, places) for section, table in tables.items()}
    changes = _changes(overrides, places)
    try:
        return configured(given, changes, lambda key: places.get(key, f"{where}: {key}" if key else where), named)
    except InvalidInput as error:
        missing = [name for name in named if name not in sys.modules]
        if not (missing and str(error).startswith("unknown")):
            raise
        raise InvalidInput(
            f"{error}; the config imports {', '.join(missing)}: name it by --import {missing[0]}, or import it in "
            "Python first"
        ) from None


def to_toml(config: Config, provenance: Mapping[str, str] | None = None) -> str:
    """TOML text that `load` turns into the same config; a setting that is None is left out.

    Example:
        >>> config = Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0})
        >>> print(to_toml(config).partition("[flow]")[0])
        [lattice]
        field = "gauge"
        group = "U(1)"
        extents = [8, 8]
        <BLANKLINE>
        [action]
        name = "wilson"
        beta = 2.0
        <BLANKLINE>
    """
    tables = config.tables() | ({"provenance": dict(provenance)} if provenance else {})
    parts = [_line("imports", config.imports)] if config.imports else []
    parts += [f"[{name}]\n" + "".join(_line(*item) for item in table.items()) for name, table in tables.items()]
    return "\n".join(parts)


def _parsed(text: str, where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The tables of TOML text without its provenance, and the modules that it names."""
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        raise InvalidInput(f"a config must be TOML: {error} ({where})") from error
    tables.pop("provenance", None)
    names = tables.pop("imports", [])
    if not isinstance(names, list) or not all(isinstance(n, str) and re.fullmatch(r"\w+(\.\w+)*", n) for n in names):
        raise InvalidInput(
            f'imports must be a list of modules, such as ["my_action"], got {names!r} ({where}: imports)'
        )
    return tables, tuple(names)


def _changes(overrides: Iterable[str], places: dict[str, str]) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, name = (part.strip() for part in key.partition("."))
        if not (equals and dot and section and name):
            raise InvalidInput(f"an override is section.key=value, got {override!r} ({COMMAND_LINE})")
        places[section] = f"{COMMAND_LINE}: {section}"
        changes.setdefault(section, {}).update(_table(section, {name: _value(value.strip())}, COMMAND_LINE, places))
    return changes


def _table(section: str, table: Any, where: str, places: dict[str, str]) -> dict[str, Any]:
    """The table of a section, with the places of its keys as they are written there."""
    with placed(f"{where}: {section}"):
        if not isinstance(table, dict):
            raise InvalidInput(f"{section} must be a section [{section}], got {table!r}")
        known = renamed(section, table)
    for written, key in zip(table, known, strict=True):
        places[f"{section}.{key}"] = f"{where}: {section}.{written}"
    return known


def _value(text: str) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if len(tables) == 1 else text


def _line(key: str, value: Any) -> str:
    """One setting; a list stands on one line."""
    if isinstance(value, tuple):
        return f"{key} = [{', '.join(_line(key, item).partition(' = ')[2].rstrip() for item in value)}]\n"
    return tomli_w.dumps({key: value})
