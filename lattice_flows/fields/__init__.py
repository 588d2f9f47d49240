"""Links, paths and loops, gauge transformations, in 2, 3 and 4 dimensions. The shape legend is in `layout`."""

from lattice_flows.fields.gauge import gauge_transform
from lattice_flows.fields.layout import infer_dim
from lattice_flows.fields.loops import (
    closed_path,
    loops_through,
    path_product,
    plaquette,
    polyakov_loop,
    rectangle,
    staple,
)

__all__ = [
    "closed_path",
    "gauge_transform",
    "infer_dim",
    "loops_through",
    "path_product",
    "plaquette",
    "polyakov_loop",
    "rectangle",
    "staple",
]
