"""The ILDG format of four-dimensional SU(N) configurations: LIME records of XML, and the links big-endian.

    ildg-format        XML: version, field su3gauge, precision 32 or 64, extents lx, ly, lz, lt
    scidac-record-xml  XML: plaq and linktr, the averages of Re tr P / N and Re tr U / N, where a writer knows them
    ildg-binary-data   the links, in the order of `lattice_flows.io.gauge_files`
    ildg-data-lfn      logical file name, where there is one
    scidac-checksum    XML: suma, sumb, of the CRC-32 of the data of every site

The two sums are the exclusive or of the CRC-32 of site k, turned left by k mod 29 bits and by k mod 31 bits.

Source: ILDG Binary File Format, Rev. 1.1, International Lattice Data Grid; for scidac-checksum and scidac-record-xml:
QIO, USQCD.
"""

import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import files, gauge_files, lime

EXTENTS = ["lx", "ly", "lz", "lt"]
# the names of what is verified: in facts, and in XML
AVERAGES = {"plaquette": "plaq", "link_trace": "linktr"}


def read_ildg(path: str | Path) -> tuple[Tensor, dict[str, Any]]:
    """The links `(4, *sites, N, N)` of a file, in its precision, and facts.

    Checksum, plaquette and trace are verified where the file states them; `verified` among the facts names those.

    Raises:
        InvalidInput: there is no such file, or it is truncated, damaged, something else, or not what it says it is.
    """
    path = Path(path)
    records: dict[str, memoryview] = {}
    for record in lime.read_records(gauge_files.read_bytes(path), path):
        if record.type.startswith("ildg-") and record.type in records:
            raise InvalidInput(
                f"one configuration is expected, there are two of {record.type}: split the file ({path})"
            )
        records[record.type] = record.data
    for kind in ("ildg-format", "ildg-binary-data"):
        if kind not in records:
            raise InvalidInput(
                f"a record {kind} is expected, there are {', '.join(records)}: not an ILDG file ({path})"
            )
    form = _xml("ildg-format", records, path)
    field, precision = form.get("field", ""), form.get("precision")
    digits = field.removeprefix("su").removesuffix("gauge")
    n = int(digits) if digits.isdecimal() and field == f"su{digits}gauge" else 0
    if n < 2 or precision not in ("32", "64"):
        raise InvalidInput(
            f"su3gauge in 32 or 64 bits, or of another SU(N), is expected, got {field} {precision} ({path})"
        )
    sites = gauge_files.file_sites(EXTENTS, form, path)
    data = records["ildg-binary-data"]
    stored = gauge_files.matrices(data, np.dtype(f">c{int(precision) // 4}"), sites, n, n, path)
    verified = _verify_checksum(_xml("scidac-checksum", records, path), stored, path)
    links = gauge_files.from_file_order(stored, path)
    measured = gauge_files.measure(links)
    stated = _xml("scidac-record-xml", records, path)
    for name, tag in AVERAGES.items():
        if tag in stated:
            gauge_files.verify(tag, stated[tag], measured[name], path)
            verified.append(name)
    lfn = bytes(records.get("ildg-data-lfn", b"")).rstrip(b"\0").decode("utf-8", "replace")
    return links, gauge_files.facts("ildg", links, measured, verified, lfn=lfn)


def write_ildg(path: str | Path, links: Tensor, words: Mapping[str, Any] | None = None) -> None:
    """Writes one configuration in its precision: atomically and durably.

    Args:
        links: `(4, *sites, N, N)`.
        words: `lfn`, the logical file name; others are not written.

    Raises:
        InvalidInput: not a configuration of SU(N) in four dimensions.
        LatticeFlowsError: the disk is full or the folder not writable.

    Example:
        >>> import tempfile
        >>> from lattice_flows import SU
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_ildg(Path(folder, "cold.lime"), SU(3).identity(4, 2, 2, 2, 4), {"lfn": "lfn://cold"})
        ...     read_ildg(Path(folder, "cold.lime"))[1]["verified"]
        ('checksum', 'plaquette', 'link_trace')
    """
    data = gauge_files.to_file_order(links)
    bits = data.dtype.itemsize * 4
    stored = data.astype(f">c{bits // 4}")
    suma, sumb = scidac_checksum(stored)
    form = {"version": "1.0", "field": f"su{data.shape[-1]}gauge", "precision": bits}
    form |= dict(zip(EXTENTS, links.shape[1:5], strict=True))
    measured = gauge_files.measure(links)
    averages = {tag: f"{measured[name]:.12f}" for name, tag in AVERAGES.items()}
    space = 'xmlns="http://www.lqcd.org/ildg" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    space += 'xsi:schemaLocation="http://www.lqcd.org/ildg http://www.lqcd.org/ildg/filefmt.xsd"'
    message = [
        ("scidac-record-xml", _to_xml("usqcdInfo", {"version": "1.0", **averages, "info": ""})),
        ("ildg-format", _to_xml("ildgFormat", form, space)),
        ("ildg-binary-data", stored.tobytes()),
        ("ildg-data-lfn", str((words or {}).get("lfn", "")).encode()),
        ("scidac-checksum", _to_xml("scidacChecksum", {"version": "1.0", "suma": f"{suma:x}", "sumb": f"{sumb:x}"})),
    ]
    # a record that says nothing is left out
    files.write(Path(path), lime.pack_messages([[record for record in message if record[1]]]))


def scidac_checksum(stored: np.ndarray) -> tuple[int, int]:
    """The two sums over the bytes of data `(t, z, y, x, ...)`."""
    sites = np.ascontiguousarray(stored).reshape(int(np.prod(stored.shape[:4])), -1).view(np.uint8)
    crc = np.fromiter((zlib.crc32(site.data) for site in sites), np.uint32, len(sites))
    turns = (np.arange(len(sites)) % period for period in (29, 31))
    suma, sumb = (np.bitwise_xor.reduce(_turned(crc, turn.astype(np.uint32))) for turn in turns)
    return int(suma), int(sumb)


def _turned(words: np.ndarray, bits: np.ndarray) -> np.ndarray:
    # shifts in 64 bits, because one by 32 bits of 32 is undefined
    wide = words.astype(np.uint64) << bits
    return ((wide | wide >> np.uint64(32)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _verify_checksum(stated: dict[str, str], stored: np.ndarray, path: Path) -> list[str]:
    if not stated:
        return []
    expected = tuple(
        gauge_files.as_number(name, stated.get(name), path, lambda text: int(text, 16)) for name in ("suma", "sumb")
    )
    found = scidac_checksum(stored)
    if found != expected:
        raise InvalidInput(
            f"the checksum is {expected[0]:x} {expected[1]:x} in the file and {found[0]:x} {found[1]:x} of the links: "
            f"the file is damaged, get another copy ({path})"
        )
    return ["checksum"]


def _xml(kind: str, records: dict[str, memoryview], path: Path) -> dict[str, str]:
    """Tags and texts of the children of a record in XML; none where there is no such record."""
    try:
        text = bytes(records.get(kind, b"<none/>")).rstrip(b"\0").decode()
        # without a document type there are no entities that could expand
        if "<!DOCTYPE" in text:
            raise InvalidInput(f"{kind} must not define a document type: get the file from another source ({path})")
        children = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{kind} must be XML: {error}: the file is damaged, get another copy ({path})") from None
    return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in children}


def _to_xml(root: str, children: Mapping[str, Any], attributes: str = "") -> bytes:
    inner = "".join(f"<{tag}>{escape(str(value))}</{tag}>" for tag, value in children.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{root}{" " * bool(attributes)}{attributes}>{inner}</{root}>'.encode()
    )
