"""All settings of one run, from tables of their values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lattice_flows.config.choices import architecture, default_action, owners, section_class, words_for_unknown
from lattice_flows.config.combine import keys
from lattice_flows.config.rules import Settings
from lattice_flows.config.sections import (
    ActionConfig,
    FlowConfig,
    LatticeConfig,
    SamplingConfig,
    TrainingConfig,
    names_of,
)
from lattice_flows.errors import InvalidInput

Table = Mapping[str, Any]
Tables = Mapping[str, Table]
SECTIONS = ("lattice", "action", "flow", "training", "sampling")
NAMING = {
    "action": "action.name",
    "flow": "flow.architecture",
    "training": "flow.architecture",
    "sampling": "sampling.updates",
}
"""The keys that name entries."""


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "imports", tuple(self.imports))
        flow = architecture(self.lattice, self.flow.architecture)
        names = {"action": (self.action.name,), "flow": flow, "training": flow, "sampling": self.sampling.names}
        for section, chosen in names.items():
            if type(getattr(self, section)) is not section_class(section, chosen):
                raise InvalidInput(
                    f"[{section}] has not the keys of {', '.join(chosen) or 'no entry'}: make the config with "
                    "Config.of, or from another with config.having"
                )
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
        given = {"lattice": lattice, "action": action, "flow": flow, "training": training, "sampling": sampling}
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
        """The keys and values of all sections, as in TOML; one that is None is left out."""
        return {section: getattr(self, section).table() for section in SECTIONS}


def configured(given: Tables, changes: Tables, place: Callable[[str], str], imports: Sequence[str] = ()) -> Config:
    """The config of some tables after changes.

    Keys of `given` are left out where they belong to an entry that the changes took away. Those of `changes` are all
    checked.

    Args:
        place: of a section or of ``section.key``, for errors; of "" the place of the whole.

    Raises:
        InvalidInput: a section, a key or a value that does not fit, with its place.
    """
    merged = {section: {**given.get(section, {}), **changes.get(section, {})} for section in (*given, *changes)}
    for name in merged:
        if name not in SECTIONS:
            raise InvalidInput(f"unknown section {name!r}, valid sections: {', '.join(SECTIONS)} ({place(name)})")
    chosen = _chosen(merged, place)
    before = _chosen_or_none(given, place) if changes else chosen
    sections = {}
    for section in SECTIONS:
        names = chosen[section]
        try:
            kind = LatticeConfig if section == "lattice" else section_class(section, names)
        except InvalidInput as error:  # an unknown name
            raise InvalidInput(f"{error} ({place(NAMING[section])})") from None
        table = merged.get(section, {})
        if before is not None and (gone := set(before[section]) - set(names)):
            kept = {*keys(kind), *changes.get(section, {})}
            table = {key: value for key, value in table.items() if key in kept or not gone & {*owners(section, key)}}
        if section == "action":
            table = {"name": names[0], **table}
        elif section == "flow" and names:
            table = {**table, "architecture": names[0]}
        sections[section] = kind.from_table(table, _within(section, place), words_for_unknown(section, names))
    try:
        return Config(imports=tuple(imports), **sections)
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({place('')})" if place("") else str(error)) from None


def _chosen(tables: Tables, place: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """The names of the entries in each section."""

    def value(kind: Any, section: str, key: str, default: str | None = None) -> Any:
        table = tables.get(section, {}).get(key, default)
        return getattr(kind.from_table({} if table is None else {key: table}, _within(section, place)), key)

    lattice = LatticeConfig.from_table(tables.get("lattice", {}), _within("lattice", place))
    name = default_action(lattice.field)
    if name is None and "name" not in tables.get("action", {}):
        raise InvalidInput(f"name is missing: a {lattice.field} field has no default action ({place('action.name')})")
    action = value(ActionConfig, "action", "name", name)
    flow = architecture(lattice, value(FlowConfig, "flow", "architecture"))
    updates = names_of(value(SamplingConfig, "sampling", "updates"))
    return {"lattice": (), "action": (action,), "flow": flow, "training": flow, "sampling": updates}


def _chosen_or_none(tables: Tables, place: Callable[[str], str]) -> dict[str, tuple[str, ...]] | None:
    """The same, or None where the tables alone do not say it."""
    try:
        return _chosen(tables, place)
    except InvalidInput:
        return None


def _within(section: str, place: Callable[[str], str]) -> Callable[[str], str]:
    return lambda key: place(f"{section}.{key}" if key else section)


def _plain(sections: Mapping[str, Table | Settings | None]) -> dict[str, dict[str, Any]]:
    """Tables with the names of TOML."""
    tables = {
        name: section.table() if isinstance(section, Settings) else section or {} for name, section in sections.items()
    }
    return {
        name: renamed(name, {key.removesuffix("_"): value for key, value in table.items()})
        for name, table in tables.items()
    }


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
