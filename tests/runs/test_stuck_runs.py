"""Chains of flows that are hardly trained: no observable is reliable, and nothing prints an error."""

import json
import re

import pytest

from lattice_flows import cli, runs
from lattice_flows.config import Config

CASES = {
    "SU(3), beta = 1": ("SU(3)", (4, 4, 4, 4), 1.0),
    "SU(3), beta = 2": ("SU(3)", (4, 4, 4, 4), 2.0),
    "SU(2)": ("SU(2)", (8, 8, 8), 2.0),
    "U(1)": ("U(1)", (8, 8), 4.0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_chain_of_a_bad_flow_is_not_reliable(name, tmp_path, capsys):
    group, extents, beta = CASES[name]
    config = Config.of(
        lattice={"group": group, "extents": extents},
        action={"beta": beta},
        flow={"layers": 2, "hidden": (2,), "bins": 4},
        training={"steps": 1, "batch": 2, "warmup": 0},
        sampling={"n": 120, "batch": 40},
    )
    runs.train_run(config, tmp_path)
    runs.sample_run(tmp_path)
    assert cli.main(["measure", str(tmp_path), *(["--loops", "2,2"] if len(extents) > 2 else [])]) == 0
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert 1 <= report["distinct"] < 50
    words = f"stuck: {report['distinct']} distinct configurations"
    for entry in report["observables"].values():
        assert not entry["reliable"]
        assert entry["error"] is entry["tau_int"] is entry["n_eff"] is None
        assert entry["reason"] == words or "frozen" in entry["reason"]
    assert not re.search(r"\d\(\d", table.partition("ESS")[0])
    assert words in table
    assert "heat bath" in table
    assert cli.main(["compare", str(tmp_path)]) == 0
    assert words in (compared := capsys.readouterr().out)
    assert not re.search(r"\d\(\d", compared)
    if len(extents) > 2:
        assert report["loops"]["reason"] == words
        assert not re.search(r"\d\(\d", table.partition("W(R, T)")[2])
