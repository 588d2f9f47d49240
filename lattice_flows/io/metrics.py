"""Metrics: JSON lines, one object a step, that survive a kill at any moment."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lattice_flows.errors import InvalidInput
from lattice_flows.io import files


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The records in the file, up to a last line that a kill cut short; none when there is no file.

    Raises:
        InvalidInput: a line is not JSON.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise InvalidInput(f"metrics must be one JSON object a line: {error} ({path})") from error


class MetricsFile:
    """Appends records; opened at a step to go on from, it drops the records that a killed process wrote beyond it.

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
        """Opens the file, makes it if it is not there, and keeps its first `keep` records."""
        self._path = Path(path)
        with files.writing(self._path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  # closed by __exit__
            self._file.seek(0)
            kept = self._file.read().split(b"\n")[:-1][:keep]
            self._end = sum(len(line) + 1 for line in kept)
            self._file.truncate(self._end)

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one record; a number that is not finite becomes null, since JSON has none.

        Raises:
            LatticeFlowsError: the disk is full; the record is then not in the file, nor a part of it.
        """
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in record.items()
        }
        line = json.dumps(finite).encode() + b"\n"
        with files.writing(self._path):
            try:
                written = 0
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                os.ftruncate(self._file.fileno(), self._end)
                raise
        self._end += len(line)

    def sync(self) -> None:
        """Makes what was appended durable; to be called before the checkpoint that counts on it."""
        with files.writing(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
