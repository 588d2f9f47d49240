"""The NERSC archive format of four-dimensional SU(N) configurations: a header in ASCII, then the links.

    BEGIN_HEADER
    DATATYPE = 4D_SU3_GAUGE_3x3      whole matrices; 4D_SU3_GAUGE: without the last row, which follows from the others
    DIMENSION_1 = ...                x, y, z, t: see `lattice_flows.io.gauge_files`
    FLOATING_POINT = IEEE64BIG       or IEEE32BIG, IEEE64LITTLE, IEEE32LITTLE
    CHECKSUM = ...                   hexadecimal: the sum of the data as 32-bit words in that byte order, modulo 2^32
    PLAQUETTE, LINK_TRACE = ...      averages of Re tr P / N and Re tr U / N
    END_HEADER

Source: the Gauge Connection archive of NERSC, as Grid and GLU read it; they use the names with other N than 3 as here.
"""

import datetime
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lattice_flows.config.provenance import provenance
from lattice_flows.errors import InvalidInput
from lattice_flows.io import gauge_files

MAGIC = b"BEGIN_HEADER"
DIMENSIONS = [f"DIMENSION_{k}" for k in (1, 2, 3, 4)]
DTYPES = {"IEEE32BIG": ">c8", "IEEE64BIG": ">c16", "IEEE32LITTLE": "<c8", "IEEE64LITTLE": "<c16"}
# the words of a writer about the ensemble, and their defaults
WORDS = {"ensemble_id": "lattice_flows", "ensemble_label": "", "sequence_number": "0"}


def read(content: bytes) -> tuple[Tensor, dict[str, Any]]:
    """Read the content of a NERSC file; see `lattice_flows.io.read_configuration`."""
    header, data = _split(content)
    found = re.fullmatch(r"4D_SU(\d+)_GAUGE(?:_(\d+)x(\d+))?", header.get("DATATYPE", ""))
    n = int(found[1]) if found else 0
    if not found or n < 2 or found[2] != found[3] or found[2] not in (None, found[1]):
        raise InvalidInput(
            "DATATYPE must be 4D_SU3_GAUGE, 4D_SU3_GAUGE_3x3 or the same of another SU(N), "
            f"got {header.get('DATATYPE')!r}"
        )
    if (floating_point := header.get("FLOATING_POINT", "")) not in DTYPES:
        raise InvalidInput(
            f"FLOATING_POINT must be IEEE32BIG, IEEE64BIG, IEEE32LITTLE or IEEE64LITTLE, got {floating_point!r}: "
            "correct the header"
        )
    dtype = np.dtype(DTYPES[floating_point])
    extents = gauge_files.file_extents(DIMENSIONS, header)
    stored = gauge_files.matrices(data, dtype, extents, n if found[2] else n - 1, n)
    _verify_checksum(header, data, dtype.str[0])
    form, whole = ("nersc", stored) if found[2] else ("nersc-short", complete(stored))
    stated = {name: (name.upper(), header.get(name.upper(), "")) for name in ("plaquette", "link_trace")}
    words = {name: header.get(name.upper(), default) for name, default in WORDS.items()}
    return gauge_files.verified_links(form, whole, stated, ["checksum"], **words)


def pack(links: Tensor, words: Mapping[str, Any], *, short: bool = False) -> bytes:
    """Return the content of a NERSC file, if `short` without the last rows; see `write_configuration`."""
    data = gauge_files.to_file_order(links)
    n = data.shape[-1]
    content = (data[..., : n - 1, :] if short else data).tobytes()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    header = {
        "HDR_VERSION": "1.0",
        "DATATYPE": f"4D_SU{n}_GAUGE" + ("" if short else f"_{n}x{n}"),
        "STORAGE_FORMAT": "1.0",
        **{name: str(extent) for name, extent in zip(DIMENSIONS, links.shape[1:5], strict=True)},
        **{name.upper(): f"{value:.12f}" for name, value in gauge_files.measure(links).items()},
        **{f"BOUNDARY_{k}": "PERIODIC" for k in (1, 2, 3, 4)},
        "CHECKSUM": f"{checksum(content, '>'):x}",
        **{name.upper(): str(words.get(name, default)) for name, default in WORDS.items()},
        "CREATOR": f"lattice_flows {provenance()['version']}",
        "CREATION_DATE": now,
        "ARCHIVE_DATE": now,
        "FLOATING_POINT": f"IEEE{data.itemsize * 4}BIG",
    }
    for name, value in header.items():
        if not value.isprintable():
            raise InvalidInput(f"{name.lower()} must be one line, got {value!r}")
    lines = "".join(f"{name} = {value}\n" for name, value in header.items())
    return MAGIC + b"\n" + lines.encode() + b"END_HEADER\n" + content


def checksum(data, order: str) -> int:
    """Return the sum of data as unsigned 32-bit words in a byte order, `<` or `>`, modulo 2^32."""
    return int(np.frombuffer(data, f"{order}u4").sum(dtype=np.uint32))


def complete(rows: np.ndarray) -> np.ndarray:
    """Add the last row to the first N - 1 rows of SU(N) matrices, in their precision and byte order.

    The last row holds the complex conjugates of its cofactors, because the inverse of a unitary matrix is its adjoint.
    """
    n, exact = rows.shape[-1], rows.astype(np.complex128)
    minors = [torch.linalg.det(torch.from_numpy(np.delete(exact, k, axis=-1))) for k in range(n)]
    last = torch.stack([(-1) ** (n - 1 + k) * minor.conj() for k, minor in enumerate(minors)], dim=-1)
    return np.concatenate([rows, last.unsqueeze(-2).numpy().astype(rows.dtype)], axis=-2)


def _split(content: bytes) -> tuple[dict[str, str], memoryview]:
    """Return the header, and the data behind it."""
    match = re.match(rb"BEGIN_HEADER\s*?\n(.{0,65536}?)END_HEADER[ \t\r]*\n", content, re.DOTALL)
    if not match:
        raise InvalidInput("a file from BEGIN_HEADER to END_HEADER is expected, this one is truncated or other")
    pairs = (line.partition("=") for line in match[1].decode("utf-8", "replace").splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}, memoryview(content)[match.end() :]


def _verify_checksum(header: dict[str, str], data, order: str) -> None:
    stated = gauge_files.as_number("CHECKSUM", header.get("CHECKSUM"), gauge_files.hexadecimal)
    found = checksum(data, order)
    if found != stated:
        remedy = "the file is damaged, get another copy"
        if checksum(data, "<" if order == ">" else ">") == stated:
            remedy = "it fits the other byte order, correct FLOATING_POINT"
        raise InvalidInput(f"CHECKSUM is {stated:x} in the header and {found:x} of the links: {remedy}")
