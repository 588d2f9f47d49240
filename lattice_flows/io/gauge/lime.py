"""The LIME framing: records with a type and data, one after the other.

A record is a header of 144 bytes, its data, and zeros up to a multiple of 8 bytes. The header holds, big-endian:

    uint32 0x456789ab | uint16 version 1 | uint16 flags | uint64 length of the data | 128 bytes: type, then zeros

The two highest bits of the flags mark the first and the last record of a message. Writers set them in many ways, leave
out the last padding, or append a line feed; readers on c-lime accept this, and so do we. What counts is that the data
of every record are there.

Source: the manual and the reader of c-lime, USQCD.
"""

import struct
from collections.abc import Sequence

from lattice_flows.errors import InvalidInput

MAGIC = b"\x45\x67\x89\xab"
VERSION = 1
HEADER = struct.Struct(">4sHHQ128s")
BEGIN, END = 0x8000, 0x4000
MOST_RECORDS = 10_000
# what bytes behind the last record hold where they are a record whose header is damaged
TRACES = (MAGIC, b"scidac-", b"ildg-")


def read_records(content) -> tuple[list[tuple[str, memoryview]], int]:
    """Return the types and the data of all records in order, and how many bytes of something else follow.

    Raises:
        InvalidInput: a header is damaged, or data are missing.
    """
    whole, offset = memoryview(content), 0
    records: list[tuple[str, memoryview]] = []
    while len(whole) - offset >= HEADER.size:
        magic, version, _, length, name = HEADER.unpack_from(whole, offset)
        if magic == MAGIC[::-1]:
            raise InvalidInput("LIME files are big-endian, this one is little-endian: write it again")
        if magic != MAGIC or version != VERSION:
            rest = bytes(whole[offset:])
            if not records or any(trace in rest for trace in TRACES):
                raise _broken(f"LIME {MAGIC.hex()} version {VERSION}, got {magic.hex()} {version}", offset)
            break
        start = offset + HEADER.size
        if length > len(whole) - start:
            raise _broken(f"{length} bytes of data, got {len(whole) - start}", offset)
        if len(records) == MOST_RECORDS:
            raise InvalidInput(f"a gauge file has at most {MOST_RECORDS} records: this one is of another kind")
        kind = bytes(name).partition(b"\0")[0].decode("ascii", "replace")
        records.append((kind, whole[start : start + length]))
        offset = start + length + -length % 8
    if not records:
        raise _broken(f"{HEADER.size} bytes of header, got {len(whole)}", 0)
    return records, len(bytes(whole[offset:]).strip(b"\0\r\n\t "))


def pack_message(records: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a LIME file of one message: the types and the data of its records.

    Example:
        >>> file = pack_message([("greeting", b"hello"), ("farewell", b"bye")])
        >>> len(file), [(kind, bytes(data)) for kind, data in read_records(file)[0]]
        (304, [('greeting', b'hello'), ('farewell', b'bye')])
    """
    parts = []
    for place, (kind, data) in enumerate(records):
        flags = (BEGIN if place == 0 else 0) | (END if place == len(records) - 1 else 0)
        parts += [HEADER.pack(MAGIC, VERSION, flags, len(data), kind.encode("ascii")), data, bytes(-len(data) % 8)]
    return b"".join(parts)


def _broken(expected: str, offset: int) -> InvalidInput:
    return InvalidInput(
        f"at byte {offset} are expected {expected}: the file is truncated, damaged or other, get another copy"
    )
