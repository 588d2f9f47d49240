"""The journal at the end of a file: changed pages, which are written to their places once it is whole.

number of the page, page | ... | magic, pages, end of the file, CRC-32
"""

import os
import struct
import zlib
from collections.abc import Mapping

from lattice_flows.io.checksums import PAGE

_ENTRY = struct.Struct(f"<Q{PAGE}s")
_TRAILER = struct.Struct("<8sQQI")
_MAGIC = b"journal\n"


def pack_journal(pages: Mapping[int, bytes | bytearray], end: int) -> bytes:
    """Return the journal of changed pages, for a file with this end."""
    entries = b"".join(_ENTRY.pack(page, data) for page, data in pages.items())
    return entries + _TRAILER.pack(_MAGIC, len(pages), end, zlib.crc32(entries))


def read_journal(file: int) -> dict[int, bytearray]:
    """Return the pages in the journal at the end of a file, if that is a whole one."""
    size = os.fstat(file).st_size
    data = os.pread(file, _TRAILER.size, max(0, size - _TRAILER.size))
    if len(data) < _TRAILER.size or not data.startswith(_MAGIC):
        return {}
    _, count, _, crc = _TRAILER.unpack(data)
    start = size - _TRAILER.size - count * _ENTRY.size
    if start < 0 or zlib.crc32(entries := os.pread(file, count * _ENTRY.size, start)) != crc:
        return {}
    return {page: bytearray(data) for page, data in _ENTRY.iter_unpack(entries)}


def write_all(file: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write data to their place."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
