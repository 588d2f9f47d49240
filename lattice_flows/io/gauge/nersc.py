"""The NERSC archive format of four-dimensional SU(N) configurations: a header in ASCII, then the links.

    BEGIN_HEADER
    DATATYPE = 4D_SU3_GAUGE_3x3      whole matrices; 4D_SU3_GAUGE: without the last row, which follows from the others
    DIMENSION_1 = ...                x, y, z, t: see `lattice_flows.io.gauge.layout`
    BOUNDARY_1 = PERIODIC            of every direction, or missing
    FLOATING_POINT = IEEE64BIG       or IEEE32BIG, IEEE64LITTLE, IEEE32LITTLE
    CHECKSUM = ...                   hexadecimal: the sum of the data as 32-bit words in that byte order, modulo 2^32
    PLAQUETTE, LINK_TRACE = ...      averages of Re tr P / N and Re tr U / N
    END_HEADER

Headers of MILC have no FLOATING_POINT, and others say IEEE32 or IEEE64: then the size tells the precision and CHECKSUM
the byte order. With N > 3 some programs write whole matrices under the short name: the size tells.

Source: the Gauge Connection archive of NERSC, as Grid, GLU, MILC and QDP++ read it.
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
from lattice_flows.io.gauge import base, layout
from lattice_flows.io.gauge.base import Given, Statement, Stored
from lattice_flows.lattice import Lattice

MAGIC = b"BEGIN_HEADER"
LONGEST_HEADER = 65_536
DIMENSIONS = [f"DIMENSION_{k}" for k in (1, 2, 3, 4)]
# bits and byte order; an order that the words leave open is found by the checksum
FLOATS = {
    "": (None, None), "IEEE32": (32, None), "IEEE64": (64, None), "IEEE32BIG": (32, ">"), "IEEE64BIG": (64, ">"),
    "IEEE32LITTLE": (32, "<"), "IEEE64LITTLE": (64, "<"), "IEEE32SMALL": (32, "<"), "IEEE64SMALL": (64, "<"),
}  # fmt: skip
# the words of a writer about the ensemble, and their defaults
WORDS = {"ensemble_id": "lattice_flows", "ensemble_label": "", "sequence_number": "0"}


def recognises(head: bytes) -> bool:
    """Return whether a file begins with a NERSC header."""
    return head.startswith(MAGIC)


def read(content, given: Given) -> Stored:
    """Read the content of a NERSC file."""
    header, data = _split(content)
    found = re.fullmatch(r"4D_SU([1-9]\d?)_GAUGE(?:_(\d+)x(\d+))?", header.get("DATATYPE", ""))
    n = int(found[1]) if found else 0
    if not found or n < 2 or found[2] != found[3] or found[2] not in (None, found[1]):
        raise InvalidInput(
            "DATATYPE must be 4D_SU3_GAUGE, 4D_SU3_GAUGE_3x3 or the same of another SU(N), "
            f"got {header.get('DATATYPE', '')[:40]!r}"
        )
    if (word := header.get("FLOATING_POINT", "")) not in FLOATS:
        raise InvalidInput(
            f"FLOATING_POINT must be IEEE32BIG, IEEE64BIG, IEEE32LITTLE or IEEE64LITTLE, got {word[:40]!r}: "
            "correct the header"
        )
    notes = _check_boundary(header, given)
    extents = tuple(base.whole_number(name, header.get(name)) for name in DIMENSIONS)
    bits, order = FLOATS[word]
    whole, bits, data = _sizes(data, extents, n, bits, whole=found[2] is not None)

    def links(order: str) -> np.ndarray:
        stored = layout.matrices(data, np.dtype(f"{order}c{bits // 4}"), extents, n if whole else n - 1, n)
        return stored if whole else complete(stored)

    stated = header.get("CHECKSUM", "missing")
    if order is None:
        order = next((order for order in "><" if base.states(stated, checksum(data, order))), None)
    order = order or layout.byte_order(links)
    averages = {name: (name.upper(), header.get(name.upper(), "")) for name in ("plaquette", "link_trace")}
    return Stored(
        format="nersc" if whole else "nersc-short",
        data=links(order),
        checksum=_compare(stated, data, order),
        averages={name: pair for name, pair in averages.items() if pair[1]},
        words={name: header.get(name.upper(), default) for name, default in WORDS.items()},
        notes=notes,
    )


def pack(links: Tensor, words: Mapping[str, Any], *, short: bool = False) -> bytes:
    """Return the content of a NERSC file, if `short` without the last rows; see `write_configuration`."""
    data = layout.to_file_order(links)
    n = data.shape[-1]
    content = (data[..., : n - 1, :] if short else data).tobytes()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    header = {
        "HDR_VERSION": "1.0",
        "DATATYPE": f"4D_SU{n}_GAUGE" + ("" if short else f"_{n}x{n}"),
        "STORAGE_FORMAT": "1.0",
        **{name: str(extent) for name, extent in zip(DIMENSIONS, links.shape[1:5], strict=True)},
        **{name.upper(): f"{value:.12f}" for name, value in layout.measure(links).items()},
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
    n = rows.shape[-1]
    with np.errstate(all="ignore"):  # of damaged numbers, which the links' own check refuses
        exact = rows.astype(np.complex128)
        minors = [torch.linalg.det(torch.from_numpy(np.delete(exact, k, axis=-1))) for k in range(n)]
        last = torch.stack([(-1) ** (n - 1 + k) * minor.conj() for k, minor in enumerate(minors)], dim=-1)
        return np.concatenate([rows, last.unsqueeze(-2).numpy().astype(rows.dtype)], axis=-2)


def _split(content) -> tuple[dict[str, str], memoryview]:
    """Return the header, and the data behind it."""
    head = bytes(memoryview(content)[:LONGEST_HEADER])
    text, end, rest = head.partition(b"\nEND_HEADER")
    line, line_feed, _ = rest.partition(b"\n")
    if not end or not line_feed or line.strip() or not text.startswith(MAGIC):
        raise InvalidInput(
            f"a header from BEGIN_HEADER to END_HEADER is expected in the first {LONGEST_HEADER} bytes: "
            "the file is truncated or other"
        )
    header: dict[str, str] = {}
    for key, _, value in (line.partition("=") for line in text.decode("utf-8", "replace").splitlines()):
        # other keys, such as MILC_INFO, may stand there twice
        if header.setdefault(key.strip(), value.strip()) != value.strip():
            header[key.strip()] = "two values"
    return header, memoryview(content)[len(text) + len(end) + len(line) + 1 :]


def _sizes(
    data: memoryview, extents: tuple[int, ...], n: int, bits: int | None, whole: bool
) -> tuple[bool, int, memoryview]:
    """Return whether matrices are whole, the bits of their numbers, and the data without white space behind them."""
    sites = Lattice(extents).volume
    # the short name means whole matrices of N > 3 in some programs
    forms = [(whole, bits or 32), (whole, 64 if bits is None else bits)]
    forms += [(True, bits) for _, bits in forms if not whole and n > 3]
    for form, width in forms:
        size = sites * n * (n if form else n - 1) * width
        if size <= len(data) <= size + 16 and not bytes(data[size:]).strip(b"\0\r\n\t "):
            return form, width, data[:size]
    rows, width = n if whole else n - 1, forms[0][1]
    raise layout.wrong_size(sites * n * rows * width, extents, len(data))


def _check_boundary(header: dict[str, str], given: Given) -> list[str]:
    """Return a note on boundary conditions that are read on request; raise InvalidInput on others than periodic."""
    words = {name: word for k in (1, 2, 3, 4) if (word := header.get(name := f"BOUNDARY_{k}", "PERIODIC"))}
    others = {name: word for name, word in words.items() if word.upper() != "PERIODIC"}
    if not others:
        return []
    stated = ", ".join(f"{name} = {word[:40]}" for name, word in others.items())
    if any(word.upper() != "ANTIPERIODIC" for word in others.values()):
        raise InvalidInput(f"lattices are periodic in every direction, the file states {stated}: it cannot be read")
    if "boundary" not in given.ignore:
        raise InvalidInput(
            f"lattices are periodic in every direction, the file states {stated}: if this is of fermions alone, and no "
            "sign is multiplied into the links, read it with --ignore boundary"
        )
    return [f"{stated} is read as periodic, as asked for"]


def _compare(stated: str, data: memoryview, order: str) -> Statement:
    found = checksum(data, order)
    right = base.states(stated, found)
    other = base.states(stated, checksum(data, "<" if order == ">" else ">"))
    remedy = {"remedy": "it fits the other byte order, correct FLOATING_POINT"} if other and not right else {}
    return Statement("checksum", "CHECKSUM", stated[:40], f"{found:x}", right, **remedy)
