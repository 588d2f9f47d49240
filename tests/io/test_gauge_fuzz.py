"""Damaged gauge files of every format: one clear line, or the same links where the file has a checksum.

`LATTICE_FLOWS_FUZZ` is the number of mutations of each format, 60 by default.
"""

import collections
import os
import random
import resource
import signal

import foreign_files as foreign
import numpy as np
import pytest
import torch

from lattice_flows import SU
from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_gauge_file, write_configuration
from lattice_flows.io.gauge.base import Given

EXTENTS = (2, 2, 2, 4)
COUNT = int(os.environ.get("LATTICE_FLOWS_FUZZ", "60"))
SECONDS, BYTES = 10, 300 * 2**20
LINKS = SU(3).haar(4, *EXTENTS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
PLAIN = foreign.plain(LINKS)
GIVEN = Given(group="SU(3)", extents=EXTENTS)
RAW = b"".join(foreign.pack(PLAIN, EXTENTS, ">", 64, 3))
OURS = ("nersc", "nersc-short", "ildg", "milc", "openqcd")
FOREIGN = {
    "NERSC of MILC": foreign.nersc_file(PLAIN, EXTENTS, ">", 32, "4D_SU3_GAUGE", FLOATING_POINT=None),
    "ILDG": foreign.lime_file([*foreign.ildg_records(PLAIN, EXTENTS, 64).items()]),
    "SciDAC": foreign.scidac_file(PLAIN, EXTENTS, 64),
    "MILC of big numbers": foreign.milc_file(PLAIN, EXTENTS, ">"),
    "DDalphaAMG": foreign.ddalphaamg_file(PLAIN, EXTENTS),
    "HiRep": foreign.hirep_file(PLAIN, EXTENTS),
    "a lone record": foreign.lime_file([("ildg-binary-data", RAW)]),
    "links alone": RAW,
}
NASTY = (b"<", b">", b"<a>" * 1000, b"\n" * 3000, b"= ", b"9" * 5000, b"-1", b"1e999999999", b"nan", b"\0" * 64,
         b"\xff" * 8, b"BEGIN_HEADER\n", b"END_HEADER\n", b"\x45\x67\x89\xab", b"&a;", b"<!DOCTYPE a [")  # fmt: skip


def mutated(content, chance):
    """The content with one to three changes, mostly near its header."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        near = min(len(data), chance.choice((100, 1000, 10**9)))
        place = chance.randrange(near) if near else 0
        size = chance.choice((1, 2, 4, 8, 100))
        match chance.randrange(8):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
            case 2:
                del data[place : place + size]
            case 3:
                del data[place:]
            case 4:
                data[place:place] = chance.choice(NASTY)
            case 5:
                data[place : place + size] = chance.randbytes(size)
            case 6:  # a part once more, somewhere else
                other = chance.randrange(len(data) + 1)
                data[other:other] = data[place : place + size * 40]
            case _:
                digits = [k for k in range(near) if chr(data[k]).isdecimal()]
                if digits:
                    data[chance.choice(digits)] = ord(chance.choice("0123456789"))
    return bytes(data)


def expire(*_):
    raise AssertionError(f"reading takes more than {SECONDS} seconds")


def outcome(path, given, original):
    """What becomes of a damaged file: refused, wrong, the same links, or others."""
    try:
        with np.errstate(all="raise", under="ignore"):
            file = read_gauge_file(path, given)
    except InvalidInput as error:
        clear = "\n" not in str(error) and len(str(error)) < 600 + len(str(path))
        return "refused" if clear else str(error)
    if not all(statement.right for statement in file.statements):
        return "wrong"
    return "same" if torch.equal(file.links, original) else "other"


@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
def test_damaged_files(tmp_path, name):
    path, chance = tmp_path / "lat", random.Random(name)
    if name in OURS:
        write_configuration(path, LINKS, name)
    else:
        path.write_bytes(FOREIGN[name])
    given = GIVEN if name in ("a lone record", "links alone") else Given()
    content, original = path.read_bytes(), read_gauge_file(path, given)
    checked = any(statement.name == "checksum" for statement in original.statements)
    counts, before = collections.Counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, expire)
    try:
        for _ in range(COUNT):
            path.write_bytes(mutated(content, chance))
            signal.alarm(SECONDS)
            counts[outcome(path, given, original.links)] += 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert set(counts) <= {"refused", "wrong", "same", *(() if checked else ("other",))}
    assert counts["refused"] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < BYTES / 1024
    print(f"{name}: {COUNT} mutations: {dict(counts)}")  # shown by -s
