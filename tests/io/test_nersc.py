"""The NERSC archive format, against a second implementation: layout, header, checks, and files that are refused."""

import os
import re

import foreign_files as foreign
import h5py
import numpy as np
import pytest
import torch
from refusal import assert_refused

from lattice_flows import SU, U1
from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import read_configuration, write_configuration
from lattice_flows.io.gauge.base import Given
from lattice_flows.io.gauge.nersc import complete

EXTENTS = (2, 3, 2, 4)
CASES = [(SU(n), dtype, format) for n in (2, 3, 4) for dtype in (torch.float32, torch.float64)
         for format in ("nersc", "nersc-short")]  # fmt: skip
WORDS = {"ensemble_id": "test = ensemble", "ensemble_label": "β", "sequence_number": "17"}


def haar(group, dtype=torch.float64, extents=EXTENTS):
    generator = torch.Generator().manual_seed(5)
    # near enough to 1 for plaquettes that a wrong order would change
    return group.exp(0.4 * group.random_algebra(4, *extents, generator=generator, dtype=torch.float64)).to(
        group.element_dtype(dtype)
    )


def same(links, ours, rows=None):
    return all(
        abs(a - b) < 1e-6
        for key, link in foreign.plain(ours).items()
        for mine, theirs in zip(link[:rows], links[key], strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


@pytest.mark.parametrize(("group", "dtype", "format"), CASES, ids=str)
def test_written_files_are_read_by_another(tmp_path, group, dtype, format):
    links, path = haar(group, dtype), tmp_path / "lat"
    write_configuration(path, links, format, WORDS)
    header, data = foreign.nersc_header(path.read_bytes())
    bits = 32 if dtype == torch.float32 else 64
    rows = group.n - 1 if format == "nersc-short" else group.n
    assert header["DATATYPE"] == f"4D_SU{group.n}_GAUGE" + (f"_{group.n}x{group.n}" if format == "nersc" else "")
    assert header["FLOATING_POINT"] == f"IEEE{bits}BIG"
    assert [int(header[f"DIMENSION_{k}"]) for k in (1, 2, 3, 4)] == list(EXTENTS)
    assert int(header["CHECKSUM"], 16) == foreign.word_sum(data, ">")
    assert same(foreign.unpack(data, EXTENTS, ">", bits, rows, group.n), links, rows)
    plaquette, link_trace = foreign.averages(foreign.plain(links), EXTENTS)
    assert abs(float(header["PLAQUETTE"]) - plaquette) < 1e-9
    assert abs(float(header["LINK_TRACE"]) - link_trace) < 1e-9
    for name, value in WORDS.items():
        assert header[name.upper()] == value
    again, facts = read_configuration(path)
    assert again.dtype == links.dtype
    if format == "nersc":
        assert torch.equal(again, links)
    else:
        torch.testing.assert_close(again, links)
        assert torch.equal(again[..., :-1, :], links[..., :-1, :])
    assert facts["verified"] == ("checksum", "plaquette", "link_trace")
    stated = {name: facts[name] for name in ("format", "group", "extents", "precision", *WORDS)}
    assert stated == {"format": format, "group": str(group), "extents": EXTENTS, "precision": bits} | WORDS
    write_configuration(tmp_path / "again", again, facts["format"], facts)
    assert foreign.nersc_header((tmp_path / "again").read_bytes())[1] == data


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("datatype", ["4D_SU3_GAUGE", "4D_SU3_GAUGE_3x3", "4D_SU2_GAUGE", "4D_SU2_GAUGE_2x2"])
def test_files_of_another_are_read(tmp_path, bits, order, datatype):
    links = haar(SU(int(datatype[5])))
    path = tmp_path / "lat"
    path.write_bytes(foreign.nersc_file(foreign.plain(links), EXTENTS, order, bits, datatype))
    again, facts = read_configuration(path)
    torch.testing.assert_close(again.to(links.dtype), links, atol=1e-6, rtol=0)
    assert again.dtype == (torch.complex64 if bits == 32 else torch.complex128)
    assert facts["precision"] == bits


def test_last_rows_follow():
    for n in (2, 3, 4, 5):
        links = SU(n).haar(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
        np.testing.assert_allclose(complete(links[:, :-1]), links, atol=1e-13)


GOOD = foreign.nersc_file(foreign.plain(haar(SU(3))), EXTENTS, ">", 32, "4D_SU3_GAUGE_3x3")
END = GOOD.index(b"END_HEADER\n") + len(b"END_HEADER\n")


def edited(key, value):
    """The file with another value in its header, or without one."""
    line = b"" if value is None else f"{key} = {value}\n".encode()
    rest = re.sub(rb"(?m)^" + key.encode() + rb" = .*\n", b"", GOOD[:END])
    return rest.replace(b"END_HEADER", line + b"END_HEADER") + GOOD[END:]


REFUSED = {
    "empty": (b"", "a gauge file is expected"),
    "other": (b"something else", "a gauge file is expected"),
    "only a header": (GOOD[: END - 8], "from BEGIN_HEADER to END_HEADER is expected .* the file is truncated"),
    "truncated": (GOOD[:-1], "13824 bytes of links are expected .* got 13823: .*truncated"),
    "no data": (GOOD[:END], "13824 bytes of links are expected .* got 0"),
    "too long": (GOOD + b"x", "13824 bytes of links are expected .* got 13825"),
    "much too long": (GOOD + bytes(17), "13824 bytes of links are expected .* got 13841"),
    "a bit": (GOOD[:-3] + bytes([GOOD[-3] ^ 1]) + GOOD[-2:], "CHECKSUM is .* the file is damaged"),
    "wrong endian": (edited("FLOATING_POINT", "IEEE32LITTLE"), "fits the other byte order, correct FLOATING_POINT"),
    "both wrong": (
        foreign.nersc_file(foreign.plain(haar(SU(3))), EXTENTS, ">", 32, "4D_SU3_GAUGE_3x3",
                           FLOATING_POINT="IEEE32LITTLE", CHECKSUM=f"{foreign.word_sum(GOOD[END:], '<'):x}"),
        r"links must be in SU\(3\) .* the checksum is right, so the file holds other matrices",
    ),
    "sizes": (edited("DIMENSION_2", 4), "18432 bytes of links are expected on 2x4x2x4 sites, got 13824"),
    "no extent": (edited("DIMENSION_2", None), "must state DIMENSION_2 as a number, got nothing"),
    "negative": (edited("DIMENSION_2", -3), "a lattice has 2, 3 or 4 integer extents >= 2, got"),
    "precision": (edited("FLOATING_POINT", "IEEE64BIG"), "27648 bytes of links are expected"),
    "unknown precision": (edited("FLOATING_POINT", "VAX"), "FLOATING_POINT must be IEEE32BIG, .* got 'VAX'"),
    "group": (edited("DATATYPE", "4D_SU2_GAUGE_2x2"), "6144 bytes of links are expected .* got 13824"),
    "unknown group": (edited("DATATYPE", "4D_U1_GAUGE"), "DATATYPE must be 4D_SU3_GAUGE"),
    "odd rows": (edited("DATATYPE", "4D_SU3_GAUGE_3x2"), "DATATYPE must be 4D_SU3_GAUGE"),
    "plaquette": (edited("PLAQUETTE", 0.5), r"plaquette|PLAQUETTE is 0.5 in the file and 0\.\d+ of the links"),
    "nan": (edited("PLAQUETTE", "nan"), "PLAQUETTE is nan in the file"),
    "trace": (edited("LINK_TRACE", 0.5), "LINK_TRACE is 0.5 in the file"),
    "two values": (edited("DIMENSION_2", "3\nDIMENSION_2 = 4"), "must state DIMENSION_2 as a number, got 'two values'"),
    "many digits": (edited("DIMENSION_2", "3" * 5000), "must state DIMENSION_2 as a number, got '3{40}'"),
    "underscore": (edited("DIMENSION_2", "0_3"), "must state DIMENSION_2 as a number, got '0_3'"),
    "overflow": (edited("DIMENSION_2", "999999999"), "a lattice of at most 2,147,483,648 sites is expected"),
    "endless header": (GOOD[: END - 11] + b"A = 1\n" * 20_000 + GOOD[END - 11 :], "in the first 65536 bytes"),
    "line feeds": (b"BEGIN_HEADER" + b"\n" * 1_000_000, "in the first 65536 bytes"),
    "no checksum": (edited("CHECKSUM", None), "CHECKSUM is missing in the file"),
    "open": (edited("BOUNDARY_4", "OPEN"), "the file states BOUNDARY_4 = OPEN: it cannot be read"),
    "antiperiodic": (edited("BOUNDARY_4", "ANTIPERIODIC"), "BOUNDARY_4 = ANTIPERIODIC: .* --ignore boundary"),
    "checksum": (edited("CHECKSUM", "xyz"), "CHECKSUM is xyz in the file"),
}  # fmt: skip


ALL = ("checksum", "plaquette", "link_trace")
MILC_INFO = "-------BEGIN-------\ntime_stamp = Mon Jan  1\nnx = 2\nMILC_INFO = --------END--------"
ACCEPTED = {
    "no precision": (edited("FLOATING_POINT", None), ALL),
    "a block of MILC": (edited("MILC_INFO", MILC_INFO), ALL),
    "a line without a value": (edited("ENSEMBLE_ID", "\na line"), ALL),
    "Windows": (GOOD[:END].replace(b"\n", b"\r\n") + GOOD[END:], ALL),
    "no trace": (edited("LINK_TRACE", None), ("checksum", "plaquette")),
    "no averages": (re.sub(rb"(LINK|PLAQ).* = .*\n", b"", GOOD[:END]) + GOOD[END:], ("checksum",)),
    "empty": (edited("LINK_TRACE", ""), ("checksum", "plaquette")),
    "no number": (edited("LINK_TRACE", "unknown"), ("checksum", "plaquette")),
    "few digits": (re.sub(rb"(?<=E = )0\.\d+", lambda found: b"%.1f" % float(found[0]), GOOD), ALL),
    "periodic": (edited("BOUNDARY_4", "PERIODIC"), ALL),
    "a line feed behind": (GOOD + b"\n", ALL),
    "zeros behind": (GOOD + bytes(16), ALL),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_headers_that_leave_something_open(tmp_path, name):
    content, verified = ACCEPTED[name]
    (tmp_path / "lat").write_bytes(content)
    links, facts = read_configuration(tmp_path / "lat")
    assert same(foreign.plain(links), haar(SU(3)))
    assert facts["verified"] == verified


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("datatype", ["4D_SU3_GAUGE", "4D_SU3_GAUGE_3x3"])
def test_the_checksum_tells_the_byte_order_that_words_leave_open(tmp_path, bits, order, datatype):
    links = haar(SU(3))
    for word in (None, f"IEEE{bits}"):
        content = foreign.nersc_file(foreign.plain(links), EXTENTS, order, bits, datatype, FLOATING_POINT=word)
        (tmp_path / "lat").write_bytes(content)
        again, facts = read_configuration(tmp_path / "lat")
        torch.testing.assert_close(again.to(links.dtype), links, atol=1e-6, rtol=0)
        assert (facts["precision"], facts["verified"]) == (bits, ALL)


def test_short_names_of_whole_matrices(tmp_path):
    links = haar(SU(4))
    content = foreign.nersc_file(foreign.plain(links), EXTENTS, ">", 64, "4D_SU4_GAUGE_4x4")
    (tmp_path / "lat").write_bytes(content.replace(b"_4x4", b""))
    assert torch.equal(read_configuration(tmp_path / "lat")[0], links)


def test_checks_are_ignored_on_request(tmp_path, caplog):
    path = tmp_path / "lat"
    for content, check in ((edited("CHECKSUM", "0"), "checksum"), (edited("BOUNDARY_4", "ANTIPERIODIC"), "boundary")):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=f"--ignore {check}"):
            read_configuration(path)
        caplog.clear()
        links, facts = read_configuration(path, Given(ignore=(check,)))
        assert same(foreign.plain(links), haar(SU(3)))
        assert ("checksum" in facts["verified"]) == (check == "boundary")
        assert "as asked for" in caplog.text
    # then the links tell the byte order
    path.write_bytes(edited("CHECKSUM", None).replace(b"IEEE32BIG", b"IEEE32"))
    assert read_configuration(path, Given(ignore=("checksum",)))[1]["verified"] == ("plaquette", "link_trace")
    path.write_bytes(edited("BOUNDARY_4", "OPEN"))
    with pytest.raises(InvalidInput, match="it cannot be read"):
        read_configuration(path, Given(ignore=("checksum", "boundary")))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files(tmp_path, name):
    assert_refused(tmp_path / "lat", *REFUSED[name])


def test_refused_paths_and_links(tmp_path, monkeypatch):
    path = tmp_path / "lat"
    with pytest.raises(InvalidInput, match="No such file"):
        read_configuration(path)
    with pytest.raises(InvalidInput, match="Is a directory"):
        read_configuration(tmp_path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(InvalidInput, match="this HDF5 file is an ensemble: measure it alone"):
        read_configuration(path)
    links = haar(SU(3))
    write_configuration(path, links, "nersc")
    before = path.read_bytes()
    for wrong in (links[None], links[:3], U1().identity(4, *EXTENTS), 1.1 * links, torch.full_like(links, torch.nan)):
        for format in ("nersc", "ildg"):
            with pytest.raises(InvalidInput):
                write_configuration(path, wrong, format)
    with pytest.raises(
        InvalidInput, match="unknown format 'scidac'; available: nersc, nersc-short, ildg, milc, openqcd"
    ):
        write_configuration(path, links, "scidac")
    with pytest.raises(InvalidInput, match="ensemble_id must be one line"):
        write_configuration(path, links, "nersc", {"ensemble_id": "a\nCHECKSUM = 0"})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for format in ("nersc", "ildg"):
        with pytest.raises(LatticeFlowsError, match="No space left on device"):
            write_configuration(path, links, format)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["lat"]
