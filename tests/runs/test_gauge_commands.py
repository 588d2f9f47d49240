"""The commands on gauge files: verify, convert, and import and measure in spite of a check."""

import os
from pathlib import Path

import pytest
import torch
from command_line import fails, out

from lattice_flows import SU, cli
from lattice_flows.cli.parser import FORMATS
from lattice_flows.io import read_configuration, write_configuration
from lattice_flows.io.configurations import PACK

EXTENTS = (2, 2, 2, 4)
LINKS = SU(3).haar(4, *EXTENTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in FORMATS:
        write_configuration(form, LINKS, form)


def damage(path, place):
    """Another digit or bit in a file."""
    content = bytearray(Path(path).read_bytes())
    content[place] ^= 1
    Path(path).write_bytes(content)


def test_formats_of_the_command_line_are_those_that_are_written():
    assert tuple(PACK) == FORMATS


def test_verdicts(capsys):
    rows = [row.split() for row in out(capsys, "verify", *FORMATS).splitlines()]
    plaquette = f"{read_configuration('ildg')[1]['plaquette']:.12f}"
    assert [row[:6] for row in rows[1:]] == [
        [form, "good", form, "SU(3)", "2x2x2x4", "32" if form == "milc" else "64"] for form in FORMATS
    ]
    checksums = {form: "none" if form == "openqcd" else "right" for form in FORMATS}
    assert {row[0]: row[6] for row in rows[1:]} == checksums
    assert {row[0]: row[7] != "none" for row in rows[1:]} == {form: form != "milc" for form in FORMATS}
    assert all(abs(float(row[8]) - float(plaquette)) < 1e-7 for row in rows[1:])


def test_bad_files_among_good_ones(capsys):
    damage("milc", 92)  # a sum
    damage("openqcd", 23)  # the plaquette
    damage("nersc", -1)  # a link
    os.symlink("loop", "loop")
    os.mkfifo("pipe")
    others = ["loop", "pipe", ".", "/dev/zero", "missing"]
    assert cli.main(["verify", *FORMATS, *others]) == 2
    printed, error = capsys.readouterr()
    verdicts = [line.split()[1] for line in printed.splitlines()[1 : 1 + len(FORMATS) + len(others)]]
    assert verdicts == ["bad", "good", "good", "bad", "bad", *["bad"] * len(others)]
    for reason in (
        "CHECKSUM is", "the checksum is", "plaquette is", "symbolic links (loop)", "this is a device or pipe (pipe)",
        "Is a directory (.)", "this is a device or pipe (/dev/zero)", "No such file or directory (missing)",
    ):  # fmt: skip
        assert sum(reason in line for line in printed.splitlines()) == 1, reason
    assert error == f"lattice-flows: error: 8 of 10 files are bad: nersc, milc, openqcd, {', '.join(others)}\n"


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_converted_into_every_other(capsys, source, form):
    assert out(capsys, "convert", source, "new", "--format", form).startswith("new: SU(3) on 2x2x2x4, plaquette ")
    links, facts = read_configuration("new")
    assert facts["format"] == form
    single = "milc" in (source, form)
    torch.testing.assert_close(links.to(LINKS.dtype), LINKS, atol=1e-6 if single else 1e-13, rtol=0)
    assert (facts["precision"] == 32) == (form == "milc" or (source == "milc" and form != "openqcd"))


def test_links_alone_are_converted(capsys):
    Path("raw").write_bytes(Path("nersc").read_bytes()[-32 * 576 :])
    given = ("--group", "SU(3)", "--extents", "2,2,2,4", "--precision", "64", "--byte-order", "big")
    out(capsys, "convert", "raw", "new", "--format", "ildg", *given)
    assert torch.equal(read_configuration("new")[0], LINKS)
    assert "raw" in out(capsys, "verify", "raw", *given)
    out(capsys, "import", "raw", "--out", "run", "action.beta=5", *given)
    assert torch.equal(read_configuration("run/start.ildg")[0], LINKS)


def test_refusals_of_convert(capsys):
    before = sorted(os.listdir())
    for arguments, words in {
        ("nersc", "./nersc", "--format", "ildg"): "a file is not converted into itself",
        ("nersc", "no/folder", "--format", "ildg"): "cannot write",
        ("nersc", "new", "--format", "ildg", "--group", "SU(2)"): "the file is of group SU(3), not SU(2)",
        ("nersc", "new", "--format", "ildg", "--group", "E8"): "a group such as SU(3), got 'E8'",
    }.items():
        assert words in fails(capsys, "convert", *arguments)
    assert sorted(os.listdir()) == before
    assert read_configuration("nersc")[1]["format"] == "nersc"


def test_a_wrong_checksum_is_ignored_on_request(capsys):
    damage("milc", 92)
    commands = {
        ("measure", "milc"): "checksum is",
        ("convert", "milc", "new", "--format", "ildg"): "new",
        ("import", "milc", "--out", "run", "action.beta=5"): "run",
    }
    for arguments, made in commands.items():
        assert "to read it all the same: --ignore checksum (milc)" in fails(capsys, *arguments)
        assert not Path(made).exists()
        out(capsys, *arguments, "--ignore", "checksum")
    assert "nothing" in out(capsys, "measure", "milc", "--ignore", "checksum")
    assert read_configuration("new")[1]["verified"] == ("checksum", "plaquette", "link_trace")
    # the run has a copy that states what its links are
    assert out(capsys, "sample", "run", "-n", "1", "sampling.thermalise=0").startswith("1 configurations")
