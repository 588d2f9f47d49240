"""Single configurations in the formats of other programs, which the first bytes of a file tell apart."""

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lattice_flows.config.text import read_bytes
from lattice_flows.errors import InvalidInput, naming
from lattice_flows.io import checksums, files
from lattice_flows.io.gauge import base, hirep, ildg, milc, nersc, openqcd, raw
from lattice_flows.io.gauge.base import GaugeFile, Given

log = logging.getLogger(__name__)

READERS = (nersc, ildg, milc, openqcd, hirep)
PACK: dict[str, Callable[[Tensor, Mapping[str, Any]], bytes]] = {
    "nersc": nersc.pack,
    "nersc-short": functools.partial(nersc.pack, short=True),
    "ildg": ildg.pack,
    "milc": milc.pack,
    "openqcd": openqcd.pack,
}
NOTHING_GIVEN = Given()
HEAD = 1024
HDF5 = b"\x89HDF\r\n"


def read_gauge_file(path: str | Path, given: Given = NOTHING_GIVEN) -> GaugeFile:
    """Return the links of a file and its statements about them, right or wrong.

    Args:
        path: a file of NERSC, ILDG, SciDAC, MILC (version 5), openQCD, DDalphaAMG or HiRep, or links alone.
        given: what the file does not state, and the checks to ignore.

    Raises:
        InvalidInput: the file is missing, truncated, of another format, or holds no links of SU(N).

    Example:
        >>> import tempfile
        >>> from lattice_flows import SU
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_configuration(Path(folder, "cold"), SU(3).identity(4, 2, 2, 2, 4), "milc")
        ...     file = read_gauge_file(Path(folder, "cold"))
        >>> file.format, str(file.space), [(statement.name, statement.right) for statement in file.statements]
        ('milc', 'GaugeField(SU(3), 2x2x2x4)', [('checksum', True)])
    """
    head = read_bytes(path, "configuration", HEAD)
    reader = next((reader.read for reader in READERS if reader.recognises(head)), None)
    if reader is None and given.extents is None:
        if head.startswith((HDF5, checksums.MAGIC)):
            raise InvalidInput(
                f"one configuration is expected, this HDF5 file is an ensemble: measure it alone ({path})"
            )
        raise InvalidInput(
            f"a gauge file is expected (NERSC, ILDG, SciDAC, MILC, openQCD, DDalphaAMG, HiRep), this one begins with "
            f"{head[:16]!r}: for links without a header, convert takes --group and --extents ({path})"
        )
    content = read_bytes(path, "configuration")
    with naming(str(path)):
        return base.verified((reader or raw.read)(content, given), given)


def read_configuration(path: str | Path, given: Given = NOTHING_GIVEN) -> tuple[Tensor, dict[str, Any]]:
    """Return the links `(4, *extents, N, N)` of a gauge file, in its precision, and facts about them.

    The facts are `format`, `group`, `extents`, `precision`, `plaquette`, `link_trace`, `verified`, and the words that
    the format has room for. `verified` lists the statements of the file that were checked: checksum, plaquette and
    link_trace, where the file has them. Directions 0 ... 3 are x, y, z, t.

    Raises:
        InvalidInput: as `read_gauge_file`, or a statement of the file is wrong.

    Example:
        >>> import tempfile
        >>> from lattice_flows import SU
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_configuration(Path(folder, "cold"), SU(2).identity(4, 2, 2, 2, 4), "ildg", {"lfn": "lfn://cold"})
        ...     links, facts = read_configuration(Path(folder, "cold"))
        >>> tuple(links.shape), facts["group"], facts["extents"], facts["verified"]
        ((4, 2, 2, 2, 4, 2, 2), 'SU(2)', (2, 2, 2, 4), ('checksum', 'plaquette', 'link_trace'))
    """
    file = read_gauge_file(path, given)
    for statement in file.statements:
        if not statement.right:
            if statement.name not in given.ignore:
                more = "; to read it all the same: --ignore checksum" * (statement.name == "checksum")
                raise InvalidInput(f"{statement}{more} ({path})")
            log.warning("%s: %s; read all the same, as asked for", path, statement)
    for note in file.notes:
        log.warning("%s: %s", path, note)
    return file.links, file.facts


def write_configuration(path: str | Path, links: Tensor, format: str, facts: Mapping[str, Any] | None = None) -> None:
    """Write the links `(4, *extents, N, N)` in their precision, to MILC in 32 bits and to openQCD in 64: atomically.

    Args:
        format: `nersc`, `nersc-short` (without the last row of each matrix), `ildg`, `milc` or `openqcd`.
        facts: words, as `read_configuration` returns them. NERSC takes `ensemble_id`, `ensemble_label` and
            `sequence_number`, ILDG takes `lfn`, the logical file name. All else is computed from the links.

    Raises:
        InvalidInput: another format, not one configuration of SU(N) in four dimensions, or a word of several lines.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    if format not in PACK:
        raise InvalidInput(f"unknown format {format!r}; available: {', '.join(PACK)}")
    files.write(Path(path), PACK[format](links, facts or {}))
