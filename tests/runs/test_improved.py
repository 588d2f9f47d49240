"""Improved averages of runs, and ensembles that are not those of their action."""

import pytest
from command_line import out

from lattice_flows import runs
from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput
from lattice_flows.io import read_report
from lattice_flows.runs import Wishes, measure_run

CONFIG = Config.of(
    lattice={"group": "SU(2)", "extents": (4, 6)},
    action={"beta": 1.5},
    sampling={"updates": ("heatbath",), "n": 150, "chains": 4, "thermalise": 20},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("improved") / "run"
    runs.sample_run(folder, config=CONFIG)
    return folder


def test_plaquettes_are_improved(run, capsys):
    table = out(capsys, "measure", str(run), "--improved")
    report = read_report(run / "report.json")
    entry = report["improved"]["plaquette"]
    assert entry["gain"] > 30
    assert entry["n_coefficients"] == 8
    assert abs(entry["value"] - entry["exact"]) < 4 * entry["error"]
    assert entry["error"] < 0.3 * report["observables"]["plaquette"]["error"]
    assert entry["plain"] == report["observables"]["plaquette"]["value"]
    assert abs(report["schwinger_dyson"]["worst_pull"]) < report["schwinger_dyson"]["allowed"]
    assert "zeros of Schwinger and Dyson: the worst of 8 is" in table
    assert "no ensemble" not in table


def test_an_ensemble_of_another_coupling_is_named(run, tmp_path, monkeypatch):
    """The plaquettes of beta = 1.5 under a config that says 1.8."""
    build = runs.measure.build_action
    monkeypatch.setattr(runs.measure, "build_action", lambda *args: (build(*args)[0], build(*args)[1].at(1.8)))
    monkeypatch.setattr(runs.measure, "verify_sample", lambda *_: None)
    report = runs.measure._measured(run / "ensemble.h5", Wishes(improved=True), keeps=False)[3]
    assert abs(report["schwinger_dyson"]["worst_pull"]) > 10
    assert "this is no ensemble of the action in equilibrium" in runs.measure._text(CONFIG, report)


def test_what_cannot_be_improved(run, tmp_path):
    with pytest.raises(InvalidInput, match="8 control variates need chains of 64 measurements"):
        measure_run(run, Wishes(improved=True, every=15))
    short = CONFIG.having(lattice={"extents": (2, 4)}, sampling={"n": 40})
    runs.sample_run(tmp_path / "short", config=short)
    with pytest.raises(InvalidInput, match="extents >= 3"):
        measure_run(tmp_path / "short", Wishes(improved=True))
