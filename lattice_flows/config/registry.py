"""Names in configs: one line here and one file make an action, an architecture, an update or an observable."""

import contextlib
import importlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lattice_flows.config.text import shown
from lattice_flows.errors import InvalidInput

log = logging.getLogger(__name__)

MODULE = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
"""The names of modules."""


class Registry:
    """Entries by name, in the order in which they are listed; each is imported on first use.

    To add an entry, add one line to this file; in another package, declare an entry point of the `group`; in a module
    of your own, call `register` and name the module in the `imports` of a config.

    Args:
        kind: the word for an entry, for errors.
        entries: `module:NAME` by name; modules are those of lattice_flows.
        group: of the entry points of other packages.

    Example:
        >>> ACTIONS["iwasaki"].settings
        <class 'lattice_flows.actions.base.BetaSettings'>
        >>> ACTIONS["willson"]
        Traceback (most recent call last):
        lattice_flows.errors.InvalidInput: unknown action 'willson'; available: wilson, symanzik, iwasaki, dbw2, phi4
    """

    def __init__(self, kind: str, entries: dict[str, str], group: str):
        self.kind, self.group = kind, group
        self._entries: dict[str, Any] = {name: f"lattice_flows.{place}" for name, place in entries.items()}
        self._searched = False

    def register(self, name: str, entry: Any) -> None:
        """Add an entry.

        Raises:
            InvalidInput: another entry has the name, or it is no word of letters, digits and underscores.
        """
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise InvalidInput(
                f"a name of letters, digits and underscores is expected for an {self.kind}, got {name!r}"
            )
        if self._all().get(name, entry) is not entry:
            raise InvalidInput(f"there is another {self.kind} with the name {name!r}: take another name")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> Any:
        """The entry of this name.

        Raises:
            InvalidInput: there is none, or the module of another package that has it cannot be imported.
        """
        if name not in self:
            raise InvalidInput(f"unknown {self.kind} {shown(name)}; available: {', '.join(self)}")
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            try:
                self._entries[name] = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                if module.startswith("lattice_flows."):
                    raise
                raise InvalidInput(f"the {self.kind} {name!r} is not at {entry}: {error}") from error
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._all()))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and entries."""
        return ((name, self[name]) for name in self)

    def _all(self) -> dict[str, Any]:
        if not self._searched:
            self._searched = True
            import importlib.metadata  # which takes longer to load than the rest of this room

            for point in importlib.metadata.entry_points(group=self.group):
                if self._entries.setdefault(point.name, point.value) != point.value:
                    log.warning("%s %s of %s is left out: the name is taken", self.kind, point.name, point.value)
        return self._entries


def import_modules(names: Iterable[str], where: str, folder: str | Path = ".") -> None:
    """Import modules that define entries of the registries, from a folder, the current folder, or the usual places.

    Raises:
        InvalidInput: one cannot be imported.
    """
    names = list(names)
    if not names:  # and no question where the current folder is
        return
    added = list(dict.fromkeys((str(Path(folder).resolve()), str(Path.cwd()))))
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        for name in names:
            if not re.fullmatch(MODULE, name):
                raise InvalidInput(f"the name of a module is expected, such as my_action, got {shown(name)} ({where})")
            importlib.import_module(name)
    except ImportError as error:
        raise InvalidInput(
            f"cannot import {name}: {error} ({where}); it is looked for in {added[0]}, in the current folder and in "
            "$PYTHONPATH"
        ) from error
    finally:
        for path in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(path)


ACTIONS = Registry(
    "action",
    {
        "wilson": "actions.weighted:WILSON",
        "symanzik": "actions.loops:SYMANZIK",
        "iwasaki": "actions.loops:IWASAKI",
        "dbw2": "actions.loops:DBW2_ENTRY",
        "phi4": "actions.phi4:PHI4",
    },
    "lattice_flows.actions",
)

ARCHITECTURES = Registry(
    "architecture",
    {
        "stripes": "flows.coupling_flows:STRIPES",
        "checkerboard": "flows.coupling_flows:CHECKERBOARD",
        "hierarchical": "planar.hierarchical:HIERARCHICAL",
        "affine": "flows.coupling_flows:AFFINE",
        "gradient": "training.gradient_stages:GRADIENT",
        "stout": "flows.stout_flows:STOUT",
    },
    "lattice_flows.architectures",
)

SAMPLERS = Registry(
    "update",
    {
        "flow": "sampling.independence:FLOW",
        "heatbath": "sampling.heatbath:HEAT_BATH",
        "overrelaxation": "sampling.heatbath:OVER_RELAXATION",
        "hmc": "sampling.hmc:HMC_ENTRY",
        "metropolis": "sampling.metropolis:METROPOLIS",
        "transformed": "sampling.transformed:TRANSFORMED",
        "annealing": "sampling.stochastic_flow:ANNEALING",
    },
    "lattice_flows.samplers",
)

OBSERVABLES = Registry(
    "observable",
    {
        "plaquette": "observables.loops:PLAQUETTE",
        "plaquette_space": "observables.loops:SPACE_LIKE_PLAQUETTE",
        "plaquette_time": "observables.loops:TIME_LIKE_PLAQUETTE",
        "wilson_loop_2x2": "observables.loops:WILSON_LOOP_2X2",
        "topological_charge": "observables.field_strength:TOPOLOGICAL_CHARGE",
        "topological_charge_squared": "observables.field_strength:TOPOLOGICAL_CHARGE_SQUARED",
        "polyakov_loop": "observables.loops:POLYAKOV_LOOP",
        "magnetisation": "observables.scalar:MAGNETISATION",
        "phi_squared": "observables.scalar:PHI_SQUARED",
        "susceptibility": "observables.scalar:SUSCEPTIBILITY",
        "ising_energy": "observables.scalar:ISING_ENERGY",
    },
    "lattice_flows.observables",
)
