"""Atomic files, locks, metrics: a kill, a full disk or a second process at any moment."""

import errno
import json
import math
import os
import signal
import subprocess
import sys

import pytest

from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import MetricsFile, files, read_metrics


def test_write_replaces(tmp_path):
    path = tmp_path / "file"
    for data in (b"old", b"new"):
        files.write(path, data)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    files.write(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(LatticeFlowsError) as error:
        files.write(path, b"new")
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LatticeFlowsError, match=r"cannot write .*: Not a directory"):
        files.make_folder(tmp_path / "file" / "run")
    with pytest.raises(LatticeFlowsError, match=r"cannot write .*: Not a directory"):
        files.write(tmp_path / "file" / "config.toml", b"")


HOLD = """
import sys
from lattice_flows.io import files
with files.locked(files.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_lock_excludes_another_process_until_it_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        try:
            with (
                pytest.raises(LatticeFlowsError, match=rf"is in use by another process \(process {other.pid} on "),
                files.locked(tmp_path),
            ):
                pass
        finally:
            other.send_signal(signal.SIGKILL)
    with files.locked(tmp_path):
        pass


def test_metrics_keep_and_drop(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path, keep=0) as metrics:
        for step in range(1, 6):
            metrics.append({"step": step, "loss": math.inf if step == 2 else 0.1 * step})
        metrics.sync()
    with open(path, "ab") as file:
        file.write(b'{"step": 6, "lo')  # a kill in the middle of a line
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5]
    with MetricsFile(path, keep=3) as metrics:
        metrics.append({"step": 4, "loss": 7.0})
    records = read_metrics(path)
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert [record["loss"] for record in records] == [0.1, None, 0.1 * 3, 7.0]
    plain = [json.loads(line) for line in path.read_text().splitlines()]
    assert [{key: value for key, value in record.items() if key != "crc32"} for record in plain] == records


def test_metrics_on_a_full_disk_have_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    with MetricsFile(path, keep=0) as metrics:
        metrics.append({"step": 1})
        real = metrics._file

        class Full:
            def write(self, data):
                if len(data) < 5:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real.write(data[:5])

            fileno, close = real.fileno, real.close

        metrics._file = Full()
        with pytest.raises(LatticeFlowsError, match=r"cannot write .*metrics.jsonl: No space left on device"):
            metrics.append({"step": 2})
    assert path.read_bytes() == b'{"step": 1, "crc32": 1034584890}\n'
    assert read_metrics(path) == [{"step": 1}]


def test_foreign_metrics(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("step,loss\n1,2\n")
    with pytest.raises(InvalidInput, match="metrics must be one JSON object a line"):
        read_metrics(tmp_path / "metrics.jsonl")
    assert read_metrics(tmp_path / "none.jsonl") == []
