"""The samplers of a run that tuned themselves: what was asked for, what was reached, and with which numbers."""

import math
from collections.abc import Mapping
from typing import Any

from lattice_flows.config import Config
from lattice_flows.config.registry import SAMPLERS
from lattice_flows.io import ChainFile

Tuned = dict[str, dict[str, int | float]]
"""The numbers `Tunable.tuned` by the name of the update, with the acceptance that was `asked` for and `reached`.

An example is ``{"hmc": {"steps": 12, "asked": 0.8, "reached": 0.79}}``.
"""

ATTRIBUTE = "tuned_"  # begins the names of the attributes of an ensemble that hold tuned numbers
NEAR = 0.1
"""An acceptance that differs more from the one that was asked for was not reached."""


def read_tuned(attributes: Mapping[str, Any], config: Config) -> Tuned:
    """Return the tuned numbers in the attributes of an ensemble, which older ensembles lack in part."""
    # the longest name first: it may begin with the name of another update
    names = sorted(config.sampling.names, key=len, reverse=True)
    tuned: Tuned = {}
    for attribute, value in attributes.items():
        name = next((name for name in names if attribute.startswith(f"{ATTRIBUTE}{name}_")), None)
        if name is not None:
            tuned.setdefault(name, {})[attribute.removeprefix(f"{ATTRIBUTE}{name}_")] = value.item()
    return tuned


def tuned_attributes(tuned: Tuned) -> dict[str, int | float]:
    """Return the attributes of an ensemble that hold tuned numbers."""
    return {f"{ATTRIBUTE}{name}_{key}": value for name, own in tuned.items() for key, value in own.items()}


def tuning_of(config: Config, chains: ChainFile) -> Tuned:
    """Return the tuned numbers of an ensemble.

    The acceptance that is `reached` is that of the stored updates, or, where several updates of the cycle can reject,
    that of each of them at the end of the thermalisation.
    """
    tuned = read_tuned(chains.attributes, config)
    rejecting = [name for name in config.sampling.names if SAMPLERS[name].rejects]
    if len(rejecting) == 1 and rejecting[0] in tuned and chains.n_updates:
        tuned[rejecting[0]]["reached"] = float(chains.series("acceptance").mean())
    return tuned


def tuning_in_words(tuned: Tuned) -> list[str]:
    """Write a line for each sampler that tuned itself.

    Example:
        >>> tuning_in_words({"hmc": {"steps": 8, "trajectory": 1.02, "asked": 0.8, "reached": 0.803}})
        ['hmc is tuned to steps = 8, trajectory = 1.02: acceptance 0.80, asked for 0.8']
    """
    lines = []
    for name, own in tuned.items():
        numbers = ", ".join(f"{key} = {value:.4g}" for key, value in own.items() if key not in ("asked", "reached"))
        reached = f"acceptance {own['reached']:.2f}" if "reached" in own else "acceptance unknown"
        asked = f": {reached}, asked for {own['asked']:g}" if "asked" in own else ""
        lines.append(f"{name} is tuned to {numbers}{asked}")
    return lines


def tuning_warnings(tuned: Tuned) -> list[str]:
    """Name the samplers that have not reached what was asked for, and the remedy.

    Example:
        >>> tuning_warnings({"local": {"spread": 0.5, "asked": 0.5, "reached": 0.105}})
        ['local: acceptance 0.10, not the 0.5 that was asked for: tune it longer, with a larger sampling.thermalise']
    """
    warnings = []
    for name, own in tuned.items():
        if "asked" not in own or "reached" not in own or abs(own["reached"] - own["asked"]) <= NEAR:
            continue
        above = own["reached"] > own["asked"]
        if above and own.get("spread") == math.pi:  # which reaches all of a group
            continue
        remedy = "tune it longer, with a larger sampling.thermalise"
        if above and own.get("steps") == 1:
            remedy = "one step is enough, so a longer sampling.trajectory costs nothing"
        elif "steps" in own and "trajectory" not in own:
            remedy += ", or leave out sampling.trajectory, so that it is tuned with the steps"
        if own["reached"] < 0.01 and "steps" in own:
            remedy += "; is the force that of the action?"
        words = f"acceptance {own['reached']:.2f}, not the {own['asked']:g} that was asked for"
        warnings.append(f"{name}: {words}: {remedy}")
    return warnings
