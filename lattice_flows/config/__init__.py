"""Settings of runs: sections of a TOML file, the rules for their keys, and the names that they may use."""

from lattice_flows.config.config import Config, resume_conflicts
from lattice_flows.config.registry import ACTIONS, ARCHITECTURES, OBSERVABLES, SAMPLERS, Registry, import_modules
from lattice_flows.config.rules import Settings
from lattice_flows.config.sections import (
    ActionConfig,
    FlowConfig,
    LatticeConfig,
    SamplingConfig,
    TemperingConfig,
    TrainingConfig,
)
from lattice_flows.config.toml import load, loads, to_toml

__all__ = [
    "ACTIONS",
    "ARCHITECTURES",
    "OBSERVABLES",
    "SAMPLERS",
    "ActionConfig",
    "Config",
    "FlowConfig",
    "LatticeConfig",
    "Registry",
    "SamplingConfig",
    "Settings",
    "TemperingConfig",
    "TrainingConfig",
    "import_modules",
    "load",
    "loads",
    "resume_conflicts",
    "to_toml",
]
