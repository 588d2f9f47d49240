"""A convenience is no condition of the answer: no home, no name, no space, nothing writable, no Greek, no output."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh
import pytest

from lattice_flows import cli, runs
from lattice_flows.config import Config

CONFIG = Config.of(
    lattice={"group": "U(1)", "extents": (4, 4)},
    action={"beta": 1.0},
    flow={"layers": 2, "hidden": (4,), "bins": 4},
    training={"steps": 2, "batch": 8, "device": "cpu"},
    sampling={"n": 20},
)
MAIN = "import sys; from lattice_flows import cli; sys.exit(cli.main())"
# takes from root what it may do beyond the permissions of files: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
POWERLESS = """
import ctypes
header, powers = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capget(header, powers) == 0
for which in range(2):  # effective and permitted
    powers[which] &= ~0b110
assert ctypes.CDLL(None).capset(header, powers) == 0
"""
NAMELESS = """
import os, pwd
def none(*_): raise KeyError("no such user")
pwd.getpwuid = pwd.getpwnam = none
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that is trained and sampled, in a folder with Greek letters."""
    folder = tmp_path_factory.mktemp("runs") / "β=1"
    runs.train_run(CONFIG, folder)
    runs.sample_run(folder)
    return folder


def command(*words, code="", env=(), without=()):
    """A command in a process of its own: exit code, output, complaints; none of these has a traceback."""
    variables = {**os.environ, **dict(env)}
    variables = {name: value for name, value in variables.items() if name not in without}
    return quiet(fresh.run(code + MAIN, *words, env=variables))


def started(*words, code="", env=(), without=(), shell=""):
    """The same of a Python that is started by a shell."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **dict(env)}
    line = ["bash", "-c", f'exec "$@" {shell}', "bash", sys.executable, "-c", code + MAIN, *map(str, words)]
    variables = {name: value for name, value in variables.items() if name not in without}
    return quiet(subprocess.run(line, capture_output=True, env=variables, timeout=100, encoding="utf-8"))


def quiet(done):
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_user_without_home_and_name(run):
    """No kernels are compiled, and matplotlib warns where it puts its files."""
    nobody = functools.partial(
        started, code=NAMELESS, without=("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "LATTICE_FLOWS_CACHE")
    )
    code, out, error = nobody("measure", run)
    assert (code, "plaquette" in out) == (0, True), error
    assert error.count("\n") <= 1
    code, _, error = nobody("submit", run / "config.toml", "--dry-run")
    assert (code, error.count("\n") <= 1) == (0, True), error
    code, out, error = nobody("kernels")
    assert (code, error) == (0, "")
    assert "no home folder to keep them in; point LATTICE_FLOWS_CACHE to a folder" in out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="root is bound by permissions on Linux alone")
def test_a_run_of_somebody_else(run, tmp_path):
    """Measured, compared, shown, exported and sampled from, where nothing in it can be written."""
    runs.measure_run(run)  # whose series are kept
    copy = tmp_path / "theirs"
    subprocess.run(["cp", "-r", run, copy], check=True)
    for name in ("report.json", "measurements.h5"):
        (copy / name).unlink(missing_ok=True)
    for path in (copy, *copy.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    theirs = functools.partial(command, code=POWERLESS)
    code, out, error = theirs("measure", copy)
    assert (code, "plaquette" in out) == (0, True), error
    assert re.fullmatch(r"lattice-flows: \S+ cannot be written to: the results are shown, and kept .* copy .*\n", error)
    code, out, error = theirs("compare", copy, run)
    assert (code, error.count("\n"), out.count("theirs")) == (0, 1, 6), error
    code, out, error = theirs("show", copy)
    assert (code, "2 of 2 steps" in out, error.count("\n")) == (0, True, 1), error
    assert theirs("status", copy)[::2] == (0, "")
    assert theirs("export", copy, tmp_path / "x.safetensors", "-n", "20")[0] == 0
    assert theirs("sample", "--model", copy, "--out", tmp_path / "mine")[0] == 0
    code, _, error = theirs("sample", copy, "-n", "30")
    assert (code, error.count("\n")) == (2, 1)
    assert "cannot write" in error
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before
    copy.chmod(0o755)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="root is bound by permissions on Linux alone")
def test_a_lock_of_another_user(run, tmp_path):
    """In a folder that several users write to."""
    copy = tmp_path / "shared"
    subprocess.run(["cp", "-r", run, copy], check=True)
    (copy / ".lock").chmod(0o444)
    code, out, error = command("measure", copy, code=POWERLESS)
    assert (code, "plaquette" in out, error) == (0, True, "")


def test_figures_that_cannot_be_written(run, tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", run, copy], check=True)
    shutil.rmtree(copy / "figures", ignore_errors=True)
    (copy / "figures").write_text("no folder")
    for words in (("measure", copy), ("show", copy)):
        code, out, error = command(*words)
        assert (code, "plaquette" in out) == (0, True)
        assert re.search(r"^lattice-flows: no figures: cannot write .*; they need space in .*\n$", error)
    code, _, error = command("show", copy, code="import sys; sys.modules['matplotlib.figure'] = None\n")
    assert (code, error.count("\n"), "no figures" in error) == (0, 1, True)


def test_a_report_that_cannot_be_written_is_shown(run):
    runs.measure_run(run)  # whose series are kept
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    code, out, error = started("measure", run, code=limit)  # whose output goes to a pipe
    assert (code, "plaquette" in out) == (2, True)
    assert re.fullmatch(r"lattice-flows: error: cannot write \S+report.txt: File too large\n", error)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_without_greek(encoding, run):
    code, out, error = started("status", run, env={"PYTHONIOENCODING": encoding})
    assert (code, error) == (0, "")
    assert ("β=1" if encoding == "utf-8" else "\\u03b2=1") in out


def test_a_locale_without_greek(run):
    for words in (("status", run), ("show", run / "none")):
        code, out, error = started(*words, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
        assert (code, bool(out)) in ((0, True), (2, False))
        assert error.count("\n") == (code == 2)


@pytest.mark.parametrize(
    ("shell", "code", "error"),
    [
        ("<&- >&- 2>&-", 0, ""),
        ("| true", 0, ""),
        (">/dev/full", 2, "lattice-flows: error: cannot write the output: No space left on device\n"),
    ],
)
def test_output_that_goes_nowhere(shell, code, error, run):
    assert started("status", run, shell=shell)[::2] == (code, error)


def test_a_folder_that_is_gone(run, tmp_path, monkeypatch, capsys):
    """The current one: commands that are told where things are need it for nothing."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (("status", run), ("show", run), ("measure", run)):
        assert cli.main(list(map(str, words))) == 0
    assert capsys.readouterr().err == ""


def test_no_place_for_temporary_files(tmp_path):
    """The compiler has that of the cache."""
    code, out, _ = command("kernels", env={"LATTICE_FLOWS_CACHE": str(tmp_path / "cache"), "TMPDIR": "/nowhere"})
    assert (code, "compiled by" in out) == (0, True)
    assert sorted(path.suffix for path in Path(tmp_path / "cache").iterdir()) == ["", ".so"]
