"""The formats in LIME records: ILDG, SciDAC without an ildg-format, and a lone record of links; all big-endian.

    scidac-private-file-xml    extents dims
    scidac-private-record-xml  of a field: precision F or D, datacount matrices a site, typesize bytes each
    scidac-record-xml          words of the user; in usqcdInfo plaq and linktr, averages of Re tr P / N and Re tr U / N
    ildg-format                version, field su3gauge, precision 32 or 64, extents lx, ly, lz, lt
    ildg-binary-data           the links, in the order of `lattice_flows.io.gauge.layout`; or scidac-binary-data
    ildg-data-lfn              logical file name, where there is one
    scidac-checksum            suma, sumb, of the CRC-32 of the data of every site

The two sums are the exclusive or of the CRC-32 of site k, turned left by k mod 29 bits and by k mod 31 bits. XML is
searched for tags and no more, as the readers of QIO and tmLQCD do, because many files hold XML that is not well-formed.

Source: ILDG Binary File Format, Rev. 1.1, International Lattice Data Grid; QIO, USQCD.
"""

import math
import re
import zlib
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io.gauge import base, layout, lime
from lattice_flows.io.gauge.base import Given, Statement, Stored

EXTENTS = ["lx", "ly", "lz", "lt"]
# the averages that are verified, by their names in facts and in XML
AVERAGES = {"plaquette": "plaq", "link_trace": "linktr"}
BITS = {"F": 32, "D": 64}
ELEMENT = re.compile(r"<([^<>/?!][^<>]*)>([^<>]*)</([^<>]*)>")
ROOT = re.compile(r"<([^<>/?!][^<>]*)>")
LARGEST_XML = 65_536

Records = list[tuple[str, memoryview]]


def recognises(head: bytes) -> bool:
    """Return whether a file begins with a LIME record, in any byte order."""
    return head.startswith((lime.MAGIC, lime.MAGIC[::-1]))


def read(content, given: Given) -> Stored:
    """Read the content of a LIME file."""
    records, rest = lime.read_records(content)
    place, form, extents, bits, n = _links(records, given)
    data = records[place][1]
    stored = layout.matrices(data, np.dtype(f">c{bits // 4}"), extents, n, n)
    averages, notes = _averages(records, place)
    if rest:
        notes.append(f"{rest} bytes behind the last record are not read")
    lfn = next((bytes(data[:4096]) for kind, data in records if kind == "ildg-data-lfn"), b"")
    return Stored(
        format=form,
        data=stored,
        checksum=_checksum(records, place, stored),
        averages=averages,
        words={"lfn": lfn.rstrip(b"\0").decode("utf-8", "replace")},
        notes=notes,
    )


def pack(links: Tensor, words: Mapping[str, Any]) -> bytes:
    """Return the content of an ILDG file; see `lattice_flows.io.write_configuration`."""
    data = layout.to_file_order(links)
    suma, sumb = scidac_checksum(data)
    form = {"version": "1.0", "field": f"su{data.shape[-1]}gauge", "precision": data.itemsize * 4}
    form |= dict(zip(EXTENTS, links.shape[1:5], strict=True))
    measured = layout.measure(links)
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
    return lime.pack_message([record for record in message if record[1]])


def scidac_checksum(stored: np.ndarray) -> tuple[int, int]:
    """Return the two sums over the bytes of data `(t, z, y, x, ...)`."""
    sites = np.ascontiguousarray(stored).reshape(math.prod(stored.shape[:4]), -1).view(np.uint8)
    crc = np.fromiter((zlib.crc32(site.data) for site in sites), np.uint32, len(sites))
    return layout.turned_sum(crc, 29), layout.turned_sum(crc, 31)


def _links(records: Records, given: Given) -> tuple[int, str, tuple[int, ...], int, int]:
    """Return the place of the links, the format, and what it says: extents, bits and N."""
    kinds = [kind for kind, _ in records]
    for kind in ("ildg-format", "ildg-binary-data"):
        if kinds.count(kind) > 1:
            raise InvalidInput(f"one configuration is expected, there are two of {kind}: split the file")
    if "scidac-sitelist" in kinds:
        raise InvalidInput("one file of all sites is expected, this is a part of several: join them with QIO")
    if "ildg-binary-data" in kinds:
        place = kinds.index("ildg-binary-data")
        if "ildg-format" in kinds:
            return place, "ildg", *_ildg_format(records, len(records[place][1]))
        if _record(records, "scidac-private-record-xml", place) is None:
            return place, "lime", *lone(len(records[place][1]), given)
        places = [place]
    else:
        places = [place for place, kind in enumerate(kinds) if kind == "scidac-binary-data"]
    if not places:
        raise InvalidInput(f"a record ildg-binary-data is expected, there are {str(kinds[:9])[1:-1]}: no gauge file")
    fields = {place: _scidac_field(records, place) for place in places}
    gauge = [place for place, form in fields.items() if form.get("datacount") == "4"]
    if not gauge:
        counts = ", ".join(form.get("datacount", "an unknown number")[:20] for form in fields.values())
        raise InvalidInput(f"four matrices at a site are expected, the fields hold {counts}: no gauge configuration")
    if len(gauge) > 1:
        raise InvalidInput(f"one configuration is expected, there are {len(gauge)} gauge fields: split the file")
    return gauge[0], "scidac", *_scidac_format(records, fields[gauge[0]])


def lone(size: int, given: Given) -> tuple[tuple[int, ...], int, int]:
    """Return extents, bits and N of so many bytes of links, whose group and extents the user gives."""
    if given.group is None or given.extents is None:
        raise InvalidInput(
            "the file states neither group nor extents: give both, as in --group 'SU(3)' --extents 4,4,4,8"
        )
    if len(given.extents) != 4:
        raise InvalidInput(f"a gauge file has four extents, got {tuple(given.extents)}")
    n = int(given.group[3:-1])
    double = 64 * n * n * math.prod(given.extents)
    return tuple(given.extents), given.precision or (64 if size == double else 32), n


def _ildg_format(records: Records, size: int) -> tuple[tuple[int, ...], int, int]:
    _, form = _tags(next(data for kind, data in records if kind == "ildg-format"))
    extents = tuple(base.whole_number(name, form.get(name)) for name in EXTENTS)
    field, precision = form.get("field"), form.get("precision", "")[:20]
    # N of a field without a name follows from the size
    n = math.isqrt(size // max(1, int(precision) * math.prod(extents))) if precision in ("32", "64") else 0
    if field is not None:
        found = re.fullmatch(r"su([1-9]\d?)gauge", field.lower())
        n = int(found[1]) if found else 0
    if n < 2 or precision not in ("32", "64"):
        raise InvalidInput(
            f"su3gauge in 32 or 64 bits, or of another SU(N), is expected, got {str(field)[:20]} {precision}"
        )
    return extents, int(precision), n


def _scidac_field(records: Records, place: int) -> dict[str, str]:
    """Return what the private record of a field says; nothing if it is not a field."""
    record = _record(records, "scidac-private-record-xml", place)
    form = _tags(record)[1] if record else {}
    return form if form.get("recordtype", "0") == "0" else {}


def _scidac_format(records: Records, form: dict[str, str]) -> tuple[tuple[int, ...], int, int]:
    file = next((data for kind, data in records if kind == "scidac-private-file-xml"), memoryview(b""))
    _, tags = _tags(file)
    dims = tags.get("dims", "").split()[:5]
    extents = tuple(base.whole_number("dims", text) for text in dims)
    if len(extents) != 4:
        raise InvalidInput(f"a gauge file has four extents, dims are {tags.get('dims', 'missing')[:80]}")
    if tags.get("volfmt", "0") != "0" or tags.get("multifile", "1") != "1":
        raise InvalidInput("one file of all sites is expected, this is a part of several: join them with QIO")
    size, bits = base.whole_number("typesize", form.get("typesize")), BITS.get(form.get("precision", ""))
    n = math.isqrt(max(0, size) * 4 // (bits or 32))
    if bits is None or n < 2 or n * n * bits != size * 4:
        raise InvalidInput(
            f"N x N matrices of precision F or D are expected, got {size} bytes, {form.get('precision', '')[:20]}"
        )
    return extents, bits, n


def _averages(records: Records, place: int) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return the averages that the words of the user state, or a note that they are not understood."""
    record = _record(records, "scidac-record-xml", place)
    if record is None:
        return {}, []
    root, tags = _tags(record)
    if root != "usqcdInfo":
        return {}, ["scidac-record-xml is not of usqcdInfo: plaquette and trace are not verified"]
    return {name: (tag, tags[tag]) for name, tag in AVERAGES.items() if tags.get(tag)}, []


def _checksum(records: Records, place: int, stored: np.ndarray) -> Statement | None:
    record = _record(records, "scidac-checksum", place, behind=True)
    if record is None:
        return None
    _, tags = _tags(record)
    found = dict(zip(("suma", "sumb"), scidac_checksum(stored), strict=True))
    stated = {name: tags[name] for name in found if name in tags}
    right = bool(stated) and all(base.states(text, found[name]) for name, text in stated.items())
    texts = " ".join(text[:20] for text in stated.values()) or "missing"
    return Statement("checksum", "the checksum", texts, f"{found['suma']:x} {found['sumb']:x}", right)


def _record(records: Records, kind: str, place: int, behind: bool = False) -> memoryview | None:
    """Return the data of the only record of a kind, else of the nearest one before or behind a place."""
    places = [k for k, record in enumerate(records) if record[0] == kind]
    if len(places) > 1:
        places = [k for k in places if k > place][:1] if behind else [k for k in places if k < place][-1:]
    return records[places[0]][1] if places else None


def _tags(data: memoryview) -> tuple[str, dict[str, str]]:
    """Return the root of XML, and the tags that hold text alone, with their texts or the words `two values`."""
    text = bytes(data[:LARGEST_XML]).decode("utf-8", "replace")
    tags: dict[str, str] = {}
    for opened, inner, closed in ELEMENT.findall(text):
        name = _name(opened)
        if name == _name(closed) and tags.setdefault(name, inner.strip()) != inner.strip():
            tags[name] = "two values"
    root = ROOT.search(text)
    return _name(root[1]) if root else "", tags


def _name(tag: str) -> str:
    """Return the name in a tag, without namespace and attributes."""
    return (tag.split() or [""])[0].rpartition(":")[2]


def _to_xml(root: str, children: Mapping[str, Any], attributes: str = "") -> bytes:
    inner = "".join(f"<{tag}>{escape(str(value))}</{tag}>" for tag, value in children.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{root}{" " * bool(attributes)}{attributes}>{inner}</{root}>'.encode()
    )
