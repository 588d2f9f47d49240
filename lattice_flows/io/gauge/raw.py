"""Links without a header, in the order of `lattice_flows.io.gauge.layout`: the user gives group and extents.

Precision follows from the size, and the byte order from the links, where the user does not give them.
"""

import numpy as np

from lattice_flows.io.gauge import base, ildg, layout
from lattice_flows.io.gauge.base import Given, Stored

NOTE = "links without a header are taken in the order of ILDG, and no statement verifies this: compare the plaquette"


def read(content, given: Given) -> Stored:
    """Read the content of a file of links alone."""
    extents, bits, n = ildg.lone(len(content), given)

    def links(order: str) -> np.ndarray:
        return layout.matrices(content, np.dtype(f"{order}c{bits // 4}"), extents, n, n)

    order = layout.byte_order(links) if given.byte_order is None else base.ORDERS[given.byte_order]
    return Stored("raw", links(order), notes=[NOTE])
