"""Improved averages of runs, and ensembles that are not those of their action."""

import math
import shutil

import pytest
from command_line import fails, out

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


def test_correlators_are_improved(tmp_path, capsys):
    """The correlator of the slices of three dimensions, with the contact term at t = 1."""
    config = CONFIG.having(lattice={"extents": (4, 4, 8)}, sampling={"n": 50, "chains": 8, "updates": ("heatbath",)})
    runs.sample_run(tmp_path / "run", config=config)
    smear = "stout:rho=0.1,steps=1,spatial"
    table = out(capsys, "measure", str(tmp_path / "run"), "--improved", "--smear", smear)
    assert "connected correlator of the space-like plaquettes of time slices" in table
    assert f"the same after {smear}" in table
    report = read_report(tmp_path / "run" / "report.json")
    first, *others = report["correlator"]
    assert [entry["t"] for entry in (first, *others)] == [1, 2, 3, 4]
    assert first["n_coefficients"] == 31
    assert first["contact"] > 0.2 * first["value"] > 4 * 0.2 * first["error"]
    assert all(entry["contact"] == 0 and abs(entry["value"]) < 4 * entry["error"] for entry in others[1:])
    assert all(entry["gain"] > 100 for entry in (first, *others))
    ratio = first["value"] / others[0]["value"]  # of noise at t = 2
    smeared = report["smeared_correlator"]["distances"]
    assert [entry["n_coefficients"] for entry in smeared] == [34] * 4
    assert all(
        entry["gain"] > 2 and abs(entry["value"] - entry["plain"]) < 4 * entry["plain_error"] for entry in smeared
    )
    assert smeared[1]["gain"] > smeared[0]["gain"]  # both sides, and one
    assert first["effective_mass"] == (pytest.approx(math.log(ratio)) if ratio > 0 else None)


def test_chains_whose_action_is_stated(run, tmp_path, capsys):
    """They give the same numbers with the right coupling; another one is named."""
    out(capsys, "measure", str(run), "--improved")
    chains, stated = str(shutil.copy(run / "ensemble.h5", tmp_path / "chains.h5")), ("--improved", "--action", "wilson")
    assert "no ensemble" not in out(capsys, "measure", chains, *stated, "--beta", "1.5")
    expected, report = (read_report(folder / "report.json") for folder in (run, tmp_path))
    for name in ("plaquette", "wilson_loop_2x2"):
        assert report["improved"][name] == expected["improved"][name]
    assert report["schwinger_dyson"] == expected["schwinger_dyson"]
    assert "correlator" not in report
    table = out(capsys, "measure", chains, *stated, "--beta", "1.8")
    assert "this is no ensemble of the action in equilibrium" in table
    assert "check beta" in table
    assert abs(read_report(tmp_path / "report.json")["schwinger_dyson"]["worst_pull"]) > 10


def test_what_cannot_be_improved(run, tmp_path):
    with pytest.raises(InvalidInput, match="8 control variates need chains of 64 measurements"):
        measure_run(run, Wishes(improved=True, every=15))
    short = CONFIG.having(lattice={"extents": (2, 4)}, sampling={"n": 40})
    runs.sample_run(tmp_path / "short", config=short)
    with pytest.raises(InvalidInput, match="extents >= 3"):
        measure_run(tmp_path / "short", Wishes(improved=True))


def test_coefficients_are_carried_to_another_volume(run, tmp_path, capsys):
    """They improve it as fits would, without a bias, and few configurations will do."""
    out(capsys, "measure", str(run), "--improved")
    larger = CONFIG.having(lattice={"extents": (8, 6)}, sampling={"n": 60, "updates": ("heatbath",)})
    runs.sample_run(tmp_path / "larger", config=larger)
    with pytest.raises(InvalidInput, match="8 control variates need chains of 64 measurements"):
        measure_run(tmp_path / "larger", Wishes(improved=True, n=15))
    few = measure_run(tmp_path / "larger", Wishes(improved=True, n=15, coefficients=run / "report.json"))
    assert few["improved"]["plaquette"]["gain"] > 30
    out(capsys, "measure", str(tmp_path / "larger"), "--improved", "--coefficients", str(run))
    fitted, carried = (read_report(folder / "report.json") for folder in (run, tmp_path / "larger"))
    assert carried["control_variates"] == fitted["control_variates"]
    for name, entry in carried["improved"].items():
        assert entry["coefficients"] == pytest.approx(fitted["improved"][name]["coefficients"])
        assert entry["exact"] is None or abs(entry["value"] - entry["exact"]) < 4 * entry["error"]
    assert carried["improved"]["plaquette"]["gain"] > 30
    chains = str(shutil.copy(tmp_path / "larger" / "ensemble.h5", tmp_path / "chains.h5"))
    stated = ("--improved", "--action", "wilson", "--beta", "1.5", "--coefficients", str(run / "report.json"))
    out(capsys, "measure", chains, *stated)
    assert read_report(tmp_path / "report.json")["improved"] == carried["improved"]


def test_coefficients_that_do_not_fit(run, tmp_path, capsys):
    measure_run(run)
    said = fails(capsys, "measure", str(run), "--improved", "--coefficients", str(run))
    assert "a report with coefficients is expected: measure --improved writes one" in said
    said = fails(capsys, "measure", str(run), "--coefficients", str(run))
    assert said == "--coefficients goes with --improved, which uses them"
    measure_run(run, Wishes(improved=True))
    other = CONFIG.having(lattice={"group": "SU(3)"}, sampling={"n": 10, "updates": ("heatbath",)})
    runs.sample_run(tmp_path / "other", config=other)
    said = fails(capsys, "measure", str(tmp_path / "other"), "--improved", "--coefficients", str(run))
    assert "coefficients for SU(3) in 2 dimensions are expected, got those for SU(2) in 2 dimensions" in said
