"""Theories, samplers, observables and numbers with errors in words."""

import math
from typing import Any

from lattice_flows.config import Config
from lattice_flows.config.registry import OBSERVABLES, SAMPLERS
from lattice_flows.lattice import Space
from lattice_flows.models import build_space
from lattice_flows.statistics import Estimate


def system(config: Config) -> str:
    """Describe the theory.

    Example:
        >>> system(Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0}))
        'U(1), 8x8 sites, wilson action at beta = 2'
    """
    space, settings = build_space(config), couplings(config)
    action = f"{config.action.name} action" + (f" at {settings}" if settings else "")
    return f"{field(space)}, {space.lattice} sites, {action}"


def field(space: Space) -> str:
    """Name the gauge group, such as 'U(1)', or the kind of another field, such as 'scalar field'."""
    return space.facts.get("group") or f"{space.facts['field']} field"


def space_in_words(space: Space) -> str:
    """Name a field and its lattice, such as 'U(1) on 4x6'."""
    return f"{field(space)} on {space.lattice}"


def action_settings(config: Config) -> dict[str, Any]:
    """Return the settings of ``[action]`` beside its name, by their keys."""
    return {name: value for name, value in config.action.table().items() if name != "name"}


def couplings(config: Config) -> str:
    """List the settings of ``[action]``, such as 'm2 = -4, lambda = 6.975'."""
    return ", ".join(f"{name} = {short(value)}" for name, value in action_settings(config).items())


def sampler_in_words(config: Config) -> str:
    """List the updates.

    Example:
        >>> config = Config.of(lattice={"group": "U(1)", "extents": (8, 8)}, action={"beta": 2.0})
        >>> sampler_in_words(config.having(sampling={"updates": ("flow", "overrelaxation*4")}))
        'independence Metropolis, 4 over-relaxation'
    """
    cycle = ((SAMPLERS[name].label, count) for name, count in config.sampling.cycle)
    return ", ".join(f"{count} {label}" if count > 1 else label for label, count in cycle)


def label(name: str) -> str:
    """Return the label of an observable, such as 'Wilson loop W(2,2)', or its name where it has none."""
    return OBSERVABLES[name].label if name in OBSERVABLES else name


def bracketed(value: float, error: float) -> str:
    """Write a value with its error in brackets.

    Example:
        >>> bracketed(0.59781, 0.00031), bracketed(-0.0, 0.0)
        ('0.5978(3)', '0(0)')
    """
    # a mean of rounded numbers can be -0
    return str(Estimate(value + 0.0, error, tau_int=0.5, tau_int_error=0.0, window=0, n=1))


def number(value: float | None, form: str) -> str:
    """Write a number, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def short(value: Any) -> str:
    """Write a setting in few digits, such as '2' for 2.0."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
