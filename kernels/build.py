"""Compiles the C++ kernels on first use and keeps them in a cache that concurrent processes and mixed CPUs can share.

An op is compiled for one precision, and where it says so for one N, at a time: what a run does not use costs nothing.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

KERNELS = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
REALS = {torch.float32: "float", torch.float64: "double", torch.complex64: "float", torch.complex128: "double"}
REMEDY = "ops run their PyTorch references, which are slower"


class Unavailable(Exception):
    """Why there is no compiled kernel, in words."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: $LATTICE_FLOWS_CACHE, else lattice_flows in the user's cache folder."""
    if folder := os.environ.get("LATTICE_FLOWS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lattice_flows"


@functools.cache
def native(op: str, dtype: torch.dtype, n: int | None = None) -> ctypes.CDLL | None:
    """The compiled kernel of an op, or None, with one warning for all of them, where it cannot be had.

    Args:
        op: the name of its folder.
        dtype: float32 or float64, or their complex partners.
        n: the size of the matrices, where the kernel is compiled for each.
    """
    try:
        return _library(op, dtype, n)
    except Unavailable as reason:
        _warn(str(reason))
        return None


@functools.cache
def _warn(reason: str) -> None:
    log.warning("no compiled kernels: %s; %s", reason, REMEDY)


def call(function: Any, *arguments: torch.Tensor | int) -> int:
    """Calls a function of a kernel, all of whose arguments are pointers or int64; what it returns is an int64."""
    function.restype = ctypes.c_int64
    return function(
        *(ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_int64(a) for a in arguments)
    )


def _library(op: str, dtype: torch.dtype, n: int | None) -> ctypes.CDLL:
    compiler = find_compiler()
    source = KERNELS / op / "cpu.cpp"
    flags = [*FLAGS, f"-DREAL={REALS[dtype]}", *([] if n is None else [f"-DSIZE={n}"]), f"-I{KERNELS / 'include'}"]
    path = cache_folder() / f"{op}-{REALS[dtype]}{n or ''}-{_key(source, flags, compiler)}.so"
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # a file that a full disk cut short, say: it is made anew
            pass
    _compile([compiler, *flags, str(source)], path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"{path} does not load ({error})") from error


@functools.cache
def find_compiler() -> str:
    """The path of the C++ compiler: $CXX, or else c++, g++ or clang++, whichever is there first.

    Raises:
        Unavailable: there is none, or LATTICE_FLOWS_KERNELS=reference asks for none.
    """
    if os.environ.get("LATTICE_FLOWS_KERNELS") == "reference":
        raise Unavailable("LATTICE_FLOWS_KERNELS=reference is set")
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise Unavailable(f"no C++ compiler ({', '.join(names)}); install g++ or point CXX to one")


@functools.cache
def _machine(compiler: str) -> bytes:
    """What a compiled file depends on besides its source: the compiler, and what -march=native means here."""
    version = subprocess.run([compiler, "--version"], capture_output=True).stdout
    cpu = platform.machine().encode()
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        cpu += b"".join(sorted({line for line in lines if line.startswith((b"flags", b"Features", b"model name"))}))
    except OSError:
        cpu += platform.processor().encode()
    return version + cpu


def _key(source: Path, flags: list[str], compiler: str) -> str:
    digest = hashlib.sha256(_machine(compiler))
    for path in (source, *sorted((KERNELS / "include").glob("*.hpp"))):
        digest.update(path.read_bytes())
    digest.update("\0".join(flag for flag in flags if not flag.startswith("-I")).encode())
    return digest.hexdigest()[:20]


def _compile(command: list[str], path: Path) -> None:
    """To a name of its own, then renamed: processes that compile the same file at once do not see each other's."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".so", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise Unavailable(
            f"cannot write {path.parent} ({error.strerror}); point LATTICE_FLOWS_CACHE to a folder that can be written"
        ) from error
    try:
        result = subprocess.run([*command, "-o", partial], capture_output=True, text=True)
        if result.returncode:
            complaint = next(iter(result.stderr.strip().splitlines()), f"exit code {result.returncode}")
            raise Unavailable(f"{command[0]} failed ({complaint}); point CXX to a compiler of C++17, such as g++ >= 9")
        os.replace(partial, path)
    except OSError as error:
        raise Unavailable(f"cannot compile {path.name} ({error.strerror}); free some disk space") from error
    finally:
        Path(partial).unlink(missing_ok=True)
