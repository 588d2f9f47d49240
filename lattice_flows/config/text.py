"""Text from outside, within bounds: files, TOML and JSON that are read, and words that are shown."""

import contextlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lattice_flows.errors import InvalidInput

LIMIT, TEXT_LIMIT, TOML_LIMIT = 2**36, 2**30, 2**20
"""The bytes of the largest files that are read: of tensors, of text, of TOML."""
DOTS = 10**7  # the parser keeps all beginnings of a dotted key, which takes the square of its length
SHOWN = 200


@contextlib.contextmanager
def opened(path: str | Path, kind: str) -> Iterator[IO[bytes]]:
    """Open a regular file to read bytes; never wait for what a fifo or a device has.

    Args:
        kind: the word for the file in errors.

    Raises:
        InvalidInput: it cannot be opened, or is something else.
    """
    try:
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise InvalidInput(f"cannot read the {kind}: {error.strerror} ({path})") from error
    except ValueError as error:  # NUL, or what the file system has no bytes for
        raise InvalidInput(f"cannot read the {kind}: no file has such a name ({path})") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInput(f"cannot read the {kind}: a regular file is expected, this is a device or pipe ({path})")
        yield file


def read_bytes(path: str | Path, kind: str, size: int = -1, limit: int = LIMIT) -> bytes:
    """Read a regular file, or its first `size` bytes.

    Raises:
        InvalidInput: as `opened`, or the file is larger than `limit`.
    """
    with opened(path, kind) as file:
        whole = os.fstat(file.fileno()).st_size
        if size < 0 and whole > limit:
            raise InvalidInput(f"cannot read the {kind}: at most {limit:,} bytes are expected, got {whole:,} ({path})")
        try:  # more, of a file that grows or says that it is empty, as those of /proc, which may have nothing to read
            return file.read(whole + 2**20 if size < 0 else size) or b""
        except OSError as error:
            raise InvalidInput(f"cannot read the {kind}: {error.strerror} ({path})") from error


def read_text(path: str | Path, kind: str, limit: int = TEXT_LIMIT) -> str:
    """Read a regular file of text in UTF-8.

    Raises:
        InvalidInput: as `read_bytes`, or the bytes are no UTF-8.
    """
    try:
        return read_bytes(path, kind, limit=limit).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the {kind} must be text in UTF-8 ({path})") from error


def parse_toml(text: str, kind: str, where: str) -> dict[str, Any]:
    """The tables of TOML text.

    Raises:
        InvalidInput: it is no TOML, or too long or too deep to be a config.
    """
    if len(text) > TOML_LIMIT or sum(line.count(".") ** 2 for line in text.split("\n")) > DOTS:
        raise InvalidInput(f"a {kind} must be TOML of at most {TOML_LIMIT:,} characters and shorter keys ({where})")
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise InvalidInput(f"a {kind} must be TOML: {error} ({where})") from error
    except RecursionError:
        raise InvalidInput(f"a {kind} must be TOML that is not nested so deeply ({where})") from None


def parse_json(text: str | bytes, kind: str, where: str | Path) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        InvalidInput: it is no JSON object, or nested too deeply.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{kind}: {error} ({where})") from error
    except RecursionError:
        raise InvalidInput(f"{kind}: it is nested too deeply ({where})") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{kind}, got {shown(found)} ({where})")
    return found


def shown(value: Any) -> str:
    """A value in an error: its repr, cut where it is long.

    Example:
        >>> shown("x" * 1000) == "'" + "x" * 199 + "..."
        True
    """
    try:
        words = repr(value)
    except (ValueError, RecursionError):  # Python writes no integer of more than 4300 digits
        return f"a huge {type(value).__name__}"
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}..."


def printable(text: str, keep: str = "") -> str:
    """A text with escapes for control characters and for bytes that are no UTF-8, which names of files may have.

    Args:
        keep: characters that stay as they are.

    Example:
        >>> printable("a\\x1b[1m\\n", keep="\\n")
        'a\\\\x1b[1m\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
