"""The C++ kernels, compiled on first use, one precision and one N at a time, and kept in a cache.

Concurrent processes and mixed CPUs can share the cache.
"""

import contextlib
import ctypes
import functools
import hashlib
import itertools
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from lattice_flows.errors import InvalidInput

try:
    import fcntl
except ImportError:  # not a POSIX system: processes that meet on a cold cache then all compile
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

KERNELS = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
REALS = {torch.float32: "float", torch.float64: "double", torch.complex64: "float", torch.complex128: "double"}
# Of a file in the cache, the SHA-256 of what stands before it: a file cut short can load, and then end the process.
SEAL = 32
# Seconds to wait for another process that compiles the same file; the largest take well under a minute.
PATIENCE = 300.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


class Unavailable(Exception):
    """Why there is no compiled kernel, in words."""


def cache_folder() -> Path:
    """$LATTICE_FLOWS_CACHE, else lattice_flows in the user's cache folder; raises Unavailable without a home."""
    if folder := os.environ.get("LATTICE_FLOWS_CACHE"):
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lattice_flows"
    except RuntimeError as error:
        raise Unavailable("no home folder to keep them in; point LATTICE_FLOWS_CACHE to a folder") from error


@functools.cache
def native(op: str, dtype: torch.dtype, n: int | None = None) -> ctypes.CDLL | None:
    """The compiled kernel of an op, named by its folder, for N where it is compiled for each.

    Where it cannot be had, None, with one warning for all of them; LATTICE_FLOWS_KERNELS=reference in the environment
    asks for None without a warning.
    """
    if switched_off():
        return None
    try:
        return _library(op, dtype, n)
    except Unavailable as reason:
        _warn(str(reason))
        return None


def switched_off() -> bool:
    """Whether the environment asks for the references; raises InvalidInput where it asks for anything else."""
    wanted = os.environ.get("LATTICE_FLOWS_KERNELS", "")
    if wanted not in ("", "reference"):
        raise InvalidInput(f"LATTICE_FLOWS_KERNELS must be 'reference' or unset, got {wanted!r}")
    return wanted == "reference"


def probe(op: str, dtype: torch.dtype, n: int | None = None) -> str:
    """Load a kernel, compiled or from the cache, and name the compiler and its version; raises Unavailable."""
    _library(op, dtype, n)
    compiler = find_compiler()
    return f"{shlex.join(compiler)}: {next(iter(_version(compiler).decode().splitlines()), 'unknown version')}"


@functools.cache
def _warn(reason: str) -> None:
    log.warning("no compiled kernels: %s; ops run their PyTorch references, which are slower", reason)


def call(function: Any, *arguments: torch.Tensor | int) -> int:
    """Calls a function of a kernel, all of whose arguments are pointers or int64; what it returns is an int64."""
    if function.argtypes is None:
        function.restype = ctypes.c_int64
        function.argtypes = [ctypes.c_void_p if isinstance(a, torch.Tensor) else ctypes.c_int64 for a in arguments]
    return function(*[a if isinstance(a, int) else a.data_ptr() for a in arguments])


def _library(op: str, dtype: torch.dtype, n: int | None) -> ctypes.CDLL:
    compiler = find_compiler()
    source = KERNELS / op / "cpu.cpp"
    flags = [*FLAGS, f"-DREAL={REALS[dtype]}", *([] if n is None else [f"-DSIZE={n}"]), f"-I{KERNELS / 'include'}"]
    path = cache_folder() / f"{op}-{REALS[dtype]}{n or ''}-{_key(source, flags, compiler)}.so"
    if not _whole(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _one_at_a_time(path):
                if not _whole(path):  # another process may have made it meanwhile
                    # options of $CXX, such as -march=x86-64-v3, go before ours
                    options = list(itertools.dropwhile(lambda word: not word.startswith("-"), compiler))
                    program = compiler[: len(compiler) - len(options)]
                    _compile([*program, *flags, *options, str(source)], path)
        except OSError as error:
            raise Unavailable(
                f"cannot write {path.parent} ({error.strerror}); point LATTICE_FLOWS_CACHE to a folder with free space "
                "that can be written"
            ) from error
    _keep_freed_memory()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        if os.statvfs(path.parent).f_flag & os.ST_NOEXEC:
            reason = f"nothing in {path.parent} may be executed; point LATTICE_FLOWS_CACHE to another folder"
        else:
            reason = str(error).removeprefix(f"{path}: ")
            reason = f"those in {path.parent} do not load ({reason}); remove them, or point CXX to another compiler"
        raise Unavailable(reason) from error


@functools.cache
def _keep_freed_memory() -> None:
    """Lets glibc keep the memory of tensors that are gone, unless the environment says what it is to do.

    It would give it back to the system, and take it again page by page, with every step of a chain or of a training.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    if mallopt := getattr(ctypes.pythonapi, "mallopt", None):  # of glibc alone, in this process
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(M_TRIM_THRESHOLD, 256 << 20)


@functools.cache
def find_compiler() -> tuple[str, ...]:
    """The C++ compiler: $CXX, whose options override ours, or else c++, g++ or clang++; raises Unavailable."""
    given = shlex.split(os.environ.get("CXX", ""))
    names = given[:1] or ["c++", "g++", "clang++"]
    for name in names:
        if found := shutil.which(name):
            return found, *given[1:]
    raise Unavailable(f"no C++ compiler ({', '.join(names)}); install g++ or point CXX to one")


def _run(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    try:
        # in a group of its own: Ctrl-C stops a run after its step, and must not cost that step the kernel
        return subprocess.run(command, capture_output=True, process_group=0, env={**os.environ, **environment})
    except OSError as error:
        raise Unavailable(f"cannot run {command[0]} ({error.strerror}); point CXX to a C++ compiler") from error


@functools.cache
def _version(compiler: tuple[str, ...]) -> bytes:
    return _run([*compiler, "--version"]).stdout


@functools.cache
def _machine() -> bytes:
    """What -march=native means here."""
    cpu = platform.machine().encode()
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        cpu += b"".join(sorted({line for line in lines if line.startswith((b"flags", b"Features", b"model name"))}))
    except OSError:
        cpu += platform.processor().encode()
    return cpu


def _key(source: Path, flags: Sequence[str], compiler: tuple[str, ...]) -> str:
    digest = hashlib.sha256(_version(compiler) + _machine())
    for path in (source, *sorted((KERNELS / "include").glob("*.hpp"))):
        digest.update(path.read_bytes())
    digest.update("\0".join(flag for flag in (*compiler[1:], *flags) if not flag.startswith("-I")).encode())
    return digest.hexdigest()[:20]


def _whole(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-SEAL]).digest() == content[-SEAL:]


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait for another process that makes the file, where there are locks; the system frees those of the dead."""
    with open(path.parent / ".lock", "ab") as file:
        place = int(path.stem.rsplit("-", 1)[1][:8], 16)  # every file has a byte of the one lock file
        deadline = time.monotonic() + PATIENCE
        while fcntl and time.monotonic() < deadline:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                break
            except (BlockingIOError, PermissionError):  # held by another: systems differ in which
                time.sleep(0.05)
            except OSError:
                break
        yield


def _compile(command: Sequence[str], path: Path) -> None:
    """In a folder of its own, then moved: nobody sees half a file, with or without locks."""
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        result = _run([*command, "-o", str(partial)], TMPDIR=folder)  # the usual one may not be writable
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines()
            complaint = next((line for line in lines if "error" in line), lines[0] if lines else "").strip()
            raise Unavailable(
                f"{command[0]} failed ({complaint or f'exit code {result.returncode}'}); point CXX to a compiler of "
                "C++17, such as g++ >= 9"
            )
        content = partial.read_bytes()
        partial.write_bytes(content + hashlib.sha256(content).digest())
        partial.replace(path)
