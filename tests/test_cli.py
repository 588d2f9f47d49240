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
from pathlib import Path

import fresh
import pytest
import torch
from command_line import fails
from command_line import out as output

import lattice_flows
from lattice_flows import cli, runs
from lattice_flows.config import load, to_toml

ROOT = Path(__file__).parents[1]

CONFIG = """
[lattice]
group = "SU2"
extents = [4, 4]
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


def test_a_run_from_start_to_end(config, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert cli.main(["train", config, "--out", run, "training.steps=6", "training.checkpoint_every=2"]) == 0
    assert f"trained for 6 steps; next: lattice-flows sample {run}" in capsys.readouterr().out
    assert load(f"{run}/config.toml").lattice.group == "SU(2)"
    assert cli.main(["train", config, "training.steps=6", "--out", run]) == 0  # trained already
    assert cli.main(["sample", run, "-n", "60"]) == 0
    assert "60 configurations; next: lattice-flows measure" in capsys.readouterr().out
    assert cli.main(["sample", run]) == 0
    assert "100 configurations" in capsys.readouterr().out
    assert cli.main(["measure", run]) == 0
    table = capsys.readouterr().out
    assert re.search(r"plaquette +-?0\.\d+.* 0\.24\d+ ", table)
    assert cli.main(["show", run]) == 0
    shown = capsys.readouterr().out
    assert "6 of 6 steps" in shown
    assert table in shown
    assert json.loads((tmp_path / "run" / "report.json").read_text())["n"] == 100


def test_demo(tmp_path, capsys, monkeypatch):
    """In small; at its real size it is what continuous integration runs from the README."""
    monkeypatch.chdir(tmp_path)
    short = ["training.steps=3", "training.level_steps=3", "sampling.n=100"]
    shipped = Path(runs.__file__).with_name("demo.toml")
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
    start = time.process_time()
    for command in (
        "train", "sample", "anneal", "measure", "compare", "show", "export", "import", "convert", "verify", "models",
        "demo", "kernels", "submit", "status",
    ):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0
    assert time.process_time() - start < 1
    code = "import sys; from lattice_flows import cli; sys.argv[1:] = ['--version']\ntry: cli.main()\n"
    code += "finally: print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"lattice-flows \d\S*( \([0-9a-f]{40}(-dirty)?\))?\nFalse False\n", result.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["train"],
        ["train", "x.toml"],
        ["show"],
        ["demo", "training.steps=3"],
        ["show", "run", "--fast"],
        ["sample"],
        ["sample", "-n", "5"],
        ["sample", "--out", "other"],
        ["compare"],
        ["import", "lat"],
        ["export", "run", "lat", "--format", "png"],
        ["sample", "run", "--extents", "8,8"],
        ["sample", "--model", "u1", "--extents", "large"],
        ["measure", "run", "--wilson-flow", "0"],
        ["models", "--import", "mine"],
        ["export", "run"],
        ["export", "run", "u1.safetensors", "-n", "x"],
    ],
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: lattice-flows" in capsys.readouterr().err


def test_usage_is_that_of_the_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "x.toml", "--out", "run", "--frm", "y"])
    err = capsys.readouterr().err
    assert "usage: lattice-flows train" in err
    assert "unrecognized arguments: --frm" in err


def test_bad_input_is_one_line_and_leaves_nothing(config, tmp_path, capsys):
    out = str(tmp_path / "run")
    cases = {
        "action.beta=-1.0": "beta must be > 0, got -1.0 (command line: action.beta)",
        "training.stepz=3": "unknown key 'stepz', valid keys: steps, batch,",
        "training.steps=many": "steps must be an integer, got 'many'",
        "lattice.group=E8": f"unknown group 'E8'; available: U(1), SU(N) for every N >= 2 ({config}: lattice)",
        "lattice.sites=[2, 8]": "extents too small for stripes",
        "training.level_steps=2": "level_steps belongs to hierarchical, not to stripes; valid keys: steps, batch,",
        "flow.levels=[]": "levels belongs to hierarchical, not to stripes; valid keys: architecture, layers, bins,",
        "sampling.hmc_steps=3": "hmc_steps belongs to hmc, transformed, not to flow; valid keys: updates, chains,",
        "training.device=cuda:99": "device 'cuda:99' is not there",
    }
    for override, words in cases.items():
        assert words in fails(capsys, "train", config, override, "--out", out)
        assert not os.path.exists(out)
    assert "cannot read the config: No such file or directory" in fails(capsys, "train", "none.toml", "--out", out)
    assert f"cannot write {config}/run: Not a directory" in fails(capsys, "train", config, "--out", f"{config}/run")
    for command in ("sample", "measure", "show"):
        words = "a folder made by lattice-flows train or sample is expected"
        assert words in fails(capsys, command, str(tmp_path / "none"))
    for command in ("sample", "show"):
        assert "this is a file; a config goes with --out FOLDER" in fails(capsys, command, config)
    assert os.listdir(tmp_path) == ["config.toml"]


HIERARCHICAL = CONFIG.replace("layers = 4", 'architecture = "hierarchical"').replace("SU2", "U1")


def test_a_model_from_run_to_run(tmp_path, capsys, monkeypatch):
    """What a person does with a trained model, from its export to a run that is trained further on other extents."""
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(HIERARCHICAL)

    def out(*arguments):
        return output(capsys, *arguments)

    out("train", "config.toml", "--out", "run")
    first, second = out("export", "run", "tiny.safetensors", "-n", "500").splitlines()
    assert re.fullmatch(r"tiny: ESS (0\.\d+\(\d+\)|at most 0\.\d+), 4 steps in \S+ CPU minutes", first)
    size = os.stat("tiny.safetensors").st_size
    assert "say with --format" in fails(capsys, "export", "run", "other.safetensors", "--update", "3")
    assert "-n is of the model" in fails(capsys, "export", "run", "lat", "--format", "nersc", "-n", "5")
    assert second == f"tiny.safetensors: {size:,} bytes"
    assert lattice_flows.load("tiny.safetensors").flow.sample(3).links.shape == (3, 2, 4, 4)

    line = "{} configurations; next: lattice-flows measure tiny\n"
    assert out("sample", "--model", "tiny.safetensors", "-n", "60", "sampling.batch=50") == line.format(60)
    assert out("sample", "--model", "tiny.safetensors", "-n", "101") == line.format(101)
    assert out("sample", "-n", "151", "tiny") == line.format(151)
    assert re.search(r"plaquette +-?0\.\d+.* 0\.44\d+ ", out("measure", "tiny"))
    shown = out("show", "tiny")
    assert shown.startswith("tiny\ntheory: U(1), 4x4 sites, wilson action at beta = 1\n")
    rest = "updates: independence Metropolis\nensemble: 151 configurations"
    assert f"begins from: {first}\ntraining: 0 of 4 steps\n{rest}" in shown

    larger = ("sample", "--model", "tiny.safetensors", "--out", "larger", "--extents", "6,8")
    assert out(*larger).startswith("100 configurations")
    assert load("larger/config.toml").lattice.extents == (6, 8)
    assert "6x8 sites" in out("measure", "larger")

    further = ("train", "larger/config.toml", "--from", "tiny.safetensors", "--out", "further", "training.steps=6")
    said = out(*further)
    assert said == out(*further)
    assert said.startswith("1024 fresh samples of the whole flow: ESS ")
    assert said.endswith("trained for 6 steps; next: lattice-flows sample further\n")
    assert "begins from: tiny: ESS" in out("show", "further")
    out("export", "further", "further.safetensors", "-n", "100")
    model = lattice_flows.load("further.safetensors")
    assert (model.flow.lattice.extents, model.facts.step, model.facts.begun_from) == ((6, 8), 10, "tiny")

    table = out("models").splitlines()
    assert table[0].split("  ")[0].strip() == "model"
    assert [row.split()[0] for row in table[1:]] == lattice_flows.models.available()


def test_bad_models_are_one_line_and_leave_nothing(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hierarchical.toml").write_text(HIERARCHICAL)
    for path, name in ((config, "stripes"), ("hierarchical.toml", "u1")):
        assert cli.main(["train", path, "--out", f"run-{name}"]) == 0
        assert cli.main(["export", f"run-{name}", f"{name}.safetensors", "-n", "100"]) == 0
    capsys.readouterr()
    before = sorted(os.listdir())
    out = ("--out", "out")
    cases = {
        ("sample", "--model", "u2", *out): "unknown model 'u2', available: ",
        ("sample", "--model", "u2.safetensors", *out): "cannot read the model: No such file or directory (u2.safe",
        ("sample", "--model", config, *out): f"unknown model '{config}'",
        ("sample", "--model", "u1.safetensors", "run", *out): "an override is section.key=value, got 'run'",
        ("sample", "--model", "u1.safetensors", "action.beta=3", *out): "only [sampling] and training.device can",
        ("sample", "--model", "u1.safetensors", "--sites", "8", *out): "2, 3 or 4 integer extents >= 2, got (8,)",
        ("sample", "--model", "u1.safetensors", "--extents", "4,4,4", *out): "for two dimensions, got lattice 4x4x4",
        ("sample", "--model", "u1.safetensors", "--out", "run-u1"): "run-u1 holds another run than that of the model: "
        "it was trained further; lattice-flows sample run-u1 goes on with it, --out takes another folder",
        (
            "sample",
            "--model",
            "u1.safetensors",
            "--out",
            "run-stripes",
        ): "flow.architecture was stripes and is now hierarchical; ",
        ("train", config, "--from", "u1.safetensors", *out): "the config does not fit the weights of u1: "
        "lattice.group is SU(2) and not U(1); flow.architecture is stripes and not hierarchical (",
        ("train", "hierarchical.toml", "--from", "none", *out): "unknown model 'none'",
        ("train", "hierarchical.toml", "--from", "u1.safetensors", "--out", "run-u1"): "run-u1 holds a run that began "
        "from random weights: leave --from out to go on with it, or take another folder",
        ("export", "run-u1", "u1.pt"): "the file of a model must end in .safetensors, got u1.pt",
        ("export", "run-u1", "u2.safetensors", "-n", "1"): "takes at least 2 proposals, got 1",
        ("export", "run-u1", "none/u2.safetensors", "-n", "9"): "cannot write none/u2.safetensors: No such",
        ("export", "none", "u2.safetensors"): "a folder made by lattice-flows train or sample is expected",
    }
    for arguments, words in cases.items():
        assert words in fails(capsys, *arguments)
        assert sorted(os.listdir()) == before


OWN = """
from dataclasses import dataclass
from lattice_flows.actions import ActionEntry, Wilson
from lattice_flows.config import ACTIONS, Settings
from lattice_flows.config.rules import Positive
@dataclass(frozen=True, kw_only=True)
class Inverse(Settings):
    g: Positive
ACTIONS.register("inverse", ActionEntry(Inverse, lambda space, settings: Wilson(space, 2 / settings.g**2)))
"""
OWN_CONFIG = CONFIG.replace("beta = 1.0", 'name = "inverse"\ng = 1.0').replace("SU2", "U1")


def test_a_module_of_ones_own(tmp_path):
    """Its action is there for a config that names it, and by --import for those who have the model alone."""
    configs, elsewhere = tmp_path / "configs", tmp_path / "elsewhere"
    configs.mkdir()
    elsewhere.mkdir()
    (configs / "inverse.py").write_text(OWN)
    (configs / "config.toml").write_text('imports = ["inverse"]\n' + OWN_CONFIG)
    (configs / "plain.toml").write_text(OWN_CONFIG)

    def command(*words, cwd=configs):
        return fresh.run(COMMAND, *words, cwd=cwd)

    run, model = str(tmp_path / "run"), str(tmp_path / "inverse.safetensors")
    assert "unknown action 'inverse'; available: wilson" in command("train", "plain.toml", "--out", run).stderr
    result = command("train", str(configs / "config.toml"), "--out", run, cwd=elsewhere)
    assert (result.returncode, "trained for 4 steps" in result.stdout) == (0, True), result.stderr
    assert (tmp_path / "run" / "config.toml").read_text().startswith('imports = ["inverse"]\n')
    assert command("sample", run, "-n", "20").returncode == 0
    assert command("export", run, model, "-n", "50").returncode == 0
    error = command("sample", "--model", model, "--out", str(tmp_path / "other")).stderr
    assert "the config imports inverse: name it by --import inverse, or import it in Python first" in error
    for words in (("--model", model, "--out", str(tmp_path / "other")), (str(tmp_path / "other"), "-n", "110")):
        result = command("sample", *words, "--import", "inverse")
        assert (result.returncode, " configurations; next" in result.stdout) == (0, True), result.stderr
    result = command("train", "plain.toml", "--import", "inverse", "--out", str(tmp_path / "again"))
    assert result.returncode == 0
    texts = [(tmp_path / folder / "config.toml").read_text() for folder in ("again", "run")]
    assert texts[0].partition("[provenance]")[0] == texts[1].partition("[provenance]")[0]
    error = command("measure", run, cwd=elsewhere).stderr
    assert error.count("\n") == 1
    assert error.startswith("lattice-flows: error: cannot import inverse: No module named 'inverse'")


def test_wilson_flow_has_two_names(config, tmp_path, capsys):
    run = str(tmp_path / "run")
    output(capsys, "sample", config, "--out", run, 'sampling.updates=["heatbath"]', "sampling.thermalise=0")
    tables = [output(capsys, "measure", run, option, "0.5") for option in ("--wilson-flow", "--flow")]
    assert tables[0] == tables[1]
    assert "flow time" in tables[0] or "Wilson flow" in tables[0]


def test_kernels(tmp_path):
    """What runs and why: with a compiler, without one, and where the references are asked for."""
    ops = ["algebra_exp", "circular_spline", "heat_bath", "link_flow", "link_forces", "link_operators",
           "link_products", "link_slices", "link_steps", "link_stout", "link_sums", "link_sweeps", "link_trajectories",
           "over_relaxation",
           "periodic_conv", "special_unitary", "spectral_flow", "spectral_power", "uniforms",
           "unitary_eig"]  # fmt: skip

    def kernels(**environment):
        return fresh.run(COMMAND, "kernels", env={**os.environ, **environment})

    def table(**environment):
        result = kernels(LATTICE_FLOWS_CACHE=str(tmp_path), **environment)
        assert (result.returncode, result.stderr) == (0, "")
        rows, _, compiler = result.stdout.partition("\n\n")
        header, *rows = (re.split(" {2,}", row) for row in rows.splitlines())
        assert header == ["op", "CPU", "CUDA", "why"]
        assert [row[0] for row in rows] == ops
        return {row[0]: row[1:] for row in rows}, compiler

    rows, compiler = table()
    assert rows["algebra_exp"][0] == "compiled, N = 2 to 3"
    assert rows["spectral_flow"][0] == "compiled, N = 2 to 8"
    assert re.match(r"compiled by [^:]+: .*\d, kept in ", compiler)
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
    result = kernels(LATTICE_FLOWS_KERNELS="fast")
    assert result.returncode == 2
    assert result.stderr == ("lattice-flows: error: LATTICE_FLOWS_KERNELS must be 'reference' or unset, got 'fast'\n")


COMMAND = "import sys; from lattice_flows import cli; sys.exit(cli.main())"


def test_full_disk(config, tmp_path):
    """Real writes that fail, at a size that the checkpoint does not fit into."""
    out = str(tmp_path / "run")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    result = fresh.run(limit + COMMAND, "train", config, "--out", out)
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
        second = fresh.run(COMMAND, *command[3:])
        first.send_signal(signal.SIGINT)
        error = first.communicate(timeout=60)[1]
    assert second.returncode == 2
    assert re.fullmatch(
        rf"lattice-flows: error: {out} is in use by another process \(process {first.pid} on \S+\): "
        r"wait for it or take another folder\n",
        second.stderr,
    )
    assert first.returncode == 75
    assert re.search(r"asked to stop: checkpoint written at step \d+ of 100000; the same command goes on\n$", error)
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
