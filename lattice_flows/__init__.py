"""Gauge-equivariant normalizing flows inside exact Markov chains, for U(1) and SU(N) lattice gauge theory."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lattice_flows.folders import load_model as load
    from lattice_flows.groups import SU, U1

__version__ = "0.1.0"

__all__ = ["SU", "U1", "__version__", "load"]

_NAMES = {"SU": ("groups", "SU"), "U1": ("groups", "U1"), "load": ("folders", "load_model")}

_ROOMS = (
    "actions", "config", "errors", "fields", "flows", "groups", "io", "kernels", "layers",
    "measurement", "models", "runs", "sampling", "testing", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Groups, models and subpackages on first use, so that `lattice-flows --help` does not wait for torch."""
    if name in _NAMES:
        room, there = _NAMES[name]
        return getattr(importlib.import_module(f"lattice_flows.{room}"), there)
    if name in _ROOMS:
        return importlib.import_module(f"lattice_flows.{name}")
    raise AttributeError(f"module 'lattice_flows' has no attribute {name!r}")
