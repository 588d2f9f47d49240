"""Metrics: JSON lines, one object a step, that survive a kill at any moment; and reports, one JSON object a file.

Each line ends in `crc32`, the CRC-32 of the lines before it and of its own text up to there, so that no line can change
or be missing unseen. Lines without are those of earlier versions, and come first. A report ends in that of its content.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lattice_flows.config.text import TEXT_LIMIT, parse_json, read_bytes, shown
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files

_LINE = re.compile(rb'(.*), "crc32": (\d{1,10})}', re.DOTALL)


def read_metrics(path: str | Path, numbers: Sequence[str] = (), maybe: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the records in the file, without a last line that a kill cut short; none where there is no file.

    Args:
        numbers: keys that every record has, with a number.
        maybe: keys that every record has, with a number or null.

    Raises:
        InvalidInput: a line is damaged, no JSON object or without a number, or something else has the name of the file.
    """
    if not os.path.lexists(path):
        return []
    lines = read_bytes(path, "metrics", limit=TEXT_LIMIT).split(b"\n")[:-1]
    _checksum(lines, path)
    records = [parse_json(line, "metrics must be one JSON object a line", path) for line in lines]
    for record in records:
        record.pop("crc32", None)
        for key in (*numbers, *maybe, *(key for key in record if key.endswith("_seconds"))):
            value = record.get(key, "nothing")
            if not (key in maybe if value is None else is_number(value)):
                raise InvalidInput(f"{key} must be a number in every line, got {shown(value)} ({path})")
    return records


def _checksum(lines: list[bytes], path: str | Path) -> int:
    """Return the checksum of lines after they have been compared with theirs."""
    checksum: int | None = None
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line)
        if found:
            checksum = zlib.crc32(found[1], checksum or 0)
        if (found or checksum is not None) and not (found and int(found[2]) == checksum):
            raise InvalidInput(f"line {number} is damaged or missing: restore the file from a copy ({path})")
    return checksum or 0


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as JSON with its checksum, durably, all or nothing; numbers that are not finite become null."""
    content = finite(dict(report))
    files.write(path, (json.dumps({**content, "crc32": _of(content)}, indent=2) + "\n").encode())


def read_report(path: Path) -> dict[str, Any]:
    """Return the report that `write_report` wrote.

    Raises:
        InvalidInput: the file is missing, damaged or something else.
    """
    try:
        content = parse_json(read_bytes(path, "report"), "a JSON object is expected", path)
    except InvalidInput:
        content = {}
    if content.pop("crc32", None) != _of(content):
        raise InvalidInput(f"the report is damaged, or of an earlier version: measure again ({path})")
    return content


def _of(content: Any) -> int:
    return zlib.crc32(json.dumps(content).encode())


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number, and no larger than one that is measured."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def finite(value: Any) -> Any:
    """Replace the numbers in dicts and lists that are not finite by None, since JSON has none."""
    if isinstance(value, dict):
        return {key: finite(own) for key, own in value.items()}
    if isinstance(value, list):
        return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsFile:
    """A file that records are appended to; opening it keeps the first `keep` and drops later ones of a killed process.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for keep in (0, 1):
        ...         with MetricsFile(Path(folder, "metrics.jsonl"), keep) as metrics:
        ...             metrics.append({"step": keep + 1, "loss": math.nan})
        ...             metrics.append({"step": keep + 2, "loss": 0.5})
        ...     read_metrics(Path(folder, "metrics.jsonl"))
        [{'step': 1, 'loss': None}, {'step': 2, 'loss': None}, {'step': 3, 'loss': 0.5}]
    """

    def __init__(self, path: str | Path, keep: int) -> None:
        self._path = Path(path)
        with files.writing(self._path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # closed by __exit__
            self._file.seek(0)
            kept = self._file.read().split(b"\n")[:-1][:keep]
            self._checksum = _checksum(kept, path)
            self._end = sum(len(line) + 1 for line in kept)
            self._file.truncate(self._end)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; a number that is not finite becomes null, since JSON has none.

        Raises:
            LatticeFlowsError: the disk is full; no part of the record is then in the file.
        """
        own = json.dumps(finite(dict(record))).encode()[:-1]
        checksum = zlib.crc32(own, self._checksum)
        line = own + f', "crc32": {checksum}}}\n'.encode()
        with files.writing(self._path):
            try:
                rest = line
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                os.ftruncate(self._file.fileno(), self._end)
                raise
        self._end, self._checksum = self._end + len(line), checksum

    def sync(self) -> None:
        """Make the appended records durable; call this before writing the checkpoint that counts on them."""
        with files.writing(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
