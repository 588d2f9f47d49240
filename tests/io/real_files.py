"""Compare gauge files in a folder with the table of README.md, whose rows are found by the SHA-256 of files.

python tests/io/real_files.py FOLDER
"""

import hashlib
import re
import sys
from pathlib import Path

from lattice_flows.errors import InvalidInput
from lattice_flows.io import Given, read_configuration
from lattice_flows.io.gauge.base import average

NUMBER_OF_COLUMNS = 7


def table():
    """The rows of README.md: SHA-256 -> given, documented plaquette, result."""
    lines = Path(__file__).with_name("README.md").read_text(encoding="utf-8").splitlines()
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|"))
    return {row[3]: row[4:] for row in rows if len(row) == NUMBER_OF_COLUMNS and re.fullmatch("[0-9a-f]{16}", row[3])}


def result(path, given):
    """What is read of a file, or why it is refused."""
    group, _, extents = given.partition(" ")
    said = Given() if given == "-" else Given(group=group, extents=tuple(int(extent) for extent in extents.split("x")))
    try:
        _, facts = read_configuration(path, said)
    except InvalidInput as error:
        return None, str(error)
    sites = "x".join(map(str, facts["extents"]))
    words = f"{facts['format']} {facts['group']} {sites} {facts['precision']} {facts['plaquette']:.10f}"
    return facts["plaquette"], words


def fault(path, given, documented, expected):
    """What is wrong with the result of a file; nothing where all is as it should be."""
    plaquette, words = result(path, given)
    if plaquette is None or expected.startswith("refused: "):
        return "" if plaquette is None and expected.removeprefix("refused: ") in words else f"{words}, not {expected}"
    if words.rpartition(" ")[0] != expected.rpartition(" ")[0] or abs(plaquette - float(expected.split()[-1])) > 1e-8:
        return f"{words}, not {expected}"
    value, half_a_unit = average(documented) or (plaquette, 0)
    return "" if abs(plaquette - value) <= 1e-6 + half_a_unit else f"plaquette {plaquette}, documented {documented}"


def main(folder):
    """Print faults and counts; return the exit code."""
    rows, found, faults = table(), set(), []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        if digest in rows:
            found.add(digest)
            if why := fault(path, *rows[digest]):
                faults.append(f"{path}: {why}")
    refused = sum(rows[digest][2].startswith("refused") for digest in found)
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"{len(found)} of {len(rows)} files found: {refused} to refuse, {len(found) - refused} to read; ", end="")
    print(f"{len(faults)} are not as they should be")
    return bool(faults or not found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
