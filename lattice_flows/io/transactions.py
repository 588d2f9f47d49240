"""A file that changes from one whole state to the next, however the process that writes it ends.

New data of HDF5 go to the disk at once, behind the committed end, where nothing refers to them yet. Changed pages of
the committed part stay in memory. A commit makes the new part durable and appends the changed pages as a journal with
a checksum. It makes the journal durable, writes the pages to their places, and cuts the journal off:

    committed part | new part | journal

A file that ends in a whole journal has been committed, and readers here see the pages in place. A killed process leaves
any other end. Pages are put in place from the last to the first, the one that names the state of the file
(`lattice_flows.io.checksums`). The journal is no file of its own, since a copied ensemble.h5 would not be whole.

A reader needs no lock: each page that it reads is compared with the checksum in the state that it began with. Where a
page differs, the file is damaged, or a writer has committed meanwhile and the reader has to begin again.

Source: the redo log of databases: J. Gray, A. Reuter, Transaction Processing (1993).
"""

import contextlib
import io
import os
import zlib
from pathlib import Path
from typing import Any

from lattice_flows.errors import InvalidInput
from lattice_flows.io import files
from lattice_flows.io.chain_layout import broken
from lattice_flows.io.checksums import ENTRIES, PAGE, State, Table, pages, pieces
from lattice_flows.io.journal import pack_journal, read_journal, write_all

_HDF5 = b"\x89HDF\r\n\x1a\n"


class TransactionFile(io.RawIOBase):
    """An HDF5 file with checksums for `h5py.File`: it keeps committed data only, and hands out no damaged page.

    Writes never fail, because HDF5 crashes the process where it cannot write a file that it closes. Data that the disk
    does not take stay in memory, and the next commit raises the error. Writers of one file must exclude each other.

    Args:
        writable: open to write, and cut off the rest that a killed writer left; else the file stays as it is.

    Attributes:
        state: the committed one; None for an HDF5 file without checksums, which can be read.
        error: of a page or of the disk, or None. A commit raises it, since HDF5 can take it for something else.
        identity: tells the file from one that takes its place.

    Raises:
        InvalidInput: the file is damaged, or no HDF5 file; reading a damaged page raises it, too.
    """

    def __init__(self, path: str | Path, *, writable: bool) -> None:
        super().__init__()
        self._path = Path(path)
        self._writable = writable
        self.error: Exception | None = None
        self._position = 0
        self._pages: dict[int, bytearray] = {}
        self._file = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            while not self._begin():
                pass
        except BaseException:
            os.close(self._file)
            super().close()
            raise

    def _begin(self) -> bool:
        """Take the committed state of the file; return whether no writer has committed meanwhile."""
        self._pages, self._head = _state(self._file)
        try:
            self._take()
        except InvalidInput:
            if not self.changed():
                raise
            return False
        return True

    def _take(self) -> None:
        status = os.fstat(self._file)
        self.identity = status.st_dev, status.st_ino
        self.state = State.unpack(self._head)
        if self.state is None and (self._writable or not self._head.startswith(_HDF5)):
            raise broken("truncated or something else", self._path)
        self._end = self._committed = self._kept = self.state.end if self.state else status.st_size
        self._checked, self._table = 0, Table((), b"")
        if self.state is None:
            return
        if status.st_size < self._committed:
            raise broken(f"truncated, {status.st_size} bytes of {self._committed}", self._path)
        if any(first + count > pages(self._committed) for first, count in self.state.places):
            raise broken("damaged in the place of its checksums", self._path)
        table = b"".join(self._content(first * PAGE, (first + count) * PAGE) for first, count in self.state.places)
        if not self._writable:  # of this state, also when a commit has replaced it
            self._pages[0] = bytearray(self._head)
        if zlib.crc32(table) != self.state.table:
            raise broken("damaged in the table of its checksums", self._path)
        self._table = Table(self.state.places, table)
        self._checked = pages(self._committed)
        if self._writable and self._pages:
            self._put_in_place()
        elif self._writable:
            os.ftruncate(self._file, self._committed)

    def changed(self) -> bool:
        """Return whether a writer has committed since the file was opened."""
        return _state(self._file)[1] != self._head

    def full(self) -> bool:
        """Return whether the table of checksums has no room for all pages."""
        assert self.state is not None
        return pages(self._end) > self.state.capacity

    def enlarge(self, place: tuple[int, int]) -> None:
        """Take a further part of the table, from `checksums.enlarge`."""
        assert self.state is not None
        self.state = self.state._replace(places=(*self.state.places, place))
        self._table.grow(place)

    def commit(self) -> None:
        """Make everything written so far the state of the file, durably; an error leaves the last commit.

        Raises:
            LatticeFlowsError: the disk is full or failed.
            InvalidInput: a page that was to be changed is damaged.
        """
        with files.writing(self._path):
            if self.error is not None:
                raise self.error
            self._drop_unchanged()
            if not self._pages and self._end == self._committed:
                return
            self._seal()
            if self.error is not None:
                raise self.error
            self._drop_unchanged()
            os.fsync(self._file)
            journal = pack_journal(self._pages, self._end)
            # behind every page, so that putting pages in place never touches it
            start = pages(max(self._end, self._committed)) * PAGE
            try:
                write_all(self._file, journal, start)
                os.fsync(self._file)
                self._committed, self._kept = self._end, start + len(journal)
                self._checked, self._head = pages(self._end), bytes(self._pages[0])
                self._put_in_place()
            except OSError as error:  # whatever comes now must not touch the journal
                self.error = error
                raise

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._writable

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Close the file, and drop what was not committed."""
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
        first, stop = start // PAGE, pages(start + len(target))
        data = memoryview(self._content(first * PAGE, stop * PAGE))
        if first < self._checked:
            self._verify(first, data[: (self._checked - first) * PAGE])
        target[:] = data[start - first * PAGE :][: len(target)]
        self._position += len(target)
        return len(target)

    def write(self, data: Any, /) -> int:
        """Write the part behind the committed end to the disk, and the part before it to memory."""
        source, start = memoryview(data).cast("B"), self._position
        kept = min(len(source), max(0, pages(self._committed) * PAGE - start))
        if self.error is None:
            try:
                write_all(self._file, source[kept:], start + kept)
            except OSError as error:
                self.error = error
        if self.error is not None:
            kept = len(source)
        for page, own, there in pieces(start, kept):
            if page not in self._pages:
                self._pages[page] = self._page(page)
            self._pages[page][own] = source[there]
        self._position += len(source)
        self._end = max(self._end, self._position)
        return len(source)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the end that the file has after the next commit."""
        self._end = self._position if size is None else size
        return self._end

    def _content(self, start: int, stop: int) -> bytes | bytearray:
        """Return whole pages, with zeros behind the end."""
        stored = os.pread(self._file, max(0, min(stop, self._end) - start), start).ljust(stop - start, b"\0")
        changed = self._pages.keys() & set(range(start // PAGE, stop // PAGE))
        if not changed:
            return stored
        data = bytearray(stored)
        for page in changed:
            data[page * PAGE - start : (page + 1) * PAGE - start] = self._pages[page]
        return data

    def _page(self, page: int) -> bytearray:
        """Return a page to be changed; the next commit raises the error if it is damaged."""
        data = bytearray(self._content(page * PAGE, (page + 1) * PAGE))
        if page < self._checked:
            with contextlib.suppress(InvalidInput):
                self._verify(page, data)
        return data

    def _verify(self, first: int, data: bytes | bytearray | memoryview) -> None:
        """Refuse pages that do not fit their checksums; those in memory were checked before."""
        for page in self._table.wrong(first, data):
            if page not in self._pages:
                place = f"bytes {page * PAGE} to {(page + 1) * PAGE - 1}"
                self.error = broken(f"damaged: {place} do not fit their checksum", self._path)
                raise self.error

    def _drop_unchanged(self) -> None:
        """Forget pages that are as they were: HDF5 writes whole chunks."""
        size = {page: max(0, min(PAGE, self._committed - page * PAGE)) for page in self._pages}
        stored = {page: os.pread(self._file, size[page], page * PAGE).ljust(PAGE, b"\0") for page in self._pages}
        self._pages = {page: data for page, data in self._pages.items() if stored[page] != data}

    def _seal(self) -> None:
        """Write the checksums of changed and new pages, and the first page."""
        assert self.state is not None
        total = pages(self._end)
        for page, data in self._pages.items():
            self._table.take(page, data)
        for page in range(self._checked, total, ENTRIES):
            self._table.take(page, self._content(page * PAGE, min(page + ENTRIES, total) * PAGE))
        for place, part in self._table.changed():
            self.seek(place)
            self.write(part)
        table = self._table.checksum()
        self.state = self.state._replace(commits=self.state.commits + 1, end=self._end, table=table)
        self.seek(0)
        self.write(self.state.pack(self._content(0, PAGE)))

    def _put_in_place(self) -> None:
        for page in sorted(self._pages, reverse=True):
            write_all(self._file, self._pages[page], page * PAGE)
        os.fsync(self._file)
        os.ftruncate(self._file, self._committed)
        self._pages, self._kept = {}, self._committed


def _state(file: int) -> tuple[dict[int, bytearray], bytes]:
    """Return the pages in the journal at the end of a file, and the page that names its state."""
    journal = read_journal(file)
    return journal, bytes(journal[0]) if 0 in journal else os.pread(file, PAGE, 0)
