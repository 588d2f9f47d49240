"""From a config to its flow and action."""

import dataclasses
from typing import Any

import torch

from lattice_flows import actions, flows
from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.groups import from_name


def build_run(config: Config, source: str) -> tuple[Config, Flow, Action]:
    """The config with the group's own name, the untrained flow, the action; `source` names the config in errors.

    Raises:
        InvalidInput: no such group, or extents and settings that the architecture cannot have.
    """
    config, action = build_action(config, source)
    group = action.group
    try:
        flow = flows.build(
            config.flow.architecture,
            group,
            config.lattice.sites,
            seed=config.training.seed,
            dtype=dtype(config),
            **flow_settings(config),
        )
        if flow.coupling is not None:
            flow.coupling.set(config.action.beta)
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({source}: lattice.sites, flow)") from None
    return config, flow, action


def build_action(config: Config, source: str) -> tuple[Config, Action]:
    """The config with the group's own name, and the action; `source` names the config in errors.

    Raises:
        InvalidInput: no such group.
    """
    try:
        group = from_name(config.lattice.group)
    except InvalidInput as error:
        raise InvalidInput(f"{error} ({source}: lattice.group)") from None
    config = dataclasses.replace(config, lattice=dataclasses.replace(config.lattice, group=group.name))
    return config, actions.build(config.action.name, group, config.action.beta, dim=len(config.lattice.sites))


def flow_settings(config: Config) -> dict[str, Any]:
    """The settings of ``[flow]`` that its architecture has."""
    own = ("levels", "beta_range") if config.flow.architecture == "hierarchical" else ("layers", "kernel_size")
    return {name: getattr(config.flow, name) for name in (*own, "bins", "hidden")}


def dtype(config: Config) -> torch.dtype:
    """The precision of a run."""
    return torch.float64 if config.training.dtype == "float64" else torch.float32
