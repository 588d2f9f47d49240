"""Metrics: JSON lines, one object a step, that survive a kill at any moment."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lattice_flows.config.text import TEXT_LIMIT, parse_json, read_bytes, shown
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files


def read_metrics(path: str | Path, numbers: Sequence[str] = (), maybe: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the records in the file, without a last line that a kill cut short; none where there is no file.

    Args:
        numbers: keys that every record has, with a number.
        maybe: keys that every record has, with a number or null.

    Raises:
        InvalidInput: a line is no JSON object or lacks a number, or something else has the name of the file.
    """
    if not os.path.lexists(path):
        return []
    lines = read_bytes(path, "metrics", limit=TEXT_LIMIT).split(b"\n")[:-1]
    records = [parse_json(line, "metrics must be one JSON object a line", path) for line in lines]
    for record in records:
        for key in (*numbers, *maybe, *(key for key in record if key.endswith("_seconds"))):
            value = record.get(key, "nothing")
            if not (key in maybe if value is None else is_number(value)):
                raise InvalidInput(f"{key} must be a number in every line, got {shown(value)} ({path})")
    return records


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
            self._end = sum(len(line) + 1 for line in kept)
            self._file.truncate(self._end)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; a number that is not finite becomes null, since JSON has none.

        Raises:
            LatticeFlowsError: the disk is full; no part of the record is then in the file.
        """
        line = json.dumps(finite(dict(record))).encode() + b"\n"
        with files.writing(self._path):
            try:
                rest = line
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                os.ftruncate(self._file.fileno(), self._end)
                raise
        self._end += len(line)

    def sync(self) -> None:
        """Make the appended records durable; call this before writing the checkpoint that counts on them."""
        with files.writing(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
