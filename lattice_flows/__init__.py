"""Gauge-equivariant normalizing flows inside exact Markov chains, for U(1) and SU(N) lattice gauge theory."""

import importlib
from typing import TYPE_CHECKING, Any

from lattice_flows.errors import moved

if TYPE_CHECKING:
    from lattice_flows.groups import SU, U1
    from lattice_flows.lattice import GaugeField, Lattice, ScalarField
    from lattice_flows.runs.folder import load_model as load

__version__ = "0.1.0"

__all__ = ["SU", "U1", "GaugeField", "Lattice", "ScalarField", "__version__", "load"]

_NAMES = {
    "SU": "groups",
    "U1": "groups",
    "GaugeField": "lattice",
    "Lattice": "lattice",
    "ScalarField": "lattice",
    "load_model": "runs.folder",
}

_moved = moved(
    __name__,
    {
        "fields": "lattice_flows.lattice",
        "measurement": "lattice_flows.observables, lattice_flows.statistics and lattice_flows.planar",
    },
)

_ROOMS = (
    "actions", "config", "errors", "flows", "groups", "io", "kernels", "lattice", "layers", "models", "observables",
    "operators", "planar", "reports", "runs", "sampling", "statistics", "streams", "testing", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Groups, spaces, models and rooms on first use, so that `lattice-flows --help` does not wait for torch."""
    defined = "load_model" if name == "load" else name
    if defined in _NAMES:
        return getattr(importlib.import_module(f"lattice_flows.{_NAMES[defined]}"), defined)
    if name in _ROOMS:
        return importlib.import_module(f"lattice_flows.{name}")
    return _moved(name)
