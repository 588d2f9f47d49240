"""Commands of several items: what is wrong with one does not hide the others."""

import json
from pathlib import Path

import pytest
import torch

from lattice_flows import SU, GaugeField, cli
from lattice_flows.errors import LatticeFlowsError, each
from lattice_flows.io import write_configuration

CONFIG = """
[lattice]
group = "U(1)"
extents = [4, 4]
[action]
beta = 1.0
[training]
device = "cpu"
[sampling]
updates = ["heatbath"]
thermalise = 0
n = 20
"""


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """A command in a folder of its own: its exit code, and the lines that it prints and complains with."""
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(CONFIG)

    def run(*words):
        code = cli.main(words)
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


@pytest.mark.parametrize("bad", ["missing", "empty", "folder"])
def test_configurations_are_measured_beside_bad_ones(bad, command):
    links = GaugeField(SU(3), (2, 2, 2, 2)).prior(1, torch.Generator().manual_seed(0), dtype=torch.float64)[0]
    for name in ("a", "b"):
        write_configuration(name, links, "nersc")
    Path("empty").touch()
    Path("folder").mkdir()
    good = command("measure", "a", "b")
    assert good[0] == 0
    # a folder that comes first is a run
    for words in [("a", bad, "b")] if bad == "folder" else [("a", bad, "b"), (bad, "a", "b")]:
        code, table, errors = command("measure", *words)
        assert (code, table) == (2, good[1])
        assert len(errors) == 1
        assert bad in errors[0]
    code, table, errors = command("measure", "a", bad, "none", "b")
    assert (code, table, len(errors)) == (2, good[1], 2)
    code, table, errors = command("measure", "none", "empty")
    assert (code, table, len(errors)) == (2, [], 1)


def test_runs_are_compared_beside_bad_ones(command):
    assert command("sample", "config.toml", "--out", "a")[0] == 0
    assert command("sample", "config.toml", "--out", "b")[0] == 0
    Path("broken").mkdir()
    Path("broken", "config.toml").write_text("[")
    for options in ((), ("--json",)):
        good = command("compare", "a", "b", *options)
        assert good[0] == 0
        code, table, errors = command("compare", "a", "none", "broken", "b", *options)
        assert (code, table) == (2, good[1])
        assert ["none" in errors[0], "broken" in errors[1], len(errors)] == [True, True, 2]
    assert [row["run"] for row in json.loads("\n".join(table))] == ["a", "b"]
    code, table, errors = command("compare", "none", "broken")
    assert (code, table, len(errors)) == (2, [], 1)


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        each([1, 0], lambda n: 1 / n)
    with pytest.raises(LatticeFlowsError, match="nothing"):
        each([1], lambda n: (_ for _ in ()).throw(LatticeFlowsError("nothing")))
    assert each([], str) == ([], [])
