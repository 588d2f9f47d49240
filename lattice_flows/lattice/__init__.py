"""The lattice, the fields on it, paths and loops, gauge transformations. The shape legend is in `layout`."""

from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import (
    closed_path,
    loops_through,
    path_product,
    plaquette,
    polyakov_loop,
    rectangle,
    staple,
)
from lattice_flows.lattice.space import GaugeField, ScalarField, Space, gauge_transform

__all__ = [
    "GaugeField", "Lattice", "ScalarField", "Space", "closed_path", "gauge_transform", "loops_through", "path_product",
    "plaquette", "polyakov_loop", "rectangle", "staple",
]  # fmt: skip
