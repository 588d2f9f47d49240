"""Files that are either whole or not there, and folders with one writer at a time."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lattice_flows.errors import InvalidInput, LatticeFlowsError

log = logging.getLogger(__name__)


def check_format(
    what: str, found: tuple, expected: tuple, path: str | Path, other: str = "file is from another program"
) -> None:
    """Raise InvalidInput unless a file has the expected format and version."""
    if found[0] != expected[0]:
        raise InvalidInput(f"{what} of lattice_flows is expected, this {other} ({path})")
    if found[1] != expected[1]:
        raise InvalidInput(
            f"{what} of version {expected[1]} is expected, got version {found[1]}: "
            f"use the lattice_flows that wrote it ({path})"
        )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError (full disk, no permission, ...) or NUL in a name into a LatticeFlowsError that names `path`."""
    if "\0" in str(path):
        raise LatticeFlowsError(f"cannot write {path}: no file has such a name")
    try:
        yield
    except OSError as error:
        raise LatticeFlowsError(f"cannot write {path}: {error.strerror or error}") from error


def write(path: Path, data: bytes | memoryview) -> None:
    """Replace a file durably, all or nothing; as `write_parts`."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Replace a file durably, all or nothing, with parts that are made one after the other.

    A process that is killed leaves a partial file under a fixed name, and the next writer overwrites it. Writers of one
    path must exclude each other (`locked`).

    Raises:
        LatticeFlowsError: the disk is full or the folder not writable; the old file is then still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            partial.unlink(missing_ok=True)
            with open(partial, "wb") as file:
                file.writelines(parts)
            sync(partial)
            os.replace(partial, path)
            sync(path.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock", *, wait: bool = False) -> Iterator[None]:
    """Hold the folder for this process; the system releases it however the process ends.

    Args:
        name: of the file that is locked.
        wait: for another process that holds it, instead of an error.

    Raises:
        LatticeFlowsError: another process holds it.
    """
    with writing(folder):
        try:
            lock = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # of another user; in a folder that is not writable there is none
            if not os.access(folder, os.W_OK):
                raise
            lock = os.open(folder / name, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(lock, 200).decode(errors="replace") or "unknown"
            raise LatticeFlowsError(
                f"{folder} is in use by another process ({holder}): wait for it or take another folder"
            ) from None
        except OSError as error:  # some network file systems have no locks
            log.warning("%s cannot be locked (%s): use it from one process at a time", folder, error.strerror)
        with contextlib.suppress(OSError):  # the name of the holder is a courtesy to others
            os.truncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {os.uname().nodename}".encode())
        yield
    finally:
        os.close(lock)
