"""Seeded mutations of every text that people and programs hand over: each is accepted, or refused in one line.

LATTICE_FLOWS_FUZZ is the number of mutations of a kind, 100 by default.
"""

import json
import os
import random
import shutil
import signal
import sys
import tracemalloc

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lattice_flows import cli, models, runs
from lattice_flows.cluster.jobs import read_jobs, tasks
from lattice_flows.cluster.profile import load_profile
from lattice_flows.cluster.status import status_table
from lattice_flows.config import Config, load, loads, to_toml
from lattice_flows.errors import LatticeFlowsError
from lattice_flows.runs.folder import read_costs, read_steps
from lattice_flows.runs.show import training_progress

N = int(os.environ.get("LATTICE_FLOWS_FUZZ", "100"))
SECONDS, BYTES = 60, 2**28
TOKENS = [
    b"\0", b"\xff", b"\xed\xa0\x80", b"\n", b"\r\n", b'"', b"'''", b"\\u0000", b"[", b"]", b"{", b"}", b"[" * 5000,
    b'{"a":' * 5000, b"a." * 5000, b"=", b"#", b",", b"-", b"0", b"1e999", b"-1", b"nan", b"inf", b"NaN", b"null",
    b"true", b"9" * 30, b"9" * 5000, b"0x" + b"f" * 9000, b"1979-05-27", b"[[x]]", b"x" * 100_000, b"%", b"*" * 9,
    b"..", b"/dev/zero", "β".encode(), b"\xef\xbb\xbf", b"\x1b[2J",
]  # fmt: skip
CONFIG = Config.of(
    lattice={"group": "U(1)", "extents": (4, 4)},
    action={"beta": 1.0},
    flow={"architecture": "hierarchical", "hidden": (4,), "bins": 4},
    training={"steps": 2, "batch": 8, "device": "cpu"},
    sampling={"n": 20},
)
SITE = b"""[environment]
modules = ["mpich"]
launcher = "srun --mpi=pmi2"
[defaults]
nodes = 2
time = "12:00:00"
options = ["--mem-per-cpu=2G"]
"""
JOBS = b"""{"job": "12", "kind": "train", "ranks": 2, "array": null, "after": null, "submitted": "2026-01-01 00:00:00"}
{"job": "13", "kind": "sample", "ranks": 2, "array": "0-3:2%2", "after": "12", "submitted": "2026-01-01 00:00:01"}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    runs.train_run(CONFIG, folder)
    runs.sample_run(folder)
    runs.measure_run(folder)
    return folder


def mutated(data, seed):
    """The data after 1 to 4 changes: bits, cuts, copies, numbers, and tokens that parsers stumble over."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + chance.choice((1, 8, 10**9)))
        kind = chance.randrange(6)
        if kind == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[to:]
        elif kind == 2:
            data = data[:at] + data[at:to] * chance.choice((2, 50)) + data[to:]
        elif kind == 3:  # another value in the place of one
            words = [word for word in data.replace(b",", b" ").replace(b":", b" ").split(b" ") if word]
            data = data.replace(chance.choice(words), chance.choice(TOKENS), 1) if words else data
        else:
            data = data[:at] + chance.choice(TOKENS) + data[at:]
    return data


def fuzz(data, use, least=0.2):
    """Use every mutation: none ends by another error than the project's, hangs, or takes much memory.

    Args:
        least: the share that must be refused, so that the mutations are seen to be looked at.
    """

    def late(*_):
        pytest.fail(f"a hang with {seed}")

    refused = 0
    before = signal.signal(signal.SIGALRM, late)
    tracemalloc.start()
    try:
        for seed in range(N):
            signal.alarm(SECONDS)
            tracemalloc.reset_peak()
            try:
                use(mutated(data, seed))
            except LatticeFlowsError as error:
                refused += 1
                if "\n" in str(error) or len(str(error)) > 5000:
                    pytest.fail(f"no line with mutation {seed}: {error}")
            except Exception as error:
                error.add_note(f"with mutation {seed}")
                raise
            assert tracemalloc.get_traced_memory()[1] < BYTES, seed
    finally:
        signal.alarm(0)
        tracemalloc.stop()
        signal.signal(signal.SIGALRM, before)
    assert refused >= least * N


def test_configs(tmp_path):
    """What is accepted is written and read again as the same."""
    path = tmp_path / "config.toml"

    def use(data):
        path.write_bytes(data)
        config = load(path)
        assert loads(to_toml(config), "text") == config

    fuzz(to_toml(CONFIG).encode(), use)


def test_models(tmp_path):
    """The config and the facts in the header, and the bytes of the file."""
    path = tmp_path / "model.safetensors"
    model = models.load("u1_2d_L16_beta1")
    models.save(model, path)
    tensors, whole = load_file(path), path.read_bytes()
    with safe_open(path, framework="pt") as file:
        about = file.metadata()

    def header(key):
        def use(data):
            save_file(tensors, path, metadata={**about, key: data.decode(errors="replace")})
            models.read_header(path)

        return use

    def content(data):
        path.write_bytes(data)
        models.load(path)

    for key in ("config", "facts"):
        fuzz(about[key].encode(), header(key))
    fuzz(whole[:4000], content)


def test_reports(run, tmp_path, monkeypatch):
    """One that is not whole is made anew."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    data = (run / "report.json").read_bytes()
    monkeypatch.setattr("lattice_flows.runs.compare.measure_run", lambda folder: json.loads(data))

    def use(changed):
        (copy / "report.json").write_bytes(changed)
        runs.comparison_table(runs.compare_runs([copy]))

    fuzz(data, use, least=0)  # a damaged report is made anew


def test_metrics(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    begun = runs.folder.beginning(folder, CONFIG)

    def steps(data):
        (folder / "metrics.jsonl").write_bytes(data)
        training_progress(read_steps(folder), begun)

    def costs(data):
        (folder / "sampling.jsonl").write_bytes(data)
        sum(record["cpu_seconds"] * record["made"] for record in read_costs(folder))
        status_table([folder])

    fuzz((run / "metrics.jsonl").read_bytes(), steps)
    shutil.copy(run / "metrics.jsonl", folder)
    fuzz((run / "sampling.jsonl").read_bytes(), costs)


def test_figures_of_changed_metrics(run, tmp_path):
    """Whatever is read can be drawn."""
    from lattice_flows.reports.figures import training_curve

    def use(data):
        (tmp_path / "metrics.jsonl").write_bytes(data)
        if records := read_steps(tmp_path):
            training_curve(records)

    fuzz((run / "metrics.jsonl").read_bytes(), use)


def test_jobs(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / "run"
    shutil.copytree(run, folder)

    def use(data):
        (folder / "jobs.jsonl").write_bytes(data)
        read_jobs(folder)
        status_table([folder])

    fuzz(JOBS, use)
    fuzz(b"0-7:2,9,11-12%3", lambda data: tasks(os.fsdecode(data)))


def test_site_profiles(tmp_path):
    path = tmp_path / "site.toml"

    def use(data):
        path.write_bytes(data)
        load_profile(path).resources("train", {})

    fuzz(SITE, use)


def test_command_lines(tmp_path, monkeypatch, capsys):
    """Words of commands that read little: an exit code and no traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(to_toml(CONFIG))
    sys.stderr.reconfigure(errors="backslashreplace")  # as it is where nothing captures it
    lines = [
        b"submit config.toml --dry-run --out run --jobs train,sample --array 0-3 --nodes 2 --time 30 training.steps=3",
        b"show run --import my_module",
        b"measure run other --loops 2,2 --wilson-flow 1.5",
        b"export run file.safetensors -n 10 --format ildg --chain 1 --update 2",
        b"status run other",
        b"compare run other --json",
        b"import lattice --out run action.beta=6.0 training.seed=3",
        b"sample run -n 20 sampling.every=2",
    ]
    chance = random.Random(0)

    def use(data):
        words = os.fsdecode(data).split(" ")
        try:
            code = cli.main(words)
        except SystemExit as end:
            code = end.code
        assert code in (0, 2)
        assert "Traceback" not in capsys.readouterr().err

    for line in lines:
        fuzz_some(line, use, chance)


def fuzz_some(line, use, chance):
    """A share of the mutations of one line, and then the line as it is."""
    for seed in chance.sample(range(10**6), max(N // 8, 1)):
        use(mutated(line, seed))
    use(line)
