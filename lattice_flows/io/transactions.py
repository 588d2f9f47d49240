"""A file that changes from one whole state to the next, however the process that writes it ends.

New data of HDF5 go to the disk at once, behind the committed end, where nothing refers to them yet. Changed pages of
the committed part stay in memory. A commit makes the new part durable and appends the changed pages as a journal with
a checksum. It makes the journal durable, writes the pages to their places, and cuts the journal off:

    committed part | new part | changed pages, each behind its number | magic, pages, new end, CRC-32

A file that ends in a whole journal has been committed, and readers here see the pages in place. A killed process leaves
any other end. Pages are put in place from the last to the first, the one with the superblock. The journal is no file
of its own, since a copied ensemble.h5 would not be whole.

Source: the redo log of databases: J. Gray, A. Reuter, Transaction Processing (1993).
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lattice_flows.io import files

PAGE = 4096
_ENTRY = struct.Struct(f"<Q{PAGE}s")
_TRAILER = struct.Struct("<8sQQI")
_MAGIC = b"journal\n"
# the place of the end of the file in superblocks of version 2, which HDF5 1.8 and later read
_END_OF_FILE = struct.Struct("<28xQ")


class TransactionFile(io.RawIOBase):
    """An HDF5 file (superblock of version 2) for `h5py.File` that keeps committed data only.

    Writes never fail, because HDF5 crashes the process where it cannot write a file that it closes. Data that the disk
    does not take stay in memory, and the next commit raises the error. Writers of one file must exclude each other.

    Args:
        writable: open to write, and cut off the rest that a killed writer left; else the file stays as it is.
    """

    def __init__(self, path: str | Path, *, writable: bool) -> None:
        super().__init__()
        self._path = Path(path)
        self._writable = writable
        self._error: OSError | None = None
        self._position = 0
        self._file = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        size = os.fstat(self._file).st_size
        self._pages, self._committed = _journal(self._file, size) or ({}, size)
        if writable and self._pages:
            self._put_in_place()
        elif writable:
            head = os.pread(self._file, _END_OF_FILE.size, 0).ljust(_END_OF_FILE.size, b"\0")
            self._committed = min(size, _END_OF_FILE.unpack(head)[0])
            os.ftruncate(self._file, self._committed)
        self._end = self._kept = self._committed

    def commit(self) -> None:
        """Make everything written so far the state of the file, durably; a LatticeFlowsError leaves the last commit."""
        with files.writing(self._path):
            if self._error is not None:
                raise self._error
            # HDF5 writes whole chunks: most of their pages are as they were
            self._pages = {
                page: data for page, data in self._pages.items() if os.pread(self._file, PAGE, page * PAGE) != data
            }
            if not self._pages and self._end == self._committed:
                return
            os.fsync(self._file)
            entries = b"".join(_ENTRY.pack(page, data) for page, data in self._pages.items())
            trailer = _TRAILER.pack(_MAGIC, len(self._pages), self._end, zlib.crc32(entries))
            # behind every page, so that putting pages in place never touches it
            start = -(-max(self._end, self._committed) // PAGE) * PAGE
            try:
                _write_all(self._file, entries + trailer, start)
                os.fsync(self._file)
            except OSError as error:
                self._error = error
                raise
            self._committed, self._kept = self._end, start + len(entries) + len(trailer)
            self._put_in_place()

    def close(self) -> None:
        """Close the file, and drop data that were not committed."""
        if not self.closed:
            if self._writable:
                os.ftruncate(self._file, self._kept)
            os.close(self._file)
        super().close()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; behind the end there are zeros."""
        target, start = memoryview(buffer).cast("B"), self._position
        data = os.pread(self._file, len(target), start)
        target[:] = data.ljust(len(target), b"\0")
        for page, own, there in _pieces(start, len(target)):
            if page in self._pages:
                target[there] = self._pages[page][own]
        self._position += len(target)
        return len(target)

    def write(self, data: Any, /) -> int:
        """Write the part behind the committed end to the disk, and the part before it to memory."""
        source, start = memoryview(data).cast("B"), self._position
        boundary = -(-self._committed // PAGE) * PAGE
        kept = min(len(source), max(0, boundary - start))
        if self._error is None:
            try:
                _write_all(self._file, source[kept:], start + kept)
            except OSError as error:
                self._error = error
        if self._error is not None:
            kept = len(source)
        for page, own, there in _pieces(start, kept):
            if page not in self._pages:
                self._pages[page] = bytearray(os.pread(self._file, PAGE, page * PAGE).ljust(PAGE, b"\0"))
            self._pages[page][own] = source[there]
        self._position += len(source)
        self._end = max(self._end, self._position)
        return len(source)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the end that the file has after the next commit."""
        self._end = self._position if size is None else size
        return self._end

    def _put_in_place(self) -> None:
        for page in sorted(self._pages, reverse=True):
            _write_all(self._file, self._pages[page], page * PAGE)
        os.fsync(self._file)
        os.ftruncate(self._file, self._committed)
        self._pages, self._kept = {}, self._committed


def _journal(file: int, size: int) -> tuple[dict[int, bytearray], int] | None:
    """Return the pages and the end of the file in the journal at the end of a file, if that is a whole one."""
    data = os.pread(file, _TRAILER.size, max(0, size - _TRAILER.size))
    if len(data) < _TRAILER.size or not data.startswith(_MAGIC):
        return None
    _, count, end, checksum = _TRAILER.unpack(data)
    start = size - _TRAILER.size - count * _ENTRY.size
    if start < 0 or zlib.crc32(entries := os.pread(file, count * _ENTRY.size, start)) != checksum:
        return None
    return {page: bytearray(data) for page, data in _ENTRY.iter_unpack(entries)}, end


def _pieces(start: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Split a range into its parts in single pages: page, place in the page, place in the range."""
    for page in range(start // PAGE, -(-(start + size) // PAGE) if size else 0):
        at = page * PAGE
        first, last = max(start, at), min(start + size, at + PAGE)
        yield page, slice(first - at, last - at), slice(first - start, last - start)


def _write_all(file: int, data, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
