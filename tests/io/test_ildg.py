"""The ILDG format, against a second implementation: records, XML, checksums, and files that are refused."""

import xml.dom.minidom

import foreign_files as foreign
import pytest
import torch
from refusal import assert_refused

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_configuration, write_configuration
from lattice_flows.io.gauge.ildg import scidac_checksum

EXTENTS = (2, 3, 2, 4)
VOLUME = 48


def links_of(group, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    algebra = group.random_algebra(4, *EXTENTS, generator=generator, dtype=torch.float64)
    return group.exp(0.4 * algebra).to(group.element_dtype(dtype))


def texts(data):
    """{tag: text} of the children of an XML document."""
    root = xml.dom.minidom.parseString(data).documentElement
    return {node.localName or node.tagName: node.firstChild.data for node in root.childNodes if node.firstChild}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("group", [SU(2), SU(3), SU(4)], ids=str)
def test_written_files_are_read_by_another(tmp_path, group, dtype):
    links, path = links_of(group, dtype), tmp_path / "lat"
    write_configuration(path, links, "ildg", {"lfn": "lfn://a&b"})
    records = foreign.lime_records(path.read_bytes())
    assert [first for _, _, first, _ in records] == [True] + [False] * 4
    assert [last for _, _, _, last in records] == [False] * 4 + [True]
    record = {kind: data for kind, data, _, _ in records}
    bits = 32 if dtype == torch.float32 else 64
    form = texts(record["ildg-format"])
    assert form == {"version": "1.0", "field": f"su{group.n}gauge", "precision": str(bits)} | {
        f"l{axis}": str(extent) for axis, extent in zip("xyzt", EXTENTS, strict=True)
    }
    assert record["ildg-format"].count(b'xmlns="http://www.lqcd.org/ildg"') == 1
    data = record["ildg-binary-data"]
    unpacked = foreign.unpack(data, EXTENTS, ">", bits, group.n, group.n)
    assert all(unpacked[key] == link for key, link in foreign.plain(links).items())
    suma, sumb = foreign.site_sums(data, VOLUME)
    assert texts(record["scidac-checksum"]) == {"version": "1.0", "suma": f"{suma:x}", "sumb": f"{sumb:x}"}
    stated = texts(record["scidac-record-xml"])
    plaquette, link_trace = foreign.averages(foreign.plain(links), EXTENTS)
    assert abs(float(stated["plaq"]) - plaquette) < 1e-9
    assert abs(float(stated["linktr"]) - link_trace) < 1e-9
    assert record["ildg-data-lfn"] == b"lfn://a&b"
    again, facts = read_configuration(path)
    assert torch.equal(again, links)
    assert facts["verified"] == ("checksum", "plaquette", "link_trace")
    assert (facts["lfn"], facts["group"], facts["precision"]) == ("lfn://a&b", str(group), bits)
    write_configuration(tmp_path / "again", again, facts["format"], facts)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


LINKS = links_of(SU(3))
RECORDS = foreign.ildg_records(foreign.plain(LINKS), EXTENTS, 64)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("group", [SU(2), SU(3)], ids=str)
def test_files_of_another_are_read(tmp_path, group, bits):
    links, path = links_of(group), tmp_path / "lat"
    records = foreign.ildg_records(foreign.plain(links), EXTENTS, bits)
    for present, verified in ((records, ("checksum",)), (dict(list(records.items())[:2]), ())):
        path.write_bytes(foreign.lime_file([("private", b"\0\1\2"), *present.items()]))
        again, facts = read_configuration(path)
        torch.testing.assert_close(again.to(links.dtype), links, atol=1e-7 if bits == 32 else 0, rtol=0)
        assert (facts["verified"], facts["lfn"], facts["extents"]) == (verified, "", EXTENTS)


def test_checksum_of_many_sites():
    """More than 29 * 31 of them, so that every turn happens."""
    data = torch.randn(10, 10, 5, 2, 3, generator=torch.Generator().manual_seed(0)).numpy()
    assert scidac_checksum(data) == foreign.site_sums(data.tobytes(), 1000)


def edited(kind, old="", new="", **more):
    data = RECORDS[kind].replace(old.encode(), new.encode())
    assert data != RECORDS[kind]
    return foreign.lime_file([*(RECORDS | {kind: data} | more).items()])


GOOD = foreign.lime_file([*RECORDS.items()])
DATA = GOOD.index(b"ildg-binary-data") + 128
BOMB = b'<!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY c "&a;&a;&a;">]><b><field>&c;</field></b>'
SWAPPED = b"".join(foreign.pack(foreign.plain(LINKS), EXTENTS, "<", 64, 3))
WRONG_GROUP = b"".join(foreign.pack(foreign.plain(1.5 * LINKS), EXTENTS, ">", 64, 3))

CHECKSUM = GOOD.index(b"scidac-checksum") - 16


def with_words(words, **more):
    """A file with a record of the user."""
    return foreign.lime_file([("scidac-record-xml", words), *RECORDS.items(), *more.items()])


def framed(flags):
    """The file with other flags in every record."""
    records = [foreign.lime_file([record]) for record in RECORDS.items()]
    return b"".join(record[:6] + flags + record[8:] for record in records)


FRAMINGS = {
    "no flags": framed(b"\0\0"),
    "a first record each": framed(b"\x80\0"),
    "a message each": framed(b"\xc0\0"),
    "reserved bits": framed(b"\xff\xff"),
    "a line feed behind": GOOD + b"\n",
    "zeros behind": GOOD + bytes(500),
    "something short behind": GOOD + b"written by hand",
    "something long behind": GOOD + b"written by hand " * 20,
    "no padding": GOOD[: len(GOOD) - (-len(RECORDS["scidac-checksum"]) % 8)],
    "padding of something": GOOD[: len(GOOD) - (-len(RECORDS["scidac-checksum"]) % 8)].ljust(len(GOOD), b"x"),
    "several messages": b"".join(foreign.lime_file([record]) for record in [("xlf-info", b"a"), *RECORDS.items()]),
    "the checksum first": foreign.lime_file([*RECORDS.items()][::-1]),
    "a type with something behind it": GOOD.replace(b"ildg-binary-data\0\0", b"ildg-binary-data\0x"),
}
assert -len(RECORDS["scidac-checksum"]) % 8
NUL, DECLARATION = b"\0", b'<?xml version="1.0"?>'
WORDS = {
    "a sentence": b"Dummy user record XML for lattice field",
    "nothing": b"",
    "nothing but zeros": NUL,
    "bytes": b"\xbf(..\xe9",
    "other XML": DECLARATION + b"<usqcdPropInfo><plaq>0.1</plaq></usqcdPropInfo>",
    "empty tags": DECLARATION + b"<usqcdInfo><plaq></plaq><linktr/></usqcdInfo>",
    "no numbers": b"<usqcdInfo><plaq>unknown</plaq><linktr>-</linktr></usqcdInfo>",
    "two values": b"<usqcdInfo><plaq>1</plaq><plaq>2</plaq></usqcdInfo>",
    "never closed": b"<usqcdInfo><plaq>0.1",
    "entities": BOMB,
    "nested": b"<a>" * 100_000,
    "a loop of angles": b"<" * 1_000_000,
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_framing_is_no_evidence_of_damage(tmp_path, name):
    (tmp_path / "lat").write_bytes(FRAMINGS[name])
    links, facts = read_configuration(tmp_path / "lat")
    assert torch.equal(links, LINKS)
    assert facts["verified"] == ("checksum",)


@pytest.mark.parametrize("name", WORDS)
def test_words_that_are_not_understood_leave_averages_unverified(tmp_path, name):
    (tmp_path / "lat").write_bytes(with_words(WORDS[name]))
    links, facts = read_configuration(tmp_path / "lat")
    assert torch.equal(links, LINKS)
    assert facts["verified"] == ("checksum",)


def test_numbers_of_the_words(tmp_path):
    """With white space before the declaration, zeros behind, and few digits."""
    plaquette, trace = foreign.averages(foreign.plain(LINKS), EXTENTS)
    words = b"\n " + DECLARATION + f"<usqcdInfo><plaq>{plaquette:.2e}</plaq><linktr> {trace:.3f} </linktr>".encode()
    (tmp_path / "lat").write_bytes(with_words(words + b"</usqcdInfo>" + NUL))
    assert read_configuration(tmp_path / "lat")[1]["verified"] == ("checksum", "plaquette", "link_trace")


ODD = {
    "white space": ("ildg-format", '<?xml version="1.0"?>', '\n <?xml version="1.0"?>'),
    "an open quote": ("ildg-format", 'ildg"><i', "ildg><i"),
    "no field": ("ildg-format", "<i:field>su3gauge</i:field>", ""),
    "capitals": ("ildg-format", "su3gauge", "SU3GAUGE"),
    "zeros behind": ("ildg-format", "</i:ildgFormat>", "</i:ildgFormat>\0\0"),
    "a document type": ("ildg-format", '<?xml version="1.0"?>', "<!DOCTYPE ildgFormat>"),
    "hexadecimal": ("scidac-checksum", "<suma>", "<suma> 0x"),
    "one sum": ("scidac-checksum", "sumb", "other"),
}


@pytest.mark.parametrize("name", ODD)
def test_oddly_written_records(tmp_path, name):
    (tmp_path / "lat").write_bytes(edited(*ODD[name]))
    links, facts = read_configuration(tmp_path / "lat")
    assert torch.equal(links, LINKS)
    assert facts["verified"] == ("checksum",)


REFUSED = {
    "truncated": (GOOD[: -len(RECORDS["scidac-checksum"])], "bytes of data, got .* truncated"),
    "truncated data": (GOOD[: DATA + 100], "27648 bytes of data, got 100: the file is truncated"),
    "truncated header": (GOOD[:100], "144 bytes of header, got 100"),
    "magic": (GOOD[: DATA - 144] + b"D" + GOOD[DATA - 143 :], "are expected LIME 456789ab version 1, got"),
    "last magic": (GOOD[:CHECKSUM] + b"D" + GOOD[CHECKSUM + 1 :], "are expected LIME 456789ab version 1, got"),
    "little": (b"\xab\x89\x67\x45" + GOOD[4:], "LIME files are big-endian, this one is little-endian"),
    "version": (GOOD[:5] + b"\2" + GOOD[6:], "are expected LIME 456789ab version 1, got 456789ab 2"),
    "a bit": (GOOD[:DATA] + bytes([GOOD[DATA] ^ 1]) + GOOD[DATA + 1 :], "the checksum is .* damaged"),
    "many records": (foreign.lime_file([("ildg-data-lfn", b"")]) * 10_001, "at most 10000 records"),
    "wrong endian": (
        foreign.lime_file([("ildg-format", RECORDS["ildg-format"]), ("ildg-binary-data", SWAPPED)]),
        r"links must be in SU\(3\) .* of another byte order",
    ),
    "no group": (
        foreign.lime_file([("ildg-format", RECORDS["ildg-format"]), ("ildg-binary-data", WRONG_GROUP)]),
        r"links must be in SU\(3\) .* or group",
    ),
    "no format": (foreign.lime_file([*RECORDS.items()][1:]), "states neither group nor extents"),
    "no data": (
        foreign.lime_file([*RECORDS.items()][::2]), "there are 'ildg-format', 'scidac-checksum': no gauge file"),
    "two": (foreign.lime_file([*RECORDS.items()] * 2), "one configuration is expected, there are two"),
    "sizes": (edited("ildg-format", " 3 ", " 4 "), "36864 bytes of links are expected .* got 27648"),
    "no extent": (edited("ildg-format", "i:ly", "i:lq"), "must state ly as a number, got nothing"),
    "two extents": (edited("ildg-format", "</i:ly>", "</i:ly><ly>5</ly>"), "must state ly .* got 'two values'"),
    "many digits": (edited("ildg-format", " 3 ", "3" * 5000), "must state ly as a number, got '3{40}'"),
    "overflow": (edited("ildg-format", " 3 ", "999999999"), "a lattice of at most 2,147,483,648 sites is expected"),
    "precision": (edited("ildg-format", ">64<", ">32<"), "13824 bytes of links are expected .* got 27648"),
    "half": (edited("ildg-format", ">64<", ">16<"), "su3gauge in 32 or 64 bits"),
    "group": (edited("ildg-format", "su3", "su2"), "12288 bytes of links are expected"),
    "long field": (edited("ildg-format", "su3gauge", "phi" * 9999), "is expected, got (phi){6}ph 64"),
    "field": (edited("ildg-format", "su3gauge", "phi"), "is expected, got phi 64"),
    "XML": (edited("ildg-format", "</i:lx>", "</i:ly>"), "must state lx as a number, got nothing"),
    "binary": (edited("ildg-format", "su3", "su\x00"), "su3gauge in 32 or 64 bits"),
    "entities": (edited("ildg-format", " 3 ", "&a;", ), "must state ly as a number, got '&a;'"),
    "nested": (edited("ildg-format", "<i:lx>", "<a>" * 100_000 + "<i:lx>"), "must state lx as a number, got nothing"),
    "endless": (edited("ildg-format", "<i:lx>", "<" + "a" * 10_000_000), "must state lx as a number, got nothing"),
    "checksum": (edited("scidac-checksum", "<suma>", "<suma>1"), "the checksum is .* damaged"),
    "no sums": (edited("scidac-checksum", "sum", "some"), "the checksum is missing in the file"),
    "no number": (edited("scidac-checksum", "<suma>", "<suma>x"), "the checksum is x"),
    "plaquette": (with_words(b"<usqcdInfo><plaq>0.1</plaq></usqcdInfo>"), "plaq is 0.1 in the file"),
    "nan": (with_words(b"<usqcdInfo><linktr>nan</linktr></usqcdInfo>"), "linktr is nan in the file"),
    "part of several": (foreign.lime_file([("scidac-sitelist", b""), *RECORDS.items()]), "a part of several"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files(tmp_path, name):
    assert_refused(tmp_path / "lat", *REFUSED[name])


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "lat"
    for size in range(144, len(GOOD), 997):
        path.write_bytes(GOOD[:size])
        with pytest.raises(InvalidInput):
            read_configuration(path)
