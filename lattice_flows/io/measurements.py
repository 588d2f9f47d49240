"""Measured values of the configurations of an ensemble, in one HDF5 file beside it.

    /NAME/chain, update   (n,) int64           the chain, and the update at which it had reached the configuration
    /NAME/action          (n,) float64         its action
    /NAME/values          (n, ...)             what was measured, float64 or complex128
    attributes            format, version

NAME says what was measured, with all settings. An entry belongs to a configuration if chain, update and action agree to
the last bit: an ensemble that grows finds its entries again, another one in the same place does not. All data carry
HDF5's Fletcher32 checksums.
"""

import contextlib
import fcntl
import io
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from lattice_flows.config.text import read_bytes
from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import files

log = logging.getLogger(__name__)

FORMAT, VERSION = "lattice_flows measurements", 1
_CHUNK = 2**16  # bytes


class Entries(NamedTuple):
    """Values of configurations, each with the chain, the update and the action that name it."""

    chain: NDArray[np.int64]
    update: NDArray[np.int64]
    action: NDArray[np.float64]
    values: NDArray

    def of(self, rows: NDArray[np.int64]) -> "Entries":
        """The entries in some rows."""
        return Entries._make(own[rows] for own in self)

    def find(self, wanted: "Entries") -> NDArray[np.int64]:
        """The row here of each wanted entry, -1 where there is none."""
        places = {place: row for row, place in enumerate(self._places())}
        rows = np.array([places.get(place, -1) for place in wanted._places()], np.int64)
        if len(self.action):
            rows[(rows >= 0) & (self.action[rows] != wanted.action)] = -1
        return rows

    def with_new(self, new: "Entries") -> "Entries":
        """These entries and new ones, which replace those of the same chain and update."""
        places = set(new._places())
        old = np.array([place not in places for place in self._places()], bool)
        return Entries._make(np.concatenate((a[old], b)) if old.any() else b for a, b in zip(self, new, strict=True))

    def _places(self) -> list[tuple[int, int]]:
        return list(zip(self.chain.tolist(), self.update.tolist(), strict=True))


class Measurements:
    """The measurements that a file keeps, and new ones that wait for the next `commit`.

    A kill leaves the file as the last commit did. Several processes may keep measurements in one file.

    Args:
        path: of the file, which need not exist.
        writable: whether commits write, which they stop to do where the file cannot be written.

    Raises:
        InvalidInput: the file is damaged or something else.

    Example:
        >>> import tempfile
        >>> entries = Entries(np.array([0, 0]), np.array([1, 2]), np.array([0.5, 0.7]), np.array([0.1, 0.2]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = Measurements(Path(folder, "measurements.h5"))
        ...     kept.add("plaquette", entries)
        ...     kept.commit()
        ...     Measurements(kept.path).entries["plaquette"].values
        array([0.1, 0.2])
    """

    def __init__(self, path: str | Path, writable: bool = True):
        self.path = Path(path)
        self.entries: dict[str, Entries] = {}
        self._waiting: dict[str, Entries] = {}
        self._forgotten: set[str] = set()
        self._seen: tuple[int, ...] | None = None
        self.writable = writable
        self._refresh()

    def add(self, name: str, new: Entries) -> None:
        """Add entries under a name that says what was measured, with all settings."""
        for kept in (self.entries, self._waiting):
            kept[name] = kept[name].with_new(new) if name in kept else new

    def forget(self, name: str) -> None:
        """Drop the entries of a name; those in the file go with the next commit."""
        self._forgotten.add(name)
        self.entries.pop(name, None)
        self._waiting.pop(name, None)

    def commit(self) -> None:
        """Write the entries that wait, durably; if the file cannot be written, warn once and keep nothing."""
        if not self._waiting or not self.writable:
            return
        try:
            with _locked(self.path.parent):
                self._refresh()
                files.write(self.path, _packed(self.entries))
                self._seen, self._waiting, self._forgotten = self._stamp(), {}, set()
        except LatticeFlowsError as error:
            self.writable = False
            log.warning("%s: what is measured is not kept; measure a copy of the folder to keep it", error)

    def _refresh(self) -> None:
        """Read what another process has written."""
        if (stamp := self._stamp()) is not None and stamp != self._seen:
            found = {name: own for name, own in _unpacked(self.path).items() if name not in self._forgotten}
            for name, new in self._waiting.items():
                found[name] = found[name].with_new(new) if name in found else new
            self.entries = found
            self._seen = stamp

    def _stamp(self) -> tuple[int, ...] | None:
        with contextlib.suppress(FileNotFoundError):
            found = self.path.stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process writes measurements in the folder."""
    with files.writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _packed(entries: Mapping[str, Entries]) -> bytes:
    # through memory, because HDF5 crashes on a full disk
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update(format=FORMAT, version=VERSION)
        for name, own in entries.items():
            group = file.create_group(name)
            for key, data in own._asdict().items():
                rows = max(1, min(len(data), _CHUNK // max(1, data[:1].nbytes)))
                group.create_dataset(key, data=data, chunks=(rows, *data.shape[1:]), fletcher32=True)
    return buffer.getvalue()


def _unpacked(path: Path) -> dict[str, Entries]:
    content = read_bytes(path, "measurements")
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            found = file.attrs.get("format"), file.attrs.get("version")
            files.check_format("a file of measurements", found, (FORMAT, VERSION), path, "is another HDF5 file")
            entries = {}
            for name, group in file.items():
                entries[name] = Entries(*(group[key][:] for key in Entries._fields))
                if len({len(own) for own in entries[name]}) != 1:
                    raise ValueError(f"columns of different lengths in {name!r}")
            return entries
    except InvalidInput:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(
            f"the measurements are damaged: remove the file to measure again ({path}: {reason})"
        ) from error
