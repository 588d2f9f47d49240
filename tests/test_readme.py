"""The README keeps its word: its code runs, its commands are those of continuous integration, its numbers are exact."""

import re
import shlex
from pathlib import Path

import numpy as np

from lattice_flows import U1, GaugeField, cli
from lattice_flows.actions import Wilson
from lattice_flows.cli.parser import make_parser
from lattice_flows.config import load, loads
from lattice_flows.config.registry import OBSERVABLES
from lattice_flows.observables import standard_observables
from lattice_flows.planar.exact import exact_value

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced code of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_python_runs():
    """One block after the other, in one namespace."""
    namespace = {}
    assert blocks("python")
    for number, block in enumerate(blocks("python")):
        if "h5py" in block:  # it reads what the commands make
            continue
        exec(compile(block, f"README.md, python block {number}", "exec"), namespace)


def test_continuous_integration_runs_the_two_commands():
    installs = [block.strip() for block in blocks("sh") if "pip install" in block]
    assert len(installs) == 2
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for command in installs:
        assert command.count("&&") == 1
        assert any(f'"{command}"' in line for line in script), f".ci/run does not run: {command}"
    assert "run: bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_config_and_commands_work(tmp_path, monkeypatch, capsys):
    """In small, in the order of the README."""
    monkeypatch.chdir(tmp_path)
    text, _ = blocks("toml")
    Path("su2.toml").write_text(text, encoding="utf-8")
    small = ["training.steps=2", "training.batch=8", "training.warmup=0", "flow.layers=2", "sampling.n=20"]
    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines() if "runs/su2" in line]
    assert [verb for _, verb, *_ in commands] == ["train", "sample", "measure", "show"]
    (average,) = (block for block in blocks("python") if "h5py" in block)
    for _, verb, *arguments in commands:
        assert cli.main([verb, *arguments, *(small if verb == "train" else [])]) == 0
    assert "Wilson loop W(2,2)" in capsys.readouterr().out
    assert cli.main(["export", "runs/su2", "all.npy", "--all"]) == 0
    found = {}
    exec(average, found)
    np.testing.assert_allclose(found["mean"], np.load("all.npy").trace(axis1=-2, axis2=-1).real.mean(), rtol=1e-5)
    assert load("runs/su2/config.toml").lattice.group == loads(text, "README.md").lattice.group
    listed = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", README, flags=re.MULTILINE)[:9]))
    assert listed[0] == "config.toml"
    assert listed[-1] == "figures/"
    assert [name for name in listed if not Path("runs/su2", name).exists()] == []


def test_conventional_algorithms(tmp_path, monkeypatch, capsys):
    """In small, in the order of the README; its config fits the table of settings as it is."""
    monkeypatch.chdir(tmp_path)
    _, text = blocks("toml")
    assert loads(text, "README.md").sampling.chains == 4
    for large, small in (
        ("[8, 8, 8, 8]", "[4, 2, 2, 4]"),
        ("n = 100 ", "n = 5 "),
        ("thermalise = 200", "thermalise = 2"),
    ):
        assert large in text
        text = text.replace(large, small)
    Path("su3_4d.toml").write_text(text, encoding="utf-8")
    (block,) = (block for block in blocks("sh") if "runs/heatbath" in block)
    for line in block.splitlines():
        for large, small in (
            ("-n 500", "-n 5 sampling.thermalise=1"),
            ("4,4", "1,2"),
            ("--wilson-flow 3.0", "--wilson-flow 0.2"),
        ):
            line = line.replace(large, small)
        _, *arguments = shlex.split(line)
        assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "20 configurations of 4 chains by heat bath, 4 over-relaxation" in shown
    assert "CPU s/independent" in shown


def test_words_of_annealing():
    """They are those of the command line, which tests/runs/test_annealing.py runs."""
    (block,) = (block for block in blocks("sh") if " anneal " in block)
    _, first, second = (make_parser().parse_args(shlex.split(line)[1:]) for line in block.splitlines())
    assert (first.begin, first.to, first.stages) == ("runs/beta6", "action.beta=6.178", 32)
    assert (second.begin, second.to, second.layers) == (None, "action.beta=2", "nlo")


def test_exact_values_of_the_table():
    (table,) = blocks("text")
    action = Wilson(GaugeField(U1(), (8, 8)), 2.0)
    assert table.startswith("U(1), 8x8 sites, wilson action at beta = 2")
    names = {OBSERVABLES[name].label: name for name in standard_observables(action.space)}
    rows = re.findall(r"^(\S.*?)  .*?\(.*?\) +(\S+) +(\S+) ", table, flags=re.MULTILINE)
    assert len(rows) == len(names)
    for label, exact, pull in rows:
        expected = exact_value(names[label], action)
        assert exact == ("-" if expected is None else f"{expected:.7g}")
        assert expected is None or abs(float(pull)) < 4
