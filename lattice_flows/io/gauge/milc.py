"""The binary format of MILC, version 5: SU(3) in 32 bits, a header of 96 bytes, then the links.

    int32 20103 | int32 nx, ny, nz, nt | 64 bytes: time stamp | int32 order of sites, 0 | uint32 sum29 | uint32 sum31

All numbers have the byte order of the first one. The two sums are the exclusive or of the data as 32-bit words, word k
turned left by k mod 29 bits and by k mod 31 bits.

Source: the MILC code, version 7 and later (include/io_lat.h, generic/io_lat_utils.c).
"""

import datetime
import struct
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io.gauge import base, layout
from lattice_flows.io.gauge.base import Given, Statement, Stored
from lattice_flows.lattice import Lattice

HEADER = "5i64si2I"
SIZE = struct.calcsize(f"<{HEADER}")
MAGIC = 20103
# other files of MILC and of programs that follow it
OTHERS = {59354: "MILC versions 1 to 4", 20104: "MILC in 64 bits, as of GLU", 53546: "MILC of 1996"}


def recognises(head: bytes) -> bool:
    """Return whether a file begins with a number of MILC, in any byte order."""
    return int.from_bytes(head[:4], _order(head)) in (MAGIC, *OTHERS)


def read(content, given: Given) -> Stored:
    """Read the content of a MILC file."""
    view = memoryview(content)
    order = _order(bytes(view[:4]))
    magic = int.from_bytes(view[:4], order)
    if magic != MAGIC:
        raise InvalidInput(f"a MILC file of version 5 is expected, this is of {OTHERS[magic]}: convert it with MILC")
    if len(view) < SIZE:
        raise InvalidInput(f"{SIZE} bytes of header are expected, got {len(view)}: the file is truncated")
    sign = base.ORDERS[order]
    _, *extents, stamp, sites, sum29, sum31 = struct.unpack_from(sign + HEADER, view)
    data = view[SIZE:]
    # with a list, four bytes for each site follow the header
    if sites != 0 and len(data) in (288 * (volume := Lattice(extents).volume), 292 * volume):
        raise InvalidInput(
            "sites in the natural order are expected, this file lists them in another: save it with MILC"
        )
    stored = layout.matrices(data, np.dtype(f"{sign}c8"), tuple(extents), 3, 3)
    found = sums(data, sign)
    return Stored(
        format="milc",
        data=stored,
        checksum=Statement(
            "checksum", "the checksum", f"{sum29:x} {sum31:x}", f"{found[0]:x} {found[1]:x}", found == (sum29, sum31)
        ),
        words={"time_stamp": stamp.partition(b"\0")[0].decode("ascii", "replace")},
    )


def pack(links: Tensor, words: Mapping[str, Any]) -> bytes:
    """Return the content of a MILC file, which is in 32 bits and little-endian."""
    if links.shape[-1] != 3:
        raise InvalidInput(f"MILC files hold SU(3), the links are of SU({links.shape[-1]}): take nersc or ildg")
    data = layout.to_file_order(links).astype("<c8").tobytes()
    now = datetime.datetime.now(datetime.UTC).strftime("%a %b %d %H:%M:%S %Y UTC")
    header = struct.pack(f"<{HEADER}", MAGIC, *links.shape[1:5], now.encode(), 0, *sums(data, "<"))
    return header + data


def sums(data, order: str) -> tuple[int, int]:
    """Return the two sums over data as 32-bit words in a byte order, `<` or `>`."""
    words = np.frombuffer(data, f"{order}u4")
    return layout.turned_sum(words, 29), layout.turned_sum(words, 31)


def _order(head: bytes) -> Literal["big", "little"]:
    return "big" if head[:2] == b"\0\0" else "little"
