"""How kernels get compiled: the cache, processes that race for it, what can be in the way, and what is left alone."""

import os
import re
import stat
import threading

import pytest
import torch
from fresh import Fresh

from lattice_flows import kernels
from lattice_flows.kernels import build

# exp on SU(2), the kernel that compiles fastest: 0 where it agrees with the reference
USE = """
import torch
from lattice_flows.kernels.algebra_exp import algebra_exp, reference
x = torch.randn(50, 2, 2, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
x = reference.project(x)
print(float((algebra_exp(x) - reference.algebra_exp(x)).abs().max()) < 1e-5)
"""


def start(cache, code=USE, **environment):
    return Fresh(code, env={**os.environ, "LATTICE_FLOWS_CACHE": str(cache), **environment})


def result(process):
    done = process.result()
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def right(cache, **environment):
    """Runs USE, which has to be right; returns what it says on stderr."""
    output, error = result(start(cache, **environment))
    assert output == "True\n"
    return error


def compiled(cache):
    """The one compiled file; there must be nothing else but the lock."""
    (file,) = set(cache.iterdir()) - {cache / ".lock"}
    assert re.fullmatch(r"algebra_exp-float2-[0-9a-f]{20}\.so", file.name)
    return file


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache with the kernel in it."""
    cache = tmp_path_factory.mktemp("cache")
    assert right(cache) == ""
    return cache


@pytest.fixture
def counting(tmp_path):
    """A compiler that leaves a line in a file each time it compiles; and the file."""
    script, count = tmp_path / "counting", tmp_path / "count"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo >> {count}\nexec c++ "$@"\n')
    script.chmod(0o755)
    return str(script), count


def test_compiles_once(warm):
    before = compiled(warm).stat()
    assert right(warm) == ""
    after = compiled(warm).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert stat.S_IMODE(after.st_mode) & 0o022 == 0


def test_four_processes_on_a_cold_cache(tmp_path, counting):
    """They wait for the first of them; each gets the right result."""
    compiler, count = counting
    cache = tmp_path / "cold" / "cache"
    for process in [start(cache, CXX=compiler) for _ in range(4)]:
        assert result(process) == ("True\n", "")
    compiled(cache)
    assert count.read_text() == "\n"


def test_where_locks_are_not_supported_all_compile(tmp_path, counting):
    compiler, count = counting
    cache = tmp_path / "cache"
    no_locks = "import fcntl\ndef refuse(*_): raise OSError(38, 'no locks')\nfcntl.lockf = refuse\n"
    for process in [start(cache, no_locks + USE, CXX=compiler) for _ in range(2)]:
        assert result(process) == ("True\n", "")
    compiled(cache)
    assert 1 <= len(count.read_text()) <= 2


@pytest.mark.parametrize("damage", ["empty", "half", "other bytes", "not a library"])
def test_damaged_file_is_made_anew(damage, tmp_path, monkeypatch):
    """Half a library may load, and end the process at the first call."""
    monkeypatch.setenv("LATTICE_FLOWS_CACHE", str(tmp_path))
    build.probe("algebra_exp", torch.float32, 2)
    file = compiled(tmp_path)
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.unlink()  # what is loaded already keeps its own
    file.write_bytes(
        {
            "empty": b"",
            "half": whole[:middle],
            "other bytes": whole[:middle] + b"?" * 64 + whole[middle + 64 :],
            "not a library": b"hello" * 100,
        }[damage]
    )
    build.probe("algebra_exp", torch.float32, 2)
    assert len(compiled(tmp_path).read_bytes()) == len(whole)


def obstacles(folder):
    """Of everything that can be in the way: the environment, and what the warning says about it."""
    (folder / "file").write_text("")
    broken = folder / "broken"
    broken.write_text("not a program")
    broken.chmod(0o755)
    return {
        "no compiler": (
            {"PATH": "/nowhere", "CXX": ""},
            r"no C\+\+ compiler \(c\+\+, g\+\+, clang\+\+\); install g\+\+",
        ),
        "CXX nowhere": ({"CXX": "/nowhere/c++"}, r"no C\+\+ compiler \(/nowhere/c\+\+\); .* point CXX to one"),
        "failing": ({"CXX": "false"}, r"\S+/false failed \(exit code 1\); point CXX to a compiler of C\+\+17"),
        "complaining": ({"CXX": "c++ --no-such-option"}, r"\S+c\+\+ failed \(.*no-such-option.*\); point CXX to"),
        "not a program": ({"CXX": str(broken)}, r"cannot run \S+/broken \(Exec format error\); point CXX to"),
        "cache": (
            {"LATTICE_FLOWS_CACHE": str(folder / "file" / "cache")},
            r"cannot write \S+/file/cache \(Not a directory\); point LATTICE_FLOWS_CACHE to a folder",
        ),
    }


PATCH = """
import ctypes, os, pwd
class Refusing(ctypes.CDLL):
    def __init__(self, path):
        raise OSError(f"{path}: failed to map segment from shared object")
class Noexec:
    f_flag = os.ST_NOEXEC
def nobody(*_):
    raise KeyError("no such user")
"""


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (
            "ctypes.CDLL, os.statvfs = Refusing, lambda path: Noexec",
            r"nothing in \S+ may be executed; point LATTICE_FLOWS_CACHE to another folder",
        ),
        (
            "ctypes.CDLL = Refusing",
            r"those in \S+ do not load \(failed to map segment .*\); remove them",
        ),
        (
            "pwd.getpwuid = nobody; [os.environ.pop(name, 0) for name in ('HOME', 'XDG_CACHE_HOME')]",
            "no home folder to keep them in; point LATTICE_FLOWS_CACHE to a folder",
        ),
    ],
)
def test_caches_that_cannot_be_used_give_one_warning_and_the_reference(patch, words, tmp_path):
    """On a file system that executes nothing, and for a user without a home."""
    cache = "" if "HOME" in patch else str(tmp_path)
    code = f"import torch\n{PATCH}{patch}\n{USE}print(float((algebra_exp(x.to(torch.complex128))).abs().max()) < 2)"
    output, error = result(start(cache, code))
    assert output == "True\n" * 2
    assert re.fullmatch(f"no compiled kernels: {words}.*; ops run their PyTorch references, which are slower\n", error)


NAMES = ["no compiler", "CXX nowhere", "failing", "complaining", "not a program", "cache"]


@pytest.mark.parametrize("name", NAMES)
def test_obstacles_give_one_warning_and_the_reference(name, tmp_path):
    """One line for all ops and precisions; the exit code is 0."""
    environment, words = obstacles(tmp_path)[name]
    others = (
        "algebra_exp(x.to(torch.complex128))\nfrom lattice_flows.kernels import spectral_power\nspectral_power(x, 1)"
    )
    cache = environment.pop("LATTICE_FLOWS_CACHE", tmp_path / "cache")
    identity = "\nx = torch.eye(2, dtype=torch.complex64)[None]\n"
    output, error = result(start(cache, USE + identity + others, **environment))
    assert output == "True\n"
    assert error.count("\n") == 1, error
    assert re.match(f"no compiled kernels: {words}.*; ops run their PyTorch references, which are slower$", error)
    assert not list(tmp_path.rglob("*.so"))


def test_switched_off(tmp_path):
    """Nothing is compiled, and whoever asked for that is not warned of it."""
    assert right(tmp_path, LATTICE_FLOWS_KERNELS="reference") == ""
    assert not list(tmp_path.iterdir())
    process = start(tmp_path, LATTICE_FLOWS_KERNELS="fast")
    error = process.result().stderr
    assert "InvalidInput: LATTICE_FLOWS_KERNELS must be 'reference' or unset, got 'fast'" in error


def test_another_compiler_with_arguments(tmp_path):
    assert right(tmp_path, CXX="c++ -O1") == ""
    compiled(tmp_path)


def test_key(tmp_path, monkeypatch):
    """It changes with the source, every header, the flags, the compiler and the CPU; not with the folder."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        (folder / "op").mkdir(parents=True)
        (folder / "include").mkdir()
        (folder / "op" / "cpu.cpp").write_text("source")
        (folder / "include" / "a.hpp").write_text("header")

    def key(folder=folders[0], flags=("-O3",), compiler=("c++",)):
        monkeypatch.setattr(build, "KERNELS", folder)
        return build._key(folder / "op" / "cpu.cpp", [*flags, f"-I{folder / 'include'}"], compiler)

    plain = key()
    assert key() == plain
    assert key(folders[1]) == plain
    seen = [plain, key(flags=("-O2",)), key(flags=("-O3", "-DSIZE=2")), key(compiler=("c++", "-m64"))]
    (folders[1] / "op" / "cpu.cpp").write_text("other source")
    seen.append(key(folders[1]))
    (folders[1] / "include" / "a.hpp").write_text("other header")
    seen.append(key(folders[1]))
    with monkeypatch.context() as patch:
        patch.setattr(build, "_version", lambda compiler: b"another version")
        seen.append(key())
    for cpu in (b"flags: avx2", b"flags: avx2 avx512f"):
        monkeypatch.setattr(build, "_machine", lambda cpu=cpu: cpu)
        seen.append(key())
    assert len(set(seen)) == len(seen)


def test_floating_point_environment_is_untouched():
    """A library linked with -ffast-math sets flush-to-zero for the whole process."""
    assert not [flag for flag in build.FLAGS if "fast-math" in flag or "unsafe-math" in flag]
    kernels.algebra_exp(torch.zeros(20, 2, 2, dtype=torch.complex64))
    assert build.native("algebra_exp", torch.complex64, 2) is not None
    survivors = []

    def multiply():
        survivors.append(bool(torch.tensor(1e-40) * 1 != 0))

    multiply()
    thread = threading.Thread(target=multiply)
    thread.start()
    thread.join()
    assert survivors == [True, True]
