"""Single configurations in the formats that people exchange, which are told apart by how a file begins."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import gauge_files, lime, nersc
from lattice_flows.io.ildg import read_ildg, write_ildg
from lattice_flows.io.nersc import read_nersc, write_nersc

WRITERS: dict[str, Callable[..., None]] = {
    "nersc": write_nersc,
    "nersc-short": lambda path, links, words: write_nersc(path, links, words, short=True),
    "ildg": write_ildg,
}


def read_configuration(path: str | Path) -> tuple[Tensor, dict[str, Any]]:
    """The links `(4, *sites, N, N)` in a file of the NERSC archive or of ILDG, in its precision, and facts.

    Facts are `format`, `group`, `sites`, `precision`, `plaquette`, `link_trace`, `verified` (which of checksum,
    plaquette and link_trace the file states; all that it states are right) and the words that the format has room for.
    Directions 0 ... 3 are x, y, z, t.

    Raises:
        InvalidInput: there is no such file, or it is truncated, damaged, or of another format.

    Example:
        >>> import tempfile
        >>> from lattice_flows import SU
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_configuration(Path(folder, "cold"), SU(2).identity(4, 2, 2, 2, 4), "ildg", {"lfn": "lfn://cold"})
        ...     links, facts = read_configuration(Path(folder, "cold"))
        >>> tuple(links.shape), facts["group"], facts["sites"], facts["plaquette"]
        ((4, 2, 2, 2, 4, 2, 2), 'SU(2)', (2, 2, 2, 4), 1.0)
    """
    head = gauge_files.read_bytes(Path(path), 16)
    if head.startswith(nersc.MAGIC):
        return read_nersc(path)
    if head.startswith((lime.MAGIC, lime.MAGIC[::-1])):
        return read_ildg(path)
    if head.startswith(b"\x89HDF\r\n"):
        raise InvalidInput(f"one configuration is expected, HDF5 files are ensembles: open it with ChainFile ({path})")
    raise InvalidInput(f"a NERSC or ILDG file is expected, this one begins with {head!r} ({path})")


def write_configuration(path: str | Path, links: Tensor, format: str, facts: Mapping[str, Any] | None = None) -> None:
    """Writes the links `(4, *sites, N, N)` in their precision: atomically and durably.

    Args:
        format: `nersc`, `nersc-short` (without the last row of each matrix) or `ildg`.
        facts: words that the format has room for, such as `read_configuration` returns them: of NERSC `ensemble_id`,
            `ensemble_label`, `sequence_number`, of ILDG `lfn`. What follows from the links is computed.

    Raises:
        InvalidInput: another format, or not one configuration of SU(N) in four dimensions.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    if format not in WRITERS:
        raise InvalidInput(f"unknown format {format!r}; available: {', '.join(WRITERS)}")
    WRITERS[format](path, links, facts)
