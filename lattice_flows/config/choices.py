"""Which keys a section has: its own, and those of the entries of a registry that it names."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lattice_flows.config.combine import combined, keys
from lattice_flows.config.registry import ACTIONS, ARCHITECTURES, SAMPLERS, Registry
from lattice_flows.config.rules import Settings
from lattice_flows.config.sections import ActionConfig, FlowConfig, LatticeConfig, SamplingConfig, TrainingConfig
from lattice_flows.errors import InvalidInput


class Open(NamedTuple):
    """A section whose keys depend on the entries that it names."""

    own: type[Settings]
    registry: Registry
    further: Callable[[Any], type[Settings] | None]
    """The settings of an entry that belong to this section."""


OPEN = {
    "action": Open(ActionConfig, ACTIONS, lambda entry: entry.settings),
    "flow": Open(FlowConfig, ARCHITECTURES, lambda recipe: recipe.settings),
    "training": Open(TrainingConfig, ARCHITECTURES, lambda recipe: recipe.training),
    "sampling": Open(SamplingConfig, SAMPLERS, lambda entry: entry.settings),
}


def section_class(section: str, names: Iterable[str]) -> type[Settings]:
    """The class of a section that names these entries.

    Raises:
        InvalidInput: there is no such entry, or two of them do not go together.
    """
    own, registry, further = OPEN[section]
    return combined(own, *(further(registry[name]) for name in names))


def owners(section: str, key: str) -> list[str]:
    """The entries that have a key of a section.

    Example:
        >>> owners("action", "beta")
        ['wilson', 'symanzik', 'iwasaki', 'dbw2']
    """
    _, registry, further = OPEN[section]
    return [name for name in registry if key in keys(_settings(registry, name, further))]


def default_action(field: str) -> str | None:
    """The action of a field where a config names none; None if there is no such action."""
    name = {"gauge": "wilson", "scalar": "phi4"}[field]
    return name if name in ACTIONS else None


def architecture(lattice: LatticeConfig, name: str) -> tuple[str, ...]:
    """The architecture of this name on a lattice; of "auto" the first that suits, or none."""
    if name != "auto":
        return (name,)
    dim = len(lattice.extents)
    return next(((name,) for name, recipe in ARCHITECTURES.items() if recipe.suits(lattice.field, dim)), ())


def words_for_unknown(section: str, names: Iterable[str]) -> Callable[[str], str]:
    """The words for a key that does not belong to a section that names these entries."""

    def words(key: str) -> str:
        if section in OPEN and (others := owners(section, key)):
            return f"{key} belongs to {', '.join(others)}, not to {', '.join(names) or 'any of them'}; valid keys"
        return f"unknown key {key!r}, valid keys"

    return words


def _settings(registry: Registry, name: str, further: Callable[[Any], type[Settings] | None]) -> Any:
    try:
        return further(registry[name])
    except InvalidInput:  # a broken entry of another package is no matter of this config
        return None
