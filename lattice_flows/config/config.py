"""All settings of one run, from tables of their values."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from lattice_flows.config.registry import ACTIONS, ARCHITECTURES, SAMPLERS, Registry
from lattice_flows.config.rules import Settings, combined, keys, within
from lattice_flows.config.sections import (
    ActionConfig,
    FlowConfig,
    LatticeConfig,
    SamplingConfig,
    TemperingConfig,
    TrainingConfig,
)
from lattice_flows.config.text import shown
from lattice_flows.errors import InvalidInput, naming

Table = Mapping[str, Any]
Tables = Mapping[str, Table]


class SectionKind(NamedTuple):
    """A section: its own keys, the entries that add keys, their attribute with these, and the key that names them."""

    own: type[Settings]
    registry: Registry | Mapping[str, Any]
    attribute: str
    naming: str

    def settings(self, names: Iterable[str]) -> type[Settings]:
        """The class of the section where it names these entries.

        Raises:
            InvalidInput: there is no such entry, or two of them do not go together.
        """
        return combined(self.own, *(getattr(self.registry[name], self.attribute) for name in names))

    def owners(self, key: str) -> list[str]:
        """The entries that have a key.

        Example:
            >>> SECTIONS["action"].owners("beta")
            ['wilson', 'symanzik', 'iwasaki', 'dbw2']
        """
        found = []
        for name in self.registry:
            with contextlib.suppress(InvalidInput):  # a broken entry of another package is no matter of this config
                if key in keys(getattr(self.registry[name], self.attribute)):
                    found.append(name)
        return found

    def unknown(self, names: Iterable[str], key: str) -> str:
        """The words for a key that does not belong to the section where it names these entries."""
        if owners := self.owners(key):
            return f"{key} belongs to {', '.join(owners)}, not to {', '.join(names) or 'any of them'}; valid keys"
        return f"unknown key {shown(key)}, valid keys"


SECTIONS = {
    "lattice": SectionKind(LatticeConfig, {}, "", ""),
    "action": SectionKind(ActionConfig, ACTIONS, "settings", "action.name"),
    "flow": SectionKind(FlowConfig, ARCHITECTURES, "settings", "flow.architecture"),
    "training": SectionKind(TrainingConfig, ARCHITECTURES, "training", "flow.architecture"),
    "sampling": SectionKind(SamplingConfig, SAMPLERS, "settings", "sampling.updates"),
    "tempering": SectionKind(TemperingConfig, {}, "", ""),
}

FREE = ("training.device", "training.checkpoint_every", "training.max_bad_steps")
"""Settings other than those of `[sampling]` that may change when a run goes on."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one run.

    `Config.of` makes one in Python, and `load` one from a TOML file. Sections have the keys of the entries that they
    name: ``config.flow.layers`` is there where ``config.flow.architecture`` has layers.

    Attributes:
        imports: modules that define entries of the registries. `load` of a file and `sample_run` import them.

    Raises:
        InvalidInput: sections that do not go together.
    """

    imports: tuple[str, ...] = ()
    lattice: LatticeConfig
    action: ActionConfig
    flow: FlowConfig
    training: TrainingConfig
    sampling: SamplingConfig
    tempering: TemperingConfig = field(default_factory=TemperingConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "imports", tuple(self.imports))
        names = _named(self.lattice, self.action, self.flow, self.sampling)
        for section, chosen in names.items():
            if type(getattr(self, section)) is not SECTIONS[section].settings(chosen):
                raise InvalidInput(
                    f"[{section}] has not the keys of {', '.join(chosen) or 'no entry'}: make the config with "
                    "Config.of, or from another with config.having"
                )
        flow = names["flow"]
        if self.flow.architecture == "auto" and flow:
            object.__setattr__(self, "flow", replace(self.flow, architecture=flow[0]))
        if self.sampling.uses_flow and not flow:
            raise InvalidInput(
                f"no architecture suits a {self.lattice.field} field in {len(self.lattice.extents)} dimensions: name "
                'one, or take updates without a flow, such as sampling.updates = ["hmc"]'
            )
        for section in SECTIONS:
            getattr(self, section).check(self)

    @classmethod
    def of(
        cls,
        *,
        lattice: Table | Settings,
        action: Table | Settings,
        flow: Table | Settings | None = None,
        training: Table | Settings | None = None,
        sampling: Table | Settings | None = None,
        tempering: Table | Settings | None = None,
        imports: Sequence[str] = (),
    ) -> "Config":
        """A config from the keys and values of its sections, as in TOML.

        Raises:
            InvalidInput: a key or a value that does not fit, with its place.

        Example:
            >>> config = Config.of(lattice={"group": "SU3", "extents": (8, 8)}, action={"beta": 4})
            >>> config.lattice.group, config.action.beta, config.flow.architecture, config.flow.layers
            ('SU(3)', 4.0, 'stripes', 16)
        """
        given = {
            "lattice": lattice,
            "action": action,
            "flow": flow,
            "training": training,
            "sampling": sampling,
            "tempering": tempering,
        }
        return configured({}, _plain(given), lambda key: key, imports)

    def having(self, **sections: Table | Settings) -> "Config":
        """The same config with other values of some keys.

        Keys of an action, an architecture or an update that it no longer names are left out.

        Raises:
            InvalidInput: a key or a value that does not fit, with its place.

        Example:
            >>> config = Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0})
            >>> config.having(sampling={"updates": ["heatbath", "overrelaxation*4"], "n": 50}).sampling.n
            50
        """
        return configured(self.tables(), _plain(sections), lambda key: key, self.imports)

    def tables(self) -> dict[str, dict[str, Any]]:
        """The keys and values of all sections, as in TOML; keys that are None, and empty sections, are left out."""
        tables = {section: getattr(self, section).table() for section in SECTIONS}
        return {section: table for section, table in tables.items() if table}


def configured(given: Tables, changes: Tables, place: Callable[[str], str], imports: Sequence[str] = ()) -> Config:
    """The config of some tables after changes.

    Keys of `given` are left out where they belong to an entry that the changes took away. Those of `changes` are all
    checked. Errors end in the `place` of a section or of ``section.key``; of "" it is the place of the whole.

    Raises:
        InvalidInput: a section, a key or a value that does not fit, with its place.
    """
    merged = {section: {**given.get(section, {}), **changes.get(section, {})} for section in (*given, *changes)}
    for name in merged:
        if name not in SECTIONS:
            raise InvalidInput(f"unknown section {shown(name)}, valid sections: {', '.join(SECTIONS)} ({place(name)})")
    chosen = before = _chosen(merged, place)
    with contextlib.suppress(InvalidInput):  # the tables alone may be no config
        before = _chosen(given, place)
    sections = {}
    for name, section in SECTIONS.items():
        with naming(place(section.naming)):
            kind = section.settings(chosen[name])
        table = merged.get(name, {})
        if gone := set(before[name]) - set(chosen[name]):
            kept = keys(kind).keys() | changes.get(name, {})
            table = {key: value for key, value in table.items() if key in kept or not gone & {*section.owners(key)}}
        if name == "action":
            table = {"name": chosen[name][0], **table}
        elif name == "flow" and chosen[name]:
            table = {**table, "architecture": chosen[name][0]}
        unknown = functools.partial(section.unknown, chosen[name])
        sections[name] = kind.from_table(table, within(name, place), unknown)
    with naming(place("")):
        return Config(imports=tuple(imports), **sections)


def _chosen(tables: Tables, place: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """The names of the entries in each section of tables."""

    def own(section: str, key: str, default: str | None = None) -> Any:
        value = tables.get(section, {}).get(key, default)
        return SECTIONS[section].own.from_table({} if value is None else {key: value}, within(section, place))

    lattice = LatticeConfig.from_table(tables.get("lattice", {}), within("lattice", place))
    default = {"gauge": "wilson", "scalar": "phi4"}[lattice.field]
    if default not in ACTIONS and "name" not in tables.get("action", {}):
        raise InvalidInput(f"name is missing: a {lattice.field} field has no default action ({place('action.name')})")
    action = own("action", "name", default if default in ACTIONS else None)
    return _named(lattice, action, own("flow", "architecture"), own("sampling", "updates"))


def _named(
    lattice: LatticeConfig, action: ActionConfig, flow: FlowConfig, sampling: SamplingConfig
) -> dict[str, tuple[str, ...]]:
    """The names of the entries in each section; of the architecture "auto" the first that suits, or none."""
    names: tuple[str, ...] = (flow.architecture,)
    if flow.architecture == "auto":
        dim = len(lattice.extents)
        names = next(((name,) for name, recipe in ARCHITECTURES.items() if recipe.suits(lattice.field, dim)), ())
    return {
        "lattice": (),
        "action": (action.name,),
        "flow": names,
        "training": names,
        "sampling": sampling.names,
        "tempering": (),
    }


def _plain(sections: Mapping[str, Table | Settings | None]) -> dict[str, dict[str, Any]]:
    """Tables with the names of TOML."""
    plain = {}
    for name, section in sections.items():
        table = section.table() if isinstance(section, Settings) else section or {}
        plain[name] = renamed(name, {key.removesuffix("_"): value for key, value in table.items()})
    return plain


def renamed(section: str, table: Table) -> dict[str, Any]:
    """A table with `extents` under this name, where it has `sites`.

    Raises:
        InvalidInput: it has both.
    """
    if section != "lattice" or "sites" not in table:
        return dict(table)
    if "extents" in table:
        raise InvalidInput("sites and extents of [lattice] are the same: leave sites out")
    return {"extents" if key == "sites" else key: value for key, value in table.items()}


def resume_conflicts(old: Config, new: Config, *, longer: bool = True) -> list[str]:
    """The settings, in words, that keep a run made with `old` from going on with `new`.

    Free to change are ``[sampling]``, ``imports`` and, in ``[training]``, device, checkpoint_every and max_bad_steps.
    With `longer`, ``steps`` may grow. The cosine schedule then ends later, so the run differs from one with the longer
    schedule from its start.

    Example:
        >>> old = Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0})
        >>> resume_conflicts(old, old.having(action={"beta": 3.0}, sampling={"n": 5}))
        ['action.beta was 2.0 and is now 3.0']
    """
    conflicts = []
    for section in ("lattice", "action", "flow", "training", "tempering"):
        before, now = getattr(old, section), getattr(new, section)
        # where another entry is named, its name alone is told, and not each key that comes or goes with it
        for key, (name, *_) in keys(type(before)).items():
            if key in keys(type(now)) and f"{section}.{key}" not in FREE:
                was, is_now = getattr(before, name), getattr(now, name)
                grows = longer and (section, key) == ("training", "steps") and is_now >= was
                if was != is_now and not grows:
                    conflicts.append(f"{section}.{key} was {was} and is now {is_now}")
    return sorted(conflicts)
