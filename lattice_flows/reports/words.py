"""Theories, samplers, observables and numbers with errors in words."""

import json
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
    betas = config.tempering.betas
    exchange = [f"replica exchange with {len(betas)} couplings"] if betas else []
    return ", ".join([*(f"{count} {label}" if count > 1 else label for label, count in cycle), *exchange])


def label(name: str) -> str:
    """Return the label of an observable, such as 'Wilson loop W(2,2)', or its name where it has none."""
    return OBSERVABLES[name].label if name in OBSERVABLES else name


def bracketed(value: float, error: float | None) -> str:
    """Write a value with its error in brackets, or alone where there is no error.

    Example:
        >>> bracketed(0.59781, 0.00031), bracketed(-0.0, 0.0), bracketed(0.046912, None)
        ('0.5978(3)', '0(0)', '0.04691')
    """
    error = math.nan if error is None else error
    # a mean of rounded numbers can be -0
    return str(Estimate(value + 0.0, error, tau_int=0.5, tau_int_error=0.0, window=0, n=1))


def number(value: float | None, form: str) -> str:
    """Write a number, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def short(value: Any) -> str:
    """Write a setting in few digits, such as '2' for 2.0, and lists as in a config."""
    if isinstance(value, tuple):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def ess_in_words(value: float, n: int, error: float | None = None) -> str:
    """Write an ESS from n samples; where fewer than 10 of them count, it is only known to be small.

    It is then below 10 / n, or below two errors where these are larger.

    Example:
        >>> ess_in_words(0.4153, 1024, 0.012), ess_in_words(0.867, 1600), ess_in_words(0.059, 32)
        ('0.415(12)', '0.867', '< 0.31 (32 samples cannot show less)')
        >>> ess_in_words(0.004, 1024, 0.018)
        '< 0.04 (1024 samples cannot show less)'
    """
    if n == 0:
        return "-"
    if value * n < 10:
        bound = max(10 / n, value + 2 * (error or 0.0))
        return f"< {bound:.2g} ({n} samples cannot show less)" if bound < 1 else f"unknown ({n} samples are too few)"
    return f"{value:.3f}" if error is None else bracketed(value, error)


def stage_in_words(name: str, number: int, stages: int) -> str:
    """Name a stage of a training.

    Example:
        >>> stage_in_words("4+4", 1, 4), stage_in_words("flow", 4, 4)
        ('stage 4+4 (1 of 4)', 'the flow')
    """
    return "the flow" if name == "flow" else f"stage {name} ({number} of {stages})"


def half_trained(step: int, planned: int) -> str:
    """Say that a flow was sampled before its training came to its end."""
    return f"the flow was trained for {step} of {planned} steps"
