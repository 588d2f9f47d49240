"""Damaged and foreign files in the folder of a run: every command says so in one line, with the name of the file."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import fails, out

from lattice_flows import cli, runs
from lattice_flows.config import Config
from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.io import load_checkpoint, save_checkpoint
from lattice_flows.signals import Stop

CONFIG = Config.of(
    lattice={"group": "SU(2)", "extents": (4, 2)},
    action={"beta": 2.0},
    sampling={"n": 20, "updates": ("heatbath",), "thermalise": 2, "chains": 2},
)
COMMANDS = (
    "measure run",
    "measure run/ensemble.h5",
    "compare run",
    "show run",
    "export run all.npy --all",
    "sample run -n 30",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    runs.sample_run(folder, config=CONFIG)
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return Path("run")


def unchecked(path, change=lambda file: None):
    """Make an ensemble one of version 3, without checksums, and change it."""
    plain = path.with_suffix(".plain")
    with h5py.File(path) as old, h5py.File(plain, "w") as new:
        for name in old.keys() - {"checksums", "multiplicity"}:
            old.copy(name, new)
        new.attrs.update({**old.attrs, "version": 3})
        change(new)
    plain.replace(path)


def without(name):
    def change(file):
        del file[name]

    return change


def reshaped(name, *shape):
    def change(file):
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape, dtype, chunks=tuple(min(extent, 4) for extent in shape))

    return change


def with_attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


CHANGES = {
    "no actions": without("action"),
    "no links": without("links"),
    "no chains": without("chain"),
    "no end": without("end"),
    "other shapes": reshaped("acceptance", 3, 7),
    "too few rows": reshaped("chain", 1),
    "absurd sizes": reshaped("links", 2**40, 2, 4, 2, 2, 2),
    "absurd numbers": reshaped("action", 2**40, 2),
    "a number": reshaped("action"[:6], 5),
    "no every": lambda file: file.attrs.__delitem__("every"),
    "every 0": with_attribute("every", 0),
    "another field": with_attribute("field", "spins"),
    "no config": lambda file: file.attrs.__delitem__("config"),
    "a config of numbers": with_attribute("config", np.arange(3)),
    "a broken config": with_attribute("config", "[lattice"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_command_names_the_ensemble_that_it_cannot_read(run, change, capsys):
    unchecked(run / "ensemble.h5", CHANGES[change])
    before = (run / "ensemble.h5").read_bytes()
    for command in COMMANDS:
        if change in ("no config", "a config of numbers", "a broken config") and command == "show run":
            continue  # it needs none
        assert "run/ensemble.h5" in fails(capsys, *command.split()), command
    assert cli.main(["status", "run"]) in (0, 2)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert (run / "ensemble.h5").read_bytes() == before


def test_ensembles_of_version_3_are_read_and_do_not_go_on(run, capsys):
    table = out(capsys, "measure", "run")
    unchecked(run / "ensemble.h5")
    assert out(capsys, "measure", "run") == table
    words = "chains of version 3 can be read, and not go on: use the lattice_flows that wrote them (run/ensemble.h5)"
    assert fails(capsys, "sample", "run", "-n", "30") == words


@pytest.mark.parametrize("value", [3.0, np.nan])
def test_what_has_no_checksum_is_compared_on_a_sample(run, value):
    def change(file):
        file["links"][7, 1, 2, 1] = value

    unchecked(run / "ensemble.h5", change)
    with pytest.raises(InvalidInput, match="damaged: the configuration in row 7 has the action"):
        runs.measure_run(run)


def test_a_damaged_report_is_made_again(run, capsys):
    table = out(capsys, "measure", "run")
    compared = out(capsys, "compare", "run")
    for name, old, new in (("report.json", b'"n": 40', b'"n": 48'), ("report.txt", b"40 conf", b"48 conf")):
        data = (run / name).read_bytes()
        assert old in data
        (run / name).write_bytes(data.replace(old, new))
        assert "lattice-flows measure run writes it again (run/report.txt)" in out(capsys, "show", "run")
        assert out(capsys, "compare", "run") == compared
        runs.measure_run(run)
        assert table in out(capsys, "show", "run")


@pytest.mark.parametrize("key", ["attributes", "state", "streams", "tuned", "dropped", "config", "x"])
def test_a_state_of_thermalisation_that_lacks_something(tmp_path, key):
    stop = Stop()
    stop.asked = True
    with pytest.raises(Interrupted):
        runs.sample_run(tmp_path, config=CONFIG, stop=stop)
    path = tmp_path / "thermalisation.pt"
    content = load_checkpoint(path)
    place = {"config": content["attributes"], "x": content["state"]}.get(key, content)
    del place[key]
    save_checkpoint(path, content)
    with pytest.raises(InvalidInput, match=rf"thermalisation is expected, .* \({path}\)"):
        runs.sample_run(tmp_path)
