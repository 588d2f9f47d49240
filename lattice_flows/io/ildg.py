"""The ILDG format of four-dimensional SU(N) configurations: LIME records of XML, and the links big-endian.

    ildg-format        XML: version, field su3gauge, precision 32 or 64, extents lx, ly, lz, lt
    scidac-record-xml  XML: plaq and linktr, the averages of Re tr P / N and Re tr U / N, where a writer knows them
    ildg-binary-data   the links, in the order of `lattice_flows.io.gauge_files`
    ildg-data-lfn      logical file name, where there is one
    scidac-checksum    XML: suma, sumb, of the CRC-32 of the data of every site

The two sums are the exclusive or of the CRC-32 of site k, turned left by k mod 29 bits and by k mod 31 bits.

LIME packs records into messages. A record is a header of 144 bytes, its data, and zeros up to a multiple of 8 bytes.
The header holds, big-endian:

    uint32 0x456789ab | uint16 version 1 | uint16 flags | uint64 length of the data | 128 bytes: type, then zeros

The highest bit of the flags marks the first record of a message, the next one the last.

Source: ILDG Binary File Format, Rev. 1.1, International Lattice Data Grid; the manual of c-lime 1.2, USQCD; for
scidac-checksum and scidac-record-xml: QIO, USQCD.
"""

import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import gauge_files

MAGIC = b"\x45\x67\x89\xab"
VERSION = 1
HEADER = struct.Struct(">4sHHQ128s")
BEGIN, END = 0x8000, 0x4000
EXTENTS = ["lx", "ly", "lz", "lt"]
# the averages that are verified, by their names in facts and in XML
AVERAGES = {"plaquette": "plaq", "link_trace": "linktr"}


def read(content: bytes) -> tuple[Tensor, dict[str, Any]]:
    """Read the content of an ILDG file; see `lattice_flows.io.read_configuration`."""
    records: dict[str, memoryview] = {}
    for kind, data in read_records(content):
        if kind.startswith("ildg-") and kind in records:
            raise InvalidInput(f"one configuration is expected, there are two of {kind}: split the file")
        records[kind] = data
    for kind in ("ildg-format", "ildg-binary-data"):
        if kind not in records:
            raise InvalidInput(f"a record {kind} is expected, there are {', '.join(records)}: not an ILDG file")
    form = _xml("ildg-format", records)
    field, precision = form.get("field", ""), form.get("precision")
    digits = field.removeprefix("su").removesuffix("gauge")
    n = int(digits) if digits.isdecimal() and field == f"su{digits}gauge" else 0
    if n < 2 or precision not in ("32", "64"):
        raise InvalidInput(f"su3gauge in 32 or 64 bits, or of another SU(N), is expected, got {field} {precision}")
    extents = gauge_files.file_extents(EXTENTS, form)
    data = records["ildg-binary-data"]
    stored = gauge_files.matrices(data, np.dtype(f">c{int(precision) // 4}"), extents, n, n)
    verified = _verify_checksum(_xml("scidac-checksum", records), stored)
    averages = _xml("scidac-record-xml", records)
    stated = {name: (tag, averages[tag]) for name, tag in AVERAGES.items() if tag in averages}
    lfn = bytes(records.get("ildg-data-lfn", b"")).rstrip(b"\0").decode("utf-8", "replace")
    return gauge_files.verified_links("ildg", stored, stated, verified, lfn=lfn)


def pack(links: Tensor, words: Mapping[str, Any]) -> bytes:
    """Return the content of an ILDG file; see `lattice_flows.io.write_configuration`."""
    data = gauge_files.to_file_order(links)
    suma, sumb = scidac_checksum(data)
    form = {"version": "1.0", "field": f"su{data.shape[-1]}gauge", "precision": data.itemsize * 4}
    form |= dict(zip(EXTENTS, links.shape[1:5], strict=True))
    measured = gauge_files.measure(links)
    averages = {tag: f"{measured[name]:.12f}" for name, tag in AVERAGES.items()}
    space = 'xmlns="http://www.lqcd.org/ildg" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    space += 'xsi:schemaLocation="http://www.lqcd.org/ildg http://www.lqcd.org/ildg/filefmt.xsd"'
    message = [
        ("scidac-record-xml", _to_xml("usqcdInfo", {"version": "1.0", **averages, "info": ""})),
        ("ildg-format", _to_xml("ildgFormat", form, space)),
        ("ildg-binary-data", data.tobytes()),
        ("ildg-data-lfn", str(words.get("lfn", "")).encode()),
        ("scidac-checksum", _to_xml("scidacChecksum", {"version": "1.0", "suma": f"{suma:x}", "sumb": f"{sumb:x}"})),
    ]
    # a record that says nothing is left out
    return pack_message([record for record in message if record[1]])


def read_records(content: bytes) -> list[tuple[str, memoryview]]:
    """Return the types and the data of all records in the content of a LIME file, in order."""
    records, offset, whole, ends = [], 0, memoryview(content), False
    while offset < len(whole):
        if len(whole) - offset < HEADER.size:
            raise _broken(f"{HEADER.size} bytes of header, got {len(whole) - offset}", offset)
        magic, version, flags, length, name = HEADER.unpack_from(whole, offset)
        if magic == MAGIC[::-1]:
            raise InvalidInput("LIME files are big-endian, this one is little-endian: write it again")
        if magic != MAGIC or version != VERSION:
            raise _broken(f"LIME {MAGIC.hex()} version {VERSION}, got {magic.hex()} {version}", offset)
        start = offset + HEADER.size
        padded = length + -length % 8
        if padded > len(whole) - start:
            raise _broken(f"{length} bytes of data, got {len(whole) - start}", offset)
        kind = bytes(name).partition(b"\0")[0].decode("ascii", "replace")
        records.append((kind, whole[start : start + length]))
        offset, ends = start + padded, bool(flags & END)
    if not ends:
        raise _broken("the rest of a message, got nothing", offset)
    return records


def pack_message(records: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a LIME file of one message: the types and the data of its records."""
    parts = []
    for place, (kind, data) in enumerate(records):
        flags = (BEGIN if place == 0 else 0) | (END if place == len(records) - 1 else 0)
        parts += [HEADER.pack(MAGIC, VERSION, flags, len(data), kind.encode("ascii")), data, bytes(-len(data) % 8)]
    return b"".join(parts)


def _broken(expected: str, offset: int) -> InvalidInput:
    return InvalidInput(
        f"at byte {offset} are expected {expected}: the file is truncated, damaged or other, get another copy"
    )


def scidac_checksum(stored: np.ndarray) -> tuple[int, int]:
    """Return the two sums over the bytes of data `(t, z, y, x, ...)`."""
    sites = np.ascontiguousarray(stored).reshape(int(np.prod(stored.shape[:4])), -1).view(np.uint8)
    crc = np.fromiter((zlib.crc32(site.data) for site in sites), np.uint64, len(sites))
    # shifted in 64 bits; the upper half holds the bits that a turn of 32 bits brings back
    turns = (np.arange(len(sites), dtype=np.uint64) % np.uint64(period) for period in (29, 31))
    suma, sumb = (int(np.bitwise_xor.reduce(crc << turn)) for turn in turns)
    return suma >> 32 ^ suma & 0xFFFFFFFF, sumb >> 32 ^ sumb & 0xFFFFFFFF


def _verify_checksum(stated: dict[str, str], stored: np.ndarray) -> list[str]:
    if not stated:
        return []
    sums = ("suma", "sumb")
    expected = tuple(gauge_files.as_number(name, stated.get(name), gauge_files.hexadecimal) for name in sums)
    found = scidac_checksum(stored)
    if found != expected:
        raise InvalidInput(
            f"the checksum is {expected[0]:x} {expected[1]:x} in the file and {found[0]:x} {found[1]:x} of the links: "
            "the file is damaged, get another copy"
        )
    return ["checksum"]


def _xml(kind: str, records: dict[str, memoryview]) -> dict[str, str]:
    """Return the tags and the texts in a record of XML; nothing where there is no such record."""
    try:
        text = bytes(records.get(kind, b"<none/>")).rstrip(b"\0").decode()
        # without a document type there are no entities that could expand
        if "<!DOCTYPE" in text:
            raise InvalidInput(f"{kind} must not define a document type: get the file from another source")
        children = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{kind} must be XML: {error}: the file is damaged, get another copy") from None
    return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in children}


def _to_xml(root: str, children: Mapping[str, Any], attributes: str = "") -> bytes:
    inner = "".join(f"<{tag}>{escape(str(value))}</{tag}>" for tag, value in children.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{root}{" " * bool(attributes)}{attributes}>{inner}</{root}>'.encode()
    )
