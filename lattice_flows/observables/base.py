"""The interface of observables, and the observables of runs."""

import pkgutil
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.registry import OBSERVABLES
from lattice_flows.lattice import GaugeField, Space

Observable = Callable[[Tensor], Tensor]
"""A function of configurations, with one number or array for each."""


class ObservableEntry(NamedTuple):
    """A named observable: every run measures it, if it applies to the space.

    To add one: a file with the observable and its entry, and one line in `lattice_flows/config/registry.py`.
    """

    label: str
    """The words of tables and figures."""
    build: Callable[[Space], Observable | None]
    """space -> the observable, or None if it does not apply."""
    exact: Callable[[Action], float | None] | str | None = None
    """action -> the exact mean, or None if no formula is known; or `module:function` of that."""

    def exact_mean(self, action: Action) -> float | None:
        """The exact mean for an action, or None if no formula is known.

        Example:
            >>> from lattice_flows import SU
            >>> from lattice_flows.actions import Wilson
            >>> round(OBSERVABLES["plaquette"].exact_mean(Wilson(GaugeField(SU(3), (16, 16)), beta=6.0)), 7)
            0.4225317
        """
        # imported on first use, as formulas stand in a higher room
        function = pkgutil.resolve_name(self.exact) if isinstance(self.exact, str) else self.exact
        return None if function is None else function(action)


def of_links(build: Callable[[GaugeField], Observable | None]) -> Callable[[Space], Observable | None]:
    """Extend a builder to all spaces: None on a space that is not one of links."""
    return lambda space: build(space) if isinstance(space, GaugeField) else None


def standard_observables(space: Space) -> dict[str, Observable]:
    """The observables that a run measures on a space, by their names in the registry: all that apply.

    Example:
        >>> from lattice_flows import SU
        >>> list(standard_observables(GaugeField(SU(3), (8, 8))))
        ['plaquette', 'wilson_loop_2x2', 'polyakov_loop']
    """
    built = ((name, entry.build(space)) for name, entry in OBSERVABLES.items())
    return {name: observable for name, observable in built if observable is not None}
