"""Gauge-equivariant normalizing flows inside exact Markov chains, for U(1) and SU(N) lattice gauge theory."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lattice_flows.groups import SU, U1

__version__ = "0.1.0"

__all__ = ["SU", "U1", "__version__"]

_ROOMS = (
    "actions", "config", "errors", "fields", "flows", "groups", "io", "kernels", "layers",
    "measurement", "runs", "sampling", "testing", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Groups and subpackages on first use, so that `lattice-flows --help` does not wait for torch."""
    if name in ("SU", "U1"):
        return getattr(importlib.import_module("lattice_flows.groups"), name)
    if name in _ROOMS:
        return importlib.import_module(f"lattice_flows.{name}")
    raise AttributeError(f"module 'lattice_flows' has no attribute {name!r}")
