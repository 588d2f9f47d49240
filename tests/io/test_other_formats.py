"""MILC, SciDAC, openQCD, DDalphaAMG, HiRep and links alone, against second writers in plain Python."""

import struct

import foreign_files as foreign
import pytest
import torch
from refusal import assert_refused

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_configuration, write_configuration
from lattice_flows.io.configurations import read_gauge_file
from lattice_flows.io.gauge.base import Given

EXTENTS = (2, 4, 2, 6)
VOLUME = 96


def links_of(n, extents=EXTENTS):
    group = SU(n)
    algebra = group.random_algebra(4, *extents, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    return group.exp(0.4 * algebra)


LINKS = links_of(3)
PLAIN = foreign.plain(LINKS)
FOREIGN = {
    "milc": foreign.milc_file(PLAIN, EXTENTS, "<"),
    "milc of big numbers": foreign.milc_file(PLAIN, EXTENTS, ">"),
    "scidac": foreign.scidac_file(PLAIN, EXTENTS, 64),
    "scidac of single precision": foreign.scidac_file(PLAIN, EXTENTS, 32),
    "openqcd": foreign.openqcd_file(PLAIN, EXTENTS),
    "ddalphaamg": foreign.ddalphaamg_file(PLAIN, EXTENTS),
    "hirep": foreign.hirep_file(PLAIN, EXTENTS),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_another_are_read(tmp_path, name):
    (tmp_path / "lat").write_bytes(FOREIGN[name])
    links, facts = read_configuration(tmp_path / "lat")
    torch.testing.assert_close(links.to(LINKS.dtype), LINKS, atol=1e-6, rtol=0)
    plain = {key: facts[key] for key in ("format", "group", "extents", "precision", "verified")}
    single = links.dtype == torch.complex64
    assert single == (name.startswith("milc") or "single" in name)
    assert plain == {
        "format": name.split()[0],
        "group": "SU(3)",
        "extents": EXTENTS,
        "precision": 32 if single else 64,
        "verified": ("checksum",) if name.split()[0] in ("milc", "scidac") else ("plaquette",),
    }


def test_written_files_are_those_of_another(tmp_path):
    for form, content in (("milc", FOREIGN["milc"]), ("openqcd", FOREIGN["openqcd"])):
        write_configuration(tmp_path / form, LINKS, form)
        ours = (tmp_path / form).read_bytes()
        # but for the time stamp, and for the last digits of the plaquette
        begin, end = {"milc": (20, 84), "openqcd": (16, 24)}[form]
        assert ours[:begin] + ours[end:] == content[:begin] + content[end:]
        torch.testing.assert_close(read_configuration(tmp_path / form)[0].to(LINKS.dtype), LINKS, atol=1e-7, rtol=0)
    for form, links in (("milc", links_of(2)), ("openqcd", links_of(2)), ("openqcd", links_of(3, (2, 3, 2, 2)))):
        with pytest.raises(InvalidInput, match="take nersc or ildg"):
            write_configuration(tmp_path / "other", links, form)


def test_extents_that_are_odd(tmp_path):
    """Those of openQCD are even; DDalphaAMG and HiRep have others."""
    extents = (3, 2, 5, 2)
    links = links_of(3, extents)
    for writer in (foreign.ddalphaamg_file, foreign.hirep_file):
        (tmp_path / "lat").write_bytes(writer(foreign.plain(links), extents))
        assert torch.equal(read_configuration(tmp_path / "lat")[0], links)


@pytest.mark.parametrize("quaternions", [False, True])
def test_two_ways_of_hirep_to_write_su2(tmp_path, quaternions):
    links = links_of(2)
    (tmp_path / "lat").write_bytes(foreign.hirep_file(foreign.plain(links), EXTENTS, quaternions))
    again, facts = read_configuration(tmp_path / "lat")
    torch.testing.assert_close(again, links, atol=1e-15, rtol=0)
    assert (facts["group"], facts["verified"]) == ("SU(2)", ("plaquette",))


def test_cold_links_fit_both_orders(tmp_path):
    cold = SU(3).identity(4, *EXTENTS, dtype=torch.float64)
    write_configuration(tmp_path / "lat", cold, "openqcd")
    assert torch.equal(read_configuration(tmp_path / "lat")[0], cold)


def test_one_gauge_field_among_others(tmp_path):
    """Every field has its private record before it, and its checksum behind it."""
    gauge = foreign.scidac_records(PLAIN, EXTENTS, 64)
    other = [("scidac-private-record-xml", foreign.private_record(64, 3, 1)), ("scidac-binary-data", b"12345678"),
             ("scidac-checksum", b"<scidacChecksum><suma>1</suma><sumb>1</sumb></scidacChecksum>")]  # fmt: skip
    path = tmp_path / "lat"
    for records in (gauge[:1] + other + gauge[1:], gauge + other, gauge[:1] + other + gauge[1:] + other):
        path.write_bytes(foreign.lime_file(records))
        links, facts = read_configuration(path)
        assert torch.equal(links, LINKS)
        assert facts["verified"] == ("checksum",)
    assert_refused(path, foreign.lime_file(gauge[:1] + other), "the fields hold 1: no gauge configuration")
    assert_refused(path, foreign.lime_file(gauge + gauge[1:]), "there are 2 gauge fields: split the file")


def raw(order, bits, links=LINKS):
    extents = links.shape[1:5]
    return b"".join(foreign.pack(foreign.plain(links), extents, order, bits, links.shape[-1]))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_links_alone_with_group_and_extents_given(tmp_path, n, bits):
    path, links, given = tmp_path / "lat", links_of(n), Given(group=f"SU({n})", extents=EXTENTS)
    contents = [raw(order, bits, links) for order in "<>"]
    for content in (*contents, foreign.lime_file([("ildg-binary-data", contents[1])])):
        path.write_bytes(content)
        again, facts = read_configuration(path, given)
        torch.testing.assert_close(again.to(links.dtype), links, atol=1e-6, rtol=0)
        assert (facts["precision"], facts["verified"]) == (bits, ())
        with pytest.raises(InvalidInput, match=r"give both|takes --group and --extents"):
            read_configuration(path)


def test_what_is_given_must_fit(tmp_path):
    path = tmp_path / "lat"
    path.write_bytes(raw("<", 64))
    fits = {"group": "SU(3)", "extents": EXTENTS}
    cases = (
        ({"byte_order": "big"}, r"links must be in SU\(3\)"),
        ({"precision": 32}, "bytes of links are expected"),
        ({"group": "SU(2)"}, "bytes of links are expected"),
        ({"extents": (2, 4, 2, 4)}, "bytes of links are expected"),
        ({"extents": (2, 4)}, "a gauge file has four extents"),
        ({"extents": (10**9,) * 4}, "a lattice of at most 2,147,483,648 sites is expected"),
    )
    for changes, message in cases:
        with pytest.raises(InvalidInput, match=message):
            read_configuration(path, Given(**{**fits, **changes}))
    for wrong in ({"group": "U(1)"}, {"precision": 16}, {"byte_order": "middle"}, {"ignore": ("group",)},
                  {"extents": (-2, 4, -2, 6)}, {"extents": (10**4000,) * 4}):  # fmt: skip
        with pytest.raises(InvalidInput):
            Given(**wrong)
    path.write_bytes(FOREIGN["hirep"])
    for changes in ({"group": "SU(2)"}, {"extents": (4, 2, 2, 6)}, {"precision": 32}, {"byte_order": "big"}):
        with pytest.raises(InvalidInput, match="leave the option out"):
            read_configuration(path, Given(**changes))


def changed(name, place, data):
    content = FOREIGN[name]
    return content[:place] + data + content[place + len(data) :]


def zero_links(name):
    """Open boundaries: no links in the direction of time behind the last sites."""
    links = {key: [[0j] * 3] * 3 if key[3:] == (5, 3) else link for key, link in PLAIN.items()}
    return {"openqcd": foreign.openqcd_file, "hirep": foreign.hirep_file}[name](links, EXTENTS)


PHASES = {key: [[-z for z in row] for row in link] if key[4] == 2 else link for key, link in PLAIN.items()}
REFUSED = {
    "MILC, a bit": (changed("milc", 5000, b"\xff"), "the checksum is .* damaged"),
    "MILC, truncated": (FOREIGN["milc"][:-4], "27648 bytes of links are expected .* got 27644"),
    "MILC, a header": (FOREIGN["milc"][:50], "96 bytes of header are expected, got 50"),
    "MILC, version 4": (changed("milc", 0, struct.pack("<i", 59354)), "this is of MILC versions 1 to 4"),
    "MILC, other sites": (changed("milc", 84, b"\1"), "sites in the natural order are expected"),
    "MILC, a list of sites": (
        changed("milc", 84, b"\1")[:96] + bytes(4 * VOLUME) + FOREIGN["milc"][96:], "sites in the natural order"),
    "MILC, five links": (FOREIGN["milc"] + bytes(72 * VOLUME), "27648 bytes of links are expected .* got 34560"),
    "MILC, overflow": (changed("milc", 4, struct.pack("<4i", *4 * (2**31 - 1,))), "a lattice of at most 2,147,483,648"),
    "MILC, no extents": (changed("milc", 4, bytes(16)), "integer extents >= 2"),
    "openQCD, plaquette": (changed("openqcd", 16, struct.pack("<d", 1.5)), "plaquette is 0.5 in the file"),
    "openQCD, truncated": (FOREIGN["openqcd"][:-1], "bytes of links are expected"),
    "openQCD, links": (changed("openqcd", 24 + 8 * 55, struct.pack("<d", 0.3)), r"links must be in SU\(3\)"),
    "openQCD, open": (zero_links("openqcd"), "some links are zero, as open boundaries have them"),
    "HiRep, open": (zero_links("hirep"), "some links are zero, as open boundaries have them"),
    "HiRep, plaquette": (changed("hirep", 20, struct.pack(">d", 0.5)), "plaquette is 0.5 in the file"),
    "HiRep, truncated": (FOREIGN["hirep"][:-1], "bytes of links are expected"),
    "HiRep, auxiliary fields": (FOREIGN["hirep"] + bytes(16 * VOLUME), "auxiliary fields"),
    "phases": (foreign.hirep_file(PHASES, EXTENTS), "they are unitary with another determinant"),
    "SciDAC, other matrices": (
        foreign.scidac_file(foreign.plain(1.5 * LINKS), EXTENTS, 64), "the checksum is right, so .* other matrices"),
    "SciDAC, a part": (FOREIGN["scidac"].replace(b"<volfmt>0", b"<volfmt>1"), "a part of several"),
    "SciDAC, three dims": (FOREIGN["scidac"].replace(b"2 4 2 6 <", b"2 4 2   <"), "four extents, dims are 2 4 2"),
    "SciDAC, typesize": (FOREIGN["scidac"].replace(b"<typesize>144", b"<typesize>143"), "N x N matrices"),
    "SciDAC, precision": (FOREIGN["scidac"].replace(b"<precision>D", b"<precision>Q"), "N x N matrices"),
    "SciDAC, global": (FOREIGN["scidac"].replace(b"<recordtype>0", b"<recordtype>1"), "hold an unknown number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files(tmp_path, name):
    assert_refused(tmp_path / "lat", *REFUSED[name])


def test_the_precision_of_statements(tmp_path):
    """A plaquette in 64 bits is the only evidence of an undamaged file, so all its digits count."""
    for form, place, order in (("openqcd", 16, "<"), ("ddalphaamg", 16, "<"), ("hirep", 20, ">")):
        (number,) = struct.unpack_from(f"{order}d", FOREIGN[form], place)
        wrong = changed(form, place, struct.pack(f"{order}d", number + 1e-9))
        assert_refused(tmp_path / "lat", wrong, "plaquette is .* in the file")


def test_statements_are_kept_where_they_are_wrong(tmp_path):
    (tmp_path / "lat").write_bytes(changed("milc", 92, b"\0\0\0\0"))
    file = read_gauge_file(tmp_path / "lat")
    assert [(statement.name, statement.right) for statement in file.statements] == [("checksum", False)]
    links, facts = read_configuration(tmp_path / "lat", Given(ignore=("checksum",)))
    assert torch.equal(links, file.links)
    assert facts["verified"] == ()
