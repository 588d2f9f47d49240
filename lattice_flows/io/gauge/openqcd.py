"""The formats of openQCD and DDalphaAMG: SU(3) in 64 bits, little-endian, with the same header of 24 bytes.

    int32 T, n1, n2, n3 | float64: three times the average of Re tr P / 3, over the plaquettes of a periodic lattice

openQCD: n1, n2, n3 = X, Y, Z. For each odd site, t slowest and z fastest, eight matrices: of +t, -t, +x, -x, +y, -y,
+z, -z; -mu is the link U_mu(x - mu) that leads there.
DDalphaAMG: n1, n2, n3 = Z, Y, X. For each site, t slowest and x fastest, the matrices of t, z, y, x.

The plaquette tells the two apart. Boundary conditions are not in the file; those of open ones have links of zero.

Source: openQCD 1.6 and 2.4 (modules/archive/archive.c); DDalphaAMG (src/io.c).
"""

import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io.gauge import layout
from lattice_flows.io.gauge.base import Given, Stored

HEADER = struct.Struct("<4id")
# of averages in 64 bits; openQCD itself allows sqrt(6 V) 2e-16
TOLERANCE = 1e-12
LARGEST_EXTENT = 4096


def recognises(head: bytes) -> bool:
    """Return whether a file begins with four extents and a plaquette."""
    if len(head) < HEADER.size:
        return False
    *extents, plaquette = HEADER.unpack_from(head)
    return all(1 <= extent <= LARGEST_EXTENT for extent in extents) and abs(plaquette) <= 3


def read(content, given: Given) -> Stored:
    """Read the content of an openQCD or DDalphaAMG file."""
    *extents, plaquette = HEADER.unpack_from(content)
    t, *others = extents
    data = memoryview(content)[HEADER.size :]
    plain = layout.matrices(data, np.dtype("<c16"), (*reversed(others), t), 3, 3)
    orders = {"ddalphaamg": plain[..., [3, 2, 1, 0], :, :]}
    if all(extent % 2 == 0 for extent in extents):
        orders["openqcd"] = _from_odd_sites(plain.reshape(-1, 8, 3, 3), extents)
    found = {form: _plaquette(links) for form, links in orders.items()}
    fitting = [form for form, value in found.items() if abs(value - plaquette / 3) <= TOLERANCE]
    if len(fitting) == 2 and not np.array_equal(orders["ddalphaamg"], orders["openqcd"]):
        raise InvalidInput("the plaquette fits the orders of openQCD and DDalphaAMG: the file cannot be told apart")
    form = fitting[-1] if fitting else "openqcd" if "openqcd" in orders else "ddalphaamg"
    return Stored(form, orders[form], averages={"plaquette": ("plaquette", repr(plaquette / 3))}, tolerance=TOLERANCE)


def pack(links: Tensor, words: Mapping[str, Any]) -> bytes:
    """Return the content of an openQCD file, which is in 64 bits."""
    x, y, z, t = links.shape[1:5]
    if links.shape[-1] != 3 or any(extent % 2 for extent in (x, y, z, t)):
        raise InvalidInput(
            f"openQCD files hold SU(3) on even extents, got SU({links.shape[-1]}) on {x}x{y}x{z}x{t}: "
            "take nersc or ildg"
        )
    data = layout.to_file_order(links).astype("<c16").transpose(0, 3, 2, 1, 4, 5, 6)[..., [3, 0, 1, 2], :, :]
    odd = _odd_sites((t, x, y, z))
    around = [data[*sites, mu] for mu in range(4) for sites in (odd, _behind(odd, mu, (t, x, y, z)))]
    header = HEADER.pack(t, x, y, z, 3 * layout.measure(links)["plaquette"])
    return header + np.stack(around, axis=1).tobytes()


def _from_odd_sites(around: np.ndarray, extents: list[int]) -> np.ndarray:
    """Return the links in the order of `base` from the eight links around each odd site."""
    data = np.empty((*extents, 4, 3, 3), around.dtype)
    odd = _odd_sites(extents)
    for mu in range(4):
        data[*odd, mu] = around[:, 2 * mu]
        data[*_behind(odd, mu, extents), mu] = around[:, 2 * mu + 1]
    return layout.time_first(data)


def _odd_sites(extents) -> np.ndarray:
    """Return the coordinates `(4, V / 2)` of the odd sites, the last one fastest."""
    sites = np.indices(extents).reshape(4, math.prod(extents))
    return sites[:, sites.sum(0) % 2 == 1]


def _behind(sites: np.ndarray, mu: int, extents) -> np.ndarray:
    """Return the sites x - mu."""
    before = sites.copy()
    before[mu] = (before[mu] - 1) % extents[mu]
    return before


def _plaquette(data: np.ndarray) -> float:
    links = torch.from_numpy(data.astype(np.complex128)).permute(layout.AXES)
    return layout.measure(links)["plaquette"]
