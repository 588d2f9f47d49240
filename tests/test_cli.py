"""The command line: what a person types, reads, and gets back as exit code."""

import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from lattice_flows import cli, runs
from lattice_flows.config import load, to_toml

CONFIG = """
[lattice]
group = "SU2"
sites = [4, 4]
[action]
beta = 1.0
[flow]
layers = 4
hidden = [4]
bins = 4
[training]
steps = 4
batch = 16
device = "cpu"
[sampling]
n = 100
batch = 50
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return str(path)


def fails(capsys, *arguments):
    """The one line that a failing command prints."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.removeprefix("lattice-flows: error: ").strip()


def test_a_run_from_start_to_end(config, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert cli.main(["train", config, "--out", run, "training.steps=6", "training.checkpoint_every=2"]) == 0
    assert f"trained for 6 steps; next: lattice-flows sample {run}" in capsys.readouterr().out
    assert load(f"{run}/config.toml").lattice.group == "SU(2)"
    assert cli.main(["train", config, "training.steps=6", "--out", run]) == 0  # trained already
    assert cli.main(["sample", run, "-n", "60", "sampling.batch=30"]) == 0
    assert "61 configurations; next: lattice-flows measure" in capsys.readouterr().out
    assert cli.main(["sample", run]) == 0
    assert "111 configurations" in capsys.readouterr().out
    assert cli.main(["measure", run]) == 0
    table = capsys.readouterr().out
    assert re.search(r"plaquette +-?0\.\d+\(\d+\) +0\.24\d+ +[+-]\d\.\d\d", table)
    assert cli.main(["show", run]) == 0
    shown = capsys.readouterr().out
    assert "6 of 6 steps" in shown
    assert table in shown
    assert json.loads((tmp_path / "run" / "report.json").read_text())["n"] == 111


def test_demo(tmp_path, capsys, monkeypatch):
    """In small; at its real size it is what continuous integration runs from the README."""
    monkeypatch.chdir(tmp_path)
    short = ["training.steps=3", "sampling.n=100", "flow.layers=2"]
    shipped = os.path.join(os.path.dirname(cli.__file__), "demo.toml")
    assert load(shipped).sampling.n >= 20_000
    small = to_toml(load(shipped, short))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    (tmp_path / "demo.toml").write_text(small)
    assert cli.main(["demo"]) == 0
    text = capsys.readouterr().out
    for words in ("plaquette", "W(2,2)", "topological charge Q", "<Q^2>", "tau_int", "ESS", "acceptance", "training "):
        assert words in text
    assert "everything is in lattice-flows-demo" in text


def test_help_is_instant_and_version_says_which():
    start = time.monotonic()
    for command in ("train", "sample", "measure", "show", "demo", "kernels"):
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0
    assert time.monotonic() - start < 1
    code = "import sys; from lattice_flows import cli; sys.argv[1:] = ['--version']\ntry: cli.main()\n"
    code += "finally: print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"lattice-flows \d\S*( \([0-9a-f]{40}(-dirty)?\))?\nFalse False\n", result.stdout)


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["train"], ["train", "x.toml"], ["show"], ["demo", "training.steps=3"], ["show", "run", "--fast"]],
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: lattice-flows" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(config, tmp_path, capsys):
    out = str(tmp_path / "run")
    cases = {
        "action.beta=-1.0": "beta must be > 0, got -1.0 (command line: action.beta)",
        "training.stepz=3": "unknown key 'stepz', valid keys: steps, batch,",
        "training.steps=many": "steps must be an integer, got 'many'",
        "lattice.group=E8": f"available: U(1), and SU(N) for every N >= 2 ({config}: lattice.group)",
        "lattice.sites=[2, 8]": "extents too small for stripes",
        "training.device=cuda:99": "device 'cuda:99' is not there",
    }
    for override, words in cases.items():
        assert words in fails(capsys, "train", config, override, "--out", out)
        assert not os.path.exists(out)
    assert "cannot read the config: No such file or directory" in fails(capsys, "train", "none.toml", "--out", out)
    assert f"cannot write {config}/run: Not a directory" in fails(capsys, "train", config, "--out", f"{config}/run")
    for command in ("sample", "measure", "show"):
        assert "a folder made by lattice-flows train is expected" in fails(capsys, command, str(tmp_path / "none"))
    assert os.listdir(tmp_path) == ["config.toml"]


def python(code, *arguments, env=(), **options):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options,
        env={**os.environ, "OMP_NUM_THREADS": "1", **dict(env)},
    )  # fmt: skip


def test_kernels(tmp_path):
    """What runs and why: with a compiler, without one, and where the references are asked for."""
    ops = ["algebra_exp", "circular_spline", "link_products", "spectral_flow", "spectral_power", "unitary_eig"]

    def table(**environment):
        result = python(COMMAND, "kernels", env={"LATTICE_FLOWS_CACHE": str(tmp_path), **environment})
        assert (result.returncode, result.stderr) == (0, "")
        rows, _, compiler = result.stdout.partition("\n\n")
        header, *rows = (re.split(" {2,}", row) for row in rows.splitlines())
        assert header == ["op", "CPU", "CUDA", "why"]
        assert [row[0] for row in rows] == ops
        return {row[0]: row[1:] for row in rows}, compiler

    rows, compiler = table()
    assert rows["algebra_exp"][0] == "compiled, N = 2 to 3"
    assert rows["spectral_flow"][0] == "compiled, N = 2 to 8"
    assert re.match(r"compiled by \S+: .*\d, kept in ", compiler)
    assert len(list(tmp_path.glob("*.so"))) == 1
    for environment, why in (
        ({"CXX": "nowhere"}, "no C++ compiler (nowhere); install g++ or point CXX to one"),
        ({"LATTICE_FLOWS_KERNELS": "reference"}, "LATTICE_FLOWS_KERNELS=reference is set"),
    ):
        rows, compiler = table(**environment)
        assert compiler == ""
        for op in ops:
            assert rows[op][0] == "reference"
        assert why in rows["spectral_flow"][2]
    result = python(COMMAND, "kernels", env={"LATTICE_FLOWS_KERNELS": "fast"})
    assert result.returncode == 2
    assert result.stderr == ("lattice-flows: error: LATTICE_FLOWS_KERNELS must be 'reference' or unset, got 'fast'\n")


COMMAND = "import sys; from lattice_flows import cli; sys.exit(cli.main())"


def test_full_disk(config, tmp_path):
    """Real writes that fail, at a size that the checkpoint does not fit into."""
    out = str(tmp_path / "run")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    result = python(limit + COMMAND, "train", config, "--out", out)
    assert result.returncode == 2
    assert result.stderr == f"lattice-flows: error: cannot write {out}/checkpoint.pt: File too large\n"
    assert sorted(os.listdir(out)) == [".lock", "config.toml", "metrics.jsonl"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


def test_interrupt_and_second_process(config, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", COMMAND, "train", config, "--out", str(out), "training.steps=100000"]
    # where the tests run in the background of a shell, they have inherited that SIGINT is ignored
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as first:
        while not (out / "metrics.jsonl").exists() and first.poll() is None:
            time.sleep(0.01)
        second = python(COMMAND, *command[3:])
        first.send_signal(signal.SIGINT)
        error = first.communicate(timeout=60)[1]
    assert second.returncode == 2
    assert re.fullmatch(
        rf"lattice-flows: error: {out} is in use by another process \(process {first.pid} on \S+\): "
        r"wait for it or take another folder\n",
        second.stderr,
    )
    assert first.returncode == 130
    assert error.endswith("lattice-flows: interrupted; the same command goes on from the last checkpoint\n")
    assert "Traceback" not in error


def test_reader_of_the_output_leaves(config, tmp_path):
    runs.train_run(load(config), tmp_path / "run")
    head = f"{sys.executable} -c '{COMMAND}' show {tmp_path / 'run'} | true"
    result = subprocess.run(["bash", "-c", head], capture_output=True, text=True)
    assert result.stderr == ""


def test_divergence_is_one_line(config, tmp_path, capsys, monkeypatch):
    nan = torch.tensor(float("nan"))
    monkeypatch.setattr("lattice_flows.actions.Wilson.forward", lambda self, links: links.real.flatten(1).sum(1) * nan)
    words = fails(
        capsys, "train", config, "--out", str(tmp_path / "run"), "training.steps=50", "training.max_bad_steps=3"
    )
    assert words.startswith("training stopped at step 3: loss or gradient not finite 3 times in a row")
