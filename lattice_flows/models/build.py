"""From a config to its space, action and flow."""

import torch

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.config.registry import ACTIONS, ARCHITECTURES
from lattice_flows.errors import naming
from lattice_flows.flows import Flow
from lattice_flows.groups import from_name
from lattice_flows.lattice import GaugeField, Lattice, ScalarField, Space


def build_space(config: Config) -> Space:
    """Return the space that ``[lattice]`` names.

    Raises:
        InvalidInput: no such group.

    Example:
        >>> build_space(Config.of(lattice={"group": "SU3", "extents": (4, 6)}, action={"beta": 6.0}))
        GaugeField(SU(3), 4x6)
    """
    lattice = Lattice(config.lattice.extents)
    if config.lattice.field == "scalar":
        return ScalarField(lattice)
    assert config.lattice.group is not None  # by the rules of the section
    return GaugeField(from_name(config.lattice.group), lattice)


def build_action(config: Config, source: str) -> tuple[Config, Action]:
    """Return the config with the group's own name, and the action; errors name the `source` of the config.

    Raises:
        InvalidInput: no such group, or an action that the space cannot have.
    """
    with naming(f"{source}: lattice"):
        space = build_space(config)
    config = config.having(lattice=space.facts)
    with naming(f"{source}: action"):
        action = ACTIONS[config.action.name].build(space, config.action)
    return config, action


def build_run(config: Config, source: str) -> tuple[Config, Flow, Action]:
    """Return the config with the group's own name, the untrained flow, and the action; `source` as `build_action`.

    Raises:
        InvalidInput: as `build_action`, or a space and settings that the architecture cannot have.
    """
    config, action = build_action(config, source)
    with naming(f"{source}: lattice, flow"):
        recipe = ARCHITECTURES[config.flow.architecture]
        flow = recipe.build(action.space, config.flow, action, seed=config.training.seed, dtype=dtype(config))
    return config, flow, action


def dtype(config: Config) -> torch.dtype:
    """Return the precision of a run."""
    return torch.float64 if config.training.dtype == "float64" else torch.float32
