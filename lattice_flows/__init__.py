"""Gauge-equivariant normalizing flows inside exact Markov chains, for U(1) and SU(N) lattice gauge theory."""

from typing import TYPE_CHECKING

from lattice_flows.errors import moved

if TYPE_CHECKING:
    from lattice_flows.groups import SU, U1
    from lattice_flows.lattice import GaugeField, Lattice, ScalarField
    from lattice_flows.runs.folder import load_model as load

__version__ = "0.1.0"

__all__ = ["SU", "U1", "GaugeField", "Lattice", "ScalarField", "__version__", "load"]

_ROOMS = (
    "actions", "config", "errors", "flows", "groups", "io", "kernels", "lattice", "layers", "models", "observables",
    "operators", "planar", "reports", "runs", "sampling", "statistics", "streams", "testing", "training",
)  # fmt: skip

# on first use, so that `lattice-flows --help` does not wait for torch
__getattr__ = moved(
    __name__,
    {
        **{room: f"lattice_flows.{room}:" for room in _ROOMS},
        "SU": "lattice_flows.groups:SU",
        "U1": "lattice_flows.groups:U1",
        "GaugeField": "lattice_flows.lattice:GaugeField",
        "Lattice": "lattice_flows.lattice:Lattice",
        "ScalarField": "lattice_flows.lattice:ScalarField",
        "load": "lattice_flows.runs.folder:load_model",
        "fields": "lattice_flows.lattice",
        "measurement": "lattice_flows.observables, lattice_flows.statistics and lattice_flows.planar",
    },
)
