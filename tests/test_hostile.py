"""Hostile input: every count is bounded before anything is allocated, and every file before it is read."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from command_line import fails

from lattice_flows import cli
from lattice_flows.cluster.jobs import read_jobs, tasks
from lattice_flows.config import Config, load, loads
from lattice_flows.config.text import parse_json, parse_toml, read_bytes, shown
from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_metrics
from lattice_flows.lattice import Lattice

CONFIG = """
[lattice]
group = "U(1)"
extents = [4, 4]
[action]
beta = 1.0
[flow]
layers = 2
hidden = [4]
bins = 4
[training]
steps = 2
batch = 8
device = "cpu"
[sampling]
n = 20
"""
HUGE = "9" * 5000


@pytest.fixture(autouse=True)
def _bounded():
    """No test takes 30 s or the memory that the input asks for."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a hang"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG)
    return "config.toml"


def no_files(folder):
    """Names of things that are no regular files, and how an error calls them."""
    os.mkfifo(folder / "fifo")
    os.symlink("loop", folder / "loop")
    os.mkdir(folder / "folder")
    device = "a regular file is expected, this is a device or pipe"
    return {
        "/dev/zero": device,
        "fifo": device,
        "loop": "Too many levels of symbolic links",
        "folder": "Is a directory",
        "a\0b": "no file has such a name",
        "x" * 5000: "File name too long",
    }


def test_what_is_no_file_is_no_config_and_no_site_profile(config, tmp_path, capsys):
    for name, words in no_files(tmp_path).items():
        assert words in fails(capsys, "train", name, "--out", "run")
        assert words in fails(capsys, "submit", name, "--dry-run")
        assert words in fails(capsys, "submit", config, "--site", name, "--dry-run")


def test_what_is_no_file_is_no_part_of_a_run(config, tmp_path, capsys):
    """Config, metrics, checkpoint, model, report and jobs of a folder from somebody else."""
    cli.main(["train", config, "--out", "run"])
    cli.main(["sample", "run"])
    cli.main(["measure", "run"])
    capsys.readouterr()
    device = "a regular file is expected, this is a device or pipe"
    commands = {
        "report.txt": ("show", "run"),
        "metrics.jsonl": ("show", "run"),
        "jobs.jsonl": ("status", "run"),
        "checkpoint.pt": ("sample", "run", "-n", "30"),
        "model.safetensors": ("show", "run"),
        "config.toml": ("measure", "run"),
    }
    for name, words in commands.items():
        path = tmp_path / "run" / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        assert device in fails(capsys, *words), name
        path.unlink()


def test_files_beyond_the_limit_are_not_read(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(2**40)
    for read in (read_metrics, load, lambda path: read_bytes(path, "report")):
        with pytest.raises(InvalidInput, match=r"at most [\d,]+ bytes are expected, got 1,099,511,627,776"):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 1000 + "]" * 1000,
        "a = " + "{b = " * 5000,
        "a" + ".a" * 400_000 + " = 1",
        "[" + "a." * 200_000 + "a]",
        "a = 1\n" * 2,
        "#" * 2**21,
        f"a = {HUGE}",
        "\ufeffa = 1",
        "a = '\x7f'",
    ],
)
def test_endless_and_deep_toml_is_one_line(text):
    tracemalloc.start()
    start = time.process_time()
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"a config must be TOML.*\(file\)") as error:
            loads(text, "file")
        assert len(str(error.value)) < 500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**28
    assert time.process_time() - start < 20


def test_dotted_keys_and_long_lists_of_numbers_are_read():
    assert parse_toml("a.b.c = 1", "config", "file") == {"a": {"b": {"c": 1}}}
    assert len(parse_toml(f"a = {[0.5] * 3000}", "config", "file")["a"]) == 3000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, f'{{"a": {HUGE}}}', "[]", "3", "null", "", "\0"])
def test_endless_and_deep_json_is_one_line(text, tmp_path):
    with pytest.raises(InvalidInput, match=r"^an object is expected.*\(file\)$"):
        parse_json(text, "an object is expected", "file")
    (tmp_path / "metrics.jsonl").write_text(f"{text}\n")
    with pytest.raises(InvalidInput, match="metrics must be one JSON object a line"):
        read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"flow": {"layers": 100_000_000}}, "layers must be <= 1,000, got 100000000"),
        ({"flow": {"layers": 1000, "hidden": [10_000] * 2}}, r"would have more than 900,\d+,000,000 weights"),
        ({"flow": {"hidden": [8] * 21}}, "at most 20 widths up to 10,000"),
        ({"flow": {"hidden": [10**6]}}, "at most 20 widths up to 10,000"),
        ({"flow": {"kernel_size": 10**9 + 1}}, "kernel_size must be odd, from 1 to 99"),
        ({"flow": {"bins": 10**9}}, "bins must be <= 1,000"),
        ({"flow": {"architecture": "hierarchical", "levels": ["c" * 101]}}, "at most 100 designs of at most 100"),
        ({"flow": {"architecture": "hierarchical", "levels": ["c"] * 101}}, "at most 100 designs of at most 100"),
        ({"flow": {"architecture": "hierarchical", "hidden": [10_000] * 2}}, "weights, and may have 100,000,000"),
        ({"lattice": {"extents": [2**32, 2**32]}}, "extents of at most 268,435,456 sites together"),
        ({"lattice": {"extents": [4096, 4096]}}, "a flow has at most 4,194,304 sites"),
        ({"sampling": {"chains": 10**9}}, "chains must be <= 100,000"),
        ({"sampling": {"n": 10**10}}, "n must be <= 1,000,000,000"),
        ({"sampling": {"updates": ["hmc"] * 101}}, "at most 100 updates, each at most 9999 times"),
        ({"sampling": {"updates": ["hmc*" + HUGE]}}, "at most 100 updates, each at most 9999 times"),
        ({"training": {"steps": 10**30}}, r"steps must be <= 1,000,000,000, got 10+"),
        ({"training": {"shards": 10**6}}, "shards must be <= 100,000"),
        ({"training": {"device": "cuda:" + HUGE}}, "device must be auto, cpu, cuda or cuda:k"),
        ({"action": {"beta": int(HUGE[:4000])}}, "beta must be a number"),
        ({"action": {"beta": 16**50_000}}, "beta must be a number, got a huge int"),
    ],
)
def test_counts_are_bounded_before_anything_is_made(sections, words):
    tables = {"lattice": {"group": "U(1)", "extents": [4, 4]}, "action": {"beta": 1.0}}
    tables = {name: {**tables.get(name, {}), **sections.get(name, {})} for name in {**tables, **sections}}
    tracemalloc.start()
    with pytest.raises(InvalidInput, match=words) as error:
        Config.of(**tables)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    assert len(str(error.value)) < 500


def test_extents_whose_product_overflows():
    for extents in ((2**32, 2**32), (2**16, 2**16, 2), (10**4400, 2)):
        with pytest.raises(InvalidInput, match="a lattice of at most 2,147,483,648 sites is expected"):
            Lattice(extents)


@pytest.mark.parametrize(
    "array", ["0-99999999", "0-3999999", ",".join(["0-9999"] * 5000), f"0-{HUGE}", HUGE, "5-3", "1%0", "\udcff", "0\n"]
)
def test_arrays_of_jobs_are_bounded(array, tmp_path):
    """Those of the command line, and those in a file from somebody else."""
    tracemalloc.start()
    with pytest.raises(InvalidInput, match=r"an array .*\(command line: --array\)") as error:
        tasks(array)
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"job": "1", "kind": "sample", "ranks": 1, "array": array}) + "\n")
    if array != "\udcff":
        with pytest.raises(InvalidInput, match=r"an array .*jobs.jsonl: array\)"):
            read_jobs(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"kind": "train", "ranks": 1}, "job is missing"),
        ({"job": 12, "kind": "train", "ranks": 1}, "job must be a string, got 12"),
        ({"job": "1; rm", "kind": "train", "ranks": 1}, "job must be the id of a job"),
        ({"job": "1", "kind": "fly", "ranks": 1}, "kind must be train, sample or measure, got 'fly'"),
        ({"job": "1", "kind": "train", "ranks": 0}, "ranks must be >= 1"),
        ({"job": "1", "kind": "train", "ranks": 1, "x": 1}, "unknown key 'x'"),
        ({"job": "1", "kind": "train", "ranks": 1, "array": []}, "array must be a string"),
    ],
)
def test_records_of_jobs_are_checked(record, words, tmp_path):
    (tmp_path / "jobs.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(InvalidInput, match=re.escape(words)):
        read_jobs(tmp_path)


@pytest.mark.parametrize("name", ["", ".x", "a..b", "a\0b", "\udcff", "x y", "-", "1", HUGE])
def test_modules_have_names(config, name, capsys):
    assert "is expected" in fails(capsys, "show", "run", f"--import={name}") or len(name) > 1000


@pytest.mark.parametrize(
    "words", [("--wilson-flow", "1e300"), ("--loops", f"{HUGE},{HUGE}"), ("--wilson-flow", HUGE), ("--loops", "\udcff")]
)
def test_numbers_of_the_command_line_are_bounded(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["measure", "run", *words])
    assert end.value.code == 2
    assert len(capsys.readouterr().err) < 1000


def test_shown():
    assert shown(16**50_000) == "a huge int"
    assert len(shown("x" * 10**6)) < 300


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a bound on the address space")
def test_not_enough_memory_is_one_line(config):
    """Of fields that need 65 GB."""
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
    code += "from lattice_flows import cli; sys.exit(cli.main())"
    words = ["sample", config, 'sampling.updates=["heatbath"]', "lattice.group=SU(999)", "lattice.extents=[64, 64]"]
    result = subprocess.run([sys.executable, "-c", code, *words, "--out", "run"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("lattice-flows: error: not enough memory: take a smaller batch, fewer chains")
    assert result.stderr.count("\n") == 1
