"""Single configurations in the formats of NERSC and ILDG, which the first bytes of a file tell apart."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lattice_flows.errors import InvalidInput, naming
from lattice_flows.io import checksums, files, ildg, nersc

PACK: dict[str, Callable[[Tensor, Mapping[str, Any]], bytes]] = {
    "nersc": nersc.pack,
    "nersc-short": functools.partial(nersc.pack, short=True),
    "ildg": ildg.pack,
}


def read_configuration(path: str | Path) -> tuple[Tensor, dict[str, Any]]:
    """Return the links `(4, *extents, N, N)` of a NERSC or ILDG file, in its precision, and facts about them.

    The facts are `format`, `group`, `extents`, `precision`, `plaquette`, `link_trace`, `verified`, and the words that
    the format has room for. `verified` lists the statements of the file that were checked: checksum, plaquette and
    link_trace, where the file has them. Directions 0 ... 3 are x, y, z, t.

    Raises:
        InvalidInput: the file is missing, truncated, damaged, of another format, or contradicts its header.

    Example:
        >>> import tempfile
        >>> from lattice_flows import SU
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_configuration(Path(folder, "cold"), SU(2).identity(4, 2, 2, 2, 4), "ildg", {"lfn": "lfn://cold"})
        ...     links, facts = read_configuration(Path(folder, "cold"))
        >>> tuple(links.shape), facts["group"], facts["extents"], facts["verified"]
        ((4, 2, 2, 2, 4, 2, 2), 'SU(2)', (2, 2, 2, 4), ('checksum', 'plaquette', 'link_trace'))
    """
    head = files.read(path, "configuration", 16)
    if head.startswith((b"\x89HDF\r\n", checksums.MAGIC)):
        raise InvalidInput(f"one configuration is expected, this HDF5 file is an ensemble: measure it alone ({path})")
    if not head.startswith((nersc.MAGIC, ildg.MAGIC, ildg.MAGIC[::-1])):
        raise InvalidInput(f"a NERSC or ILDG file is expected, this one begins with {head!r} ({path})")
    read = nersc.read if head.startswith(nersc.MAGIC) else ildg.read
    content = files.read(path, "configuration")
    with naming(str(path)):
        links, facts = read(content)
    return links, facts


def write_configuration(path: str | Path, links: Tensor, format: str, facts: Mapping[str, Any] | None = None) -> None:
    """Write the links `(4, *extents, N, N)` in their precision: atomically and durably.

    Args:
        format: `nersc`, `nersc-short` (without the last row of each matrix) or `ildg`.
        facts: words, as `read_configuration` returns them. NERSC takes `ensemble_id`, `ensemble_label` and
            `sequence_number`, ILDG takes `lfn`, the logical file name. All else is computed from the links.

    Raises:
        InvalidInput: another format, not one configuration of SU(N) in four dimensions, or a word of several lines.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    if format not in PACK:
        raise InvalidInput(f"unknown format {format!r}; available: {', '.join(PACK)}")
    files.write(Path(path), PACK[format](links, facts or {}))
