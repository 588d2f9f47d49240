"""The format of HiRep: SU(N) in 64 bits, big-endian, a header of 28 bytes, then the links.

    int32 N, T, X, Y, Z | float64: average of Re tr P / N

Sites run with t slowest, then x, y, and z fastest; at each site directions run over t, x, y, z. A link of SU(2) may be
four numbers q instead of a matrix: [[q0 + i q3, -q2 + i q1], [q2 + i q1, q0 - i q3]]; the size tells.

Source: HiRep (LibHR/IO/archive.c, archive_su2quat.c).
"""

import struct

import numpy as np

from lattice_flows.errors import InvalidInput
from lattice_flows.io.gauge import layout
from lattice_flows.io.gauge.base import Given, Stored
from lattice_flows.io.gauge.openqcd import LARGEST_EXTENT, TOLERANCE
from lattice_flows.lattice import Lattice

HEADER = struct.Struct(">5id")


def recognises(head: bytes) -> bool:
    """Return whether a file begins with N, four extents and a plaquette."""
    if len(head) < HEADER.size:
        return False
    n, *extents, plaquette = HEADER.unpack_from(head)
    return 2 <= n <= 99 and all(1 <= extent <= LARGEST_EXTENT for extent in extents) and abs(plaquette) <= 1


def read(content, given: Given) -> Stored:
    """Read the content of a HiRep file."""
    n, t, x, y, z, plaquette = HEADER.unpack_from(content)
    data = memoryview(content)[HEADER.size :]
    volume = Lattice((t, x, y, z)).volume
    if len(data) == (64 * n * n + 16) * volume:
        raise InvalidInput("the file holds auxiliary fields of four-fermion interactions beside the links: not read")
    if n == 2 and len(data) == 128 * volume:
        links = _matrices(np.frombuffer(data, ">f8").reshape(t, x, y, z, 4, 4))
    else:
        layout.matrices(data, np.dtype(">c16"), (x, y, z, t), n, n)
        links = np.frombuffer(data, ">c16").reshape(t, x, y, z, 4, n, n)
    averages = {"plaquette": ("plaquette", repr(plaquette))}
    return Stored("hirep", layout.time_first(links), averages=averages, tolerance=TOLERANCE)


def _matrices(q: np.ndarray) -> np.ndarray:
    """Return the matrices of links `(..., 4)`."""
    q0, q1, q2, q3 = (q[..., k].astype(np.float64) for k in range(4))
    rows = [[q0 + 1j * q3, -q2 + 1j * q1], [q2 + 1j * q1, q0 - 1j * q3]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
