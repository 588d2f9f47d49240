"""LIME, the packaging of ILDG files: messages of records, each with a type in ASCII and any bytes.

A record is a header of 144 bytes, its data, and zeros up to a multiple of 8 bytes. The header holds, big-endian:

    uint32 0x456789ab | uint16 version 1 | uint16 flags | uint64 length of the data | 128 bytes: type, then zeros

The highest bit of the flags marks the first record of a message, the next one the last.

Source: the manual of c-lime 1.2, USQCD.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from lattice_flows.errors import InvalidInput

MAGIC = b"\x45\x67\x89\xab"
VERSION = 1
HEADER = struct.Struct(">4sHHQ128s")
BEGIN, END = 0x8000, 0x4000


def read_records(content: bytes, path: Path) -> list[tuple[str, memoryview]]:
    """Return the types and the data of all records in a file, in order.

    Args:
        content: of the file.
        path: its name, for errors.

    Raises:
        InvalidInput: it is truncated, damaged or no LIME file.
    """
    records, offset, whole, ends = [], 0, memoryview(content), False
    while offset < len(whole):
        if len(whole) - offset < HEADER.size:
            raise InvalidInput(_broken(f"{HEADER.size} bytes of header, got {len(whole) - offset}", offset, path))
        magic, version, flags, length, name = HEADER.unpack_from(whole, offset)
        if magic == MAGIC[::-1]:
            raise InvalidInput(f"LIME files are big-endian, this one is little-endian: write it again ({path})")
        if magic != MAGIC or version != VERSION:
            raise InvalidInput(
                _broken(f"LIME {MAGIC.hex()} version {VERSION}, got {magic.hex()} {version}", offset, path)
            )
        start = offset + HEADER.size
        padded = length + -length % 8
        if padded > len(whole) - start:
            raise InvalidInput(_broken(f"{length} bytes of data, got {len(whole) - start}", offset, path))
        kind = bytes(name).partition(b"\0")[0].decode("ascii", "replace")
        records.append((kind, whole[start : start + length]))
        offset, ends = start + padded, bool(flags & END)
    if not ends:
        raise InvalidInput(_broken("the rest of a message, got nothing", offset, path))
    return records


def pack_message(records: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a file of one message: the types and the data of its records.

    Example:
        >>> file = pack_message([("greeting", b"hello"), ("farewell", b"bye")])
        >>> len(file), [(kind, bytes(data)) for kind, data in read_records(file, Path("file"))]
        (304, [('greeting', b'hello'), ('farewell', b'bye')])
    """
    parts = []
    for place, (kind, data) in enumerate(records):
        flags = (BEGIN if place == 0 else 0) | (END if place == len(records) - 1 else 0)
        parts += [HEADER.pack(MAGIC, VERSION, flags, len(data), kind.encode("ascii")), data, bytes(-len(data) % 8)]
    return b"".join(parts)


def _broken(expected: str, offset: int, path: Path) -> str:
    return (
        f"at byte {offset} are expected {expected}: the file is truncated, damaged or other, get another copy ({path})"
    )
