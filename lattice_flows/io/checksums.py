"""CRC-32 of every page of an HDF5 file, inside the file: what is damaged is found when it is read, data or metadata.

    first 512 bytes        magic, commits, end of the file, CRC-32 of the table, its places, CRC-32 of the first page
    /checksums/0, 1, ...   the table: the CRC-32 of page 0, 1, ... of the file, in the whole pages of these datasets

The first 512 bytes are a user block, which HDF5 skips. They name the state of the file, and a commit replaces the first
page last. The entries of the first page and of the table's own pages are not used. The last page counts as filled up
with zeros.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

import h5py
import numpy as np

PAGE = 4096
ENTRIES = PAGE // 4
"""The number of entries of the table in a page."""
USER_BLOCK = 512
GROUP = "checksums"
MAGIC = b"lattice_flows\r\n\x1a"
_STATE = struct.Struct("<16sQQII")
_PLACE = struct.Struct("<QQ")
_CRC = struct.Struct("<I")


class State(NamedTuple):
    """The committed state of a file, as its first page names it."""

    commits: int
    end: int
    table: int
    """The CRC-32 of the entries of all pages."""
    places: tuple[tuple[int, int], ...]
    """The first page of each part of the table, and its number of pages."""

    def pack(self, page: bytes | bytearray) -> bytes:
        """Return a first page that names this state, with the content of another one behind the user block."""
        places = b"".join(_PLACE.pack(*place) for place in self.places)
        own = _STATE.pack(MAGIC, self.commits, self.end, self.table, len(self.places)) + places
        own = own.ljust(USER_BLOCK - _CRC.size, b"\0")
        return own + _CRC.pack(zlib.crc32(own + page[USER_BLOCK:])) + page[USER_BLOCK:]

    @classmethod
    def unpack(cls, page: bytes) -> Self | None:
        """Return the state that a first page names; None if it is damaged or something else."""
        if len(page) != PAGE or not page.startswith(MAGIC):
            return None
        _, commits, end, table, count = _STATE.unpack_from(page)
        state = cls(commits, end, table, tuple(_PLACE.iter_unpack(page[_STATE.size : _STATE.size + 16 * count])))
        return state if state.pack(page) == page else None

    @property
    def capacity(self) -> int:
        """The number of pages that the table has room for."""
        return ENTRIES * sum(count for _, count in self.places)


class Table:
    """The checksums of all pages, and what has changed in them.

    Args:
        places: those of the table in the file.
        data: its content there.
    """

    def __init__(self, places: Iterable[tuple[int, int]], data: bytes):
        # of the table itself page after page, and of the first page, which have no entries of their own
        self._places = [page for first, count in places for page in range(first, first + count)]
        self._own = {0, *self._places}
        self._entries = np.frombuffer(bytearray(data), "<u4")
        self._changed: set[int] = set()

    def grow(self, place: tuple[int, int]) -> None:
        """Add a part."""
        first, count = place
        self._places += range(first, first + count)
        self._own.update(range(first, first + count))
        self._entries = np.concatenate([self._entries, np.zeros(count * ENTRIES, "<u4")])

    def wrong(self, first: int, data: bytes | bytearray | memoryview) -> list[int]:
        """Return which of these pages, the first of which has this number, do not fit their checksums."""
        found = page_checksums(data)
        differ = np.flatnonzero(found != self._entries[first : first + len(found)]) + first
        return [page for page in differ.tolist() if page not in self._own]

    def take(self, first: int, data: bytes | bytearray) -> None:
        """Take the checksums of these pages."""
        for page, found in enumerate(page_checksums(data), first):
            if page not in self._own and page < len(self._entries):
                self._entries[page] = found
                self._changed.add(page // ENTRIES)

    def changed(self) -> Iterator[tuple[int, bytes]]:
        """Yield the place in the file and the content of each page of the table that has changed."""
        for part in sorted(self._changed):
            yield self._places[part] * PAGE, self._entries[part * ENTRIES : (part + 1) * ENTRIES].tobytes()
        self._changed.clear()

    def checksum(self) -> int:
        """Return the checksum of the table itself."""
        return zlib.crc32(self._entries.tobytes())


def pages(size: int) -> int:
    """Return the number of pages that hold so many bytes."""
    return -(-size // PAGE)


def pieces(start: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Split a range into its parts in single pages: page, place in the page, place in the range."""
    for page in range(start // PAGE, pages(start + size) if size else 0):
        at = page * PAGE
        first, last = max(start, at), min(start + size, at + PAGE)
        yield page, slice(first - at, last - at), slice(first - start, last - start)


def page_checksums(data: bytes | bytearray | memoryview) -> np.ndarray:
    """Return the CRC-32 of each page, the last one filled up with zeros."""
    whole = memoryview(data)
    found = [zlib.crc32(whole[at : at + PAGE]) for at in range(0, len(data) - PAGE + 1, PAGE)]
    if rest := len(data) % PAGE:
        found.append(zlib.crc32(bytes(whole[-rest:]).ljust(PAGE, b"\0")))
    return np.array(found, np.uint32)


def enlarge(file: h5py.File, size: int) -> tuple[int, int]:
    """Add a part to the table of a file of this size, as large as all that it needs; return its place."""
    group = file.require_group(GROUP)
    count = pages(4 * pages(size)) + 1
    # one page more, for whole pages at any offset; with data, so that HDF5 gives it a place
    data = group.create_dataset(str(len(group)), data=np.zeros((count + 1) * ENTRIES, "<u4"))
    data.attrs["description"] = f"CRC-32 of each page of {PAGE} bytes of this file, for lattice_flows alone"
    file.flush()
    return pages(data.id.get_offset()), count


def sealed(data: bytes, place: tuple[int, int]) -> bytes:
    """Return a new file with its table and its first page."""
    table = Table([place], bytes(place[1] * PAGE))
    table.take(0, data)
    content = bytearray(data)
    for start, part in table.changed():
        content[start : start + PAGE] = part
    content[:PAGE] = State(1, len(data), table.checksum(), (place,)).pack(content[:PAGE])
    return bytes(content)
