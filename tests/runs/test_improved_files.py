"""Improved averages of gauge files and of chains without a config: those of the same run, and what cannot be done."""

import shutil

import pytest
from command_line import fails, out

from lattice_flows import SU, runs
from lattice_flows.config import Config
from lattice_flows.io import read_report, write_configuration

CONFIG = Config.of(
    lattice={"group": "SU(3)", "extents": (4, 4, 4, 4)},
    action={"beta": 3.0},
    sampling={"updates": ("heatbath",), "n": 110, "chains": 1, "thermalise": 10},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files") / "run"
    runs.sample_run(folder, config=CONFIG)
    return folder


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    """The first files are NERSC's, the others ILDG's."""
    folder = tmp_path_factory.mktemp("files")
    for form in ("nersc", "ildg"):
        runs.export_all(run, folder / form, form)
    for update in range(51, 111):
        shutil.move(folder / "ildg" / f"0.{update}", folder / "nersc" / f"0.{update}")
    return folder / "nersc"


WILSON = ("--improved", "--action", "wilson", "--beta", "3.0")


def test_files_give_the_numbers_of_chains(run, files, capsys):
    """In the order of numbers and not of letters."""
    out(capsys, "measure", str(run), "--improved")
    expected = read_report(run / "report.json")
    table = out(capsys, "measure", *sorted(map(str, files.iterdir())), *WILSON)
    assert "SU(3), 4x4x4x4 sites, wilson action at beta = 3: 110 configurations" in table
    assert "no ensemble" not in table
    report = read_report(files / "report.json")
    for name in ("plaquette", "polyakov_loop"):
        known = {key: value for key, value in expected["improved"][name].items() if isinstance(value, float)}
        assert {key: report["improved"][name][key] for key in known} == pytest.approx(known, rel=1e-9)
    pulls = report["schwinger_dyson"]["pulls"]
    assert pulls == pytest.approx(expected["schwinger_dyson"]["pulls"], rel=1e-6)
    for one, other in zip(report["correlator"], expected["correlator"], strict=True):
        assert [one["t"], one["value"]] == pytest.approx([other["t"], other["value"]], rel=1e-6)
    assert report["observables"]["plaquette"]["tau_int"] == expected["observables"]["plaquette"]["tau_int"]
    (files / "report.json").unlink()


def test_what_cannot_be_measured(run, files, tmp_path, capsys):
    first, second, *_ = paths = sorted(map(str, files.iterdir()))
    other, gone = (str(tmp_path / name) for name in ("other", "gone"))
    write_configuration(other, SU(3).identity(4, 4, 4, 4, 6), "nersc")
    chains = str(shutil.copy(run / "ensemble.h5", tmp_path / "chains.h5"))
    few = "13 control variates need chains of 104 measurements in all, as each half fits their coefficients; got 2"
    for arguments, words in {
        (*paths, "--improved"): "no file states its action: say --action, such as --action wilson --beta 6.0",
        (first, second, *WILSON): few,
        (*paths, *WILSON[:2], "willson"): "unknown action 'willson'; available: wilson",
        (*paths, *WILSON[:3]): "beta is missing",
        (first, *[other] * 110, *WILSON): "files of one ensemble are expected, got GaugeField(SU(3), 4x4x4x6)",
        (first, gone, *WILSON): f"there is no file or folder of this name: {gone}",
        (first, "--improved", "--beta", "3"): "--beta goes with --action",
        (first, *WILSON[1:]): "--action and --beta go with --improved",
        (first, *WILSON, "--loops", "1,2"): "--improved measures all files, and nothing else",
        (chains, first, *WILSON): "measure takes one HDF5 file at a time, got 2",
        (str(run), *WILSON): "a run states its action: leave out --action and --beta",
        (gone, "--loops", "2,2"): "there is none of this name",
    }.items():
        assert words in fails(capsys, "measure", *arguments), arguments
