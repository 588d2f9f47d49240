"""Measuring keeps what it measures: stopped, killed, prolonged, thinned, handed out."""

import csv
import json
import logging
import math
import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command_line import fails, out

from lattice_flows import SU, U1, GaugeField, cli, runs
from lattice_flows.actions import Wilson
from lattice_flows.config import Config
from lattice_flows.errors import Interrupted, InvalidInput, LatticeFlowsError
from lattice_flows.io import ChainFile, files
from lattice_flows.io.measurements import Measurements
from lattice_flows.observables import average_plaquette, polyakov_loops, stout_smear, wilson_loops
from lattice_flows.planar.exact import exact_value, mean_polyakov_loop_squared
from lattice_flows.reports import observe as observing
from lattice_flows.reports.observe import Session, observe
from lattice_flows.runs import Wishes
from lattice_flows.signals import Stop
from lattice_flows.statistics import creutz_ratios, effective_potential, estimate


def sampled(folder, group="SU(2)", extents=(4, 4), n=12, chains=2, **sampling):
    settings = Config.of(
        lattice={"group": group, "extents": extents},
        action={"beta": 1.5},
        training={"device": "cpu"},
        sampling={"updates": ("heatbath",), "thermalise": 2, "n": n, "chains": chains, **sampling},
    )
    runs.sample_run(folder, config=settings)
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    """One configuration a part, and a commit after each."""
    monkeypatch.setattr(observing, "PART", 1)
    monkeypatch.setattr(observing, "COMMIT_SECONDS", 0.0)


class Counting:
    """An observable that counts the configurations that it is given, and can fail at one of them."""

    def __init__(self, space, fails_at=math.inf, error=KeyboardInterrupt):
        self.plaquette, self.count, self.fails_at, self.error = average_plaquette(space), 0, fails_at, error

    def __call__(self, links):
        if self.count + len(links) > self.fails_at:
            raise self.error
        self.count += len(links)
        return self.plaquette(links)


def chains_and_space(folder):
    return ChainFile(folder / "ensemble.h5"), GaugeField(SU(2), (4, 4))


class Asked(Stop):
    asked = True


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, None], ids=["Ctrl-C", "crash", "SIGTERM"])
def test_stopped_and_gone_on_as_in_one_go(tmp_path, small_parts, error):
    """Nothing that is kept is measured again, but for the one configuration that checks it."""
    chains, space = chains_and_space(sampled(tmp_path))
    whole = observe(chains, {"P": average_plaquette(space)})["P"]
    path, broken = tmp_path / "kept.h5", Counting(space, *(() if error is None else (7, error)))
    expected = Interrupted if error in (KeyboardInterrupt, None) else error
    with pytest.raises(expected, match="the same command goes on" if expected is Interrupted else None):
        observe(chains, {"P": broken}, Session(Measurements(path), stop=Asked() if error is None else Stop()))
    done = broken.count
    assert len(Measurements(path).entries["P"].values) == done == (1 if error is None else 7)
    again = Counting(space)
    np.testing.assert_array_equal(observe(chains, {"P": again}, Session(Measurements(path)))["P"], whole)
    assert again.count == chains.n_distinct - done + 1


def test_digits_do_not_depend_on_where_it_stopped(tmp_path, monkeypatch):
    chains, space = chains_and_space(sampled(tmp_path, n=40, chains=1))
    monkeypatch.setattr(observing, "PART", 7 * chains.read(np.arange(1)).nbytes)
    monkeypatch.setattr(observing, "COMMIT_SECONDS", 0.0)
    whole = observe(chains, {"P": average_plaquette(space)})["P"]
    with pytest.raises(Interrupted):
        observe(chains, {"P": Counting(space, 15)}, Session(Measurements(tmp_path / "kept.h5")))
    rest = observe(chains, {"P": average_plaquette(space)}, Session(Measurements(tmp_path / "kept.h5")))["P"]
    np.testing.assert_array_equal(rest, whole)


def test_a_run_that_grew_is_measured_where_it_is_new(tmp_path):
    chains, space = chains_and_space(sampled(tmp_path))
    first = Counting(space)
    observe(chains, {"P": first}, Session(Measurements(tmp_path / "kept.h5")))
    assert first.count == 24
    runs.sample_run(tmp_path, ["sampling.n=20"])
    longer, more = ChainFile(tmp_path / "ensemble.h5"), Counting(space)
    series = observe(longer, {"P": more}, Session(Measurements(tmp_path / "kept.h5")))["P"]
    assert more.count == 16 + 1
    np.testing.assert_allclose(series, observe(longer, {"P": average_plaquette(space)})["P"], rtol=1e-13)


def test_another_ensemble_in_the_same_place_is_measured_anew(tmp_path):
    for seed in (1, 2):
        folder = sampled(tmp_path / str(seed), seed=seed)
    chains, space = chains_and_space(tmp_path / "1")
    observe(chains, {"P": average_plaquette(space)}, Session(Measurements(tmp_path / "kept.h5")))
    other, counting = ChainFile(folder / "ensemble.h5"), Counting(space)
    series = observe(other, {"P": counting}, Session(Measurements(tmp_path / "kept.h5")))["P"]
    assert counting.count == 24
    np.testing.assert_array_equal(series, observe(other, {"P": average_plaquette(space)})["P"])
    assert len(Measurements(tmp_path / "kept.h5").entries["P"].values) == 24


def test_what_a_name_stands_for_has_changed(tmp_path, caplog):
    """An observable of somebody's own, for one, with another body."""
    chains, space = chains_and_space(sampled(tmp_path))
    plaquette = average_plaquette(space)
    for scale in (1, 2):
        series = observe(
            chains, {"mine": lambda x, s=scale: s * plaquette(x)}, Session(Measurements(tmp_path / "k.h5"))
        )
        np.testing.assert_array_equal(series["mine"], scale * observe(chains, {"P": plaquette})["P"])
    assert "mine: the kept values are not those of this program" in caplog.text
    np.testing.assert_allclose(
        np.sort(Measurements(tmp_path / "k.h5").entries["mine"].values),
        np.sort(2 * observe(chains, {"P": plaquette})["P"].ravel()),
    )


def test_two_programs_keep_in_one_file(tmp_path):
    chains, space = chains_and_space(sampled(tmp_path))
    one, two = Measurements(tmp_path / "kept.h5"), Measurements(tmp_path / "kept.h5")
    observe(chains, {"P": average_plaquette(space)}, Session(one))
    observe(chains, {"L": polyakov_loops(space)}, Session(two))
    assert Measurements(tmp_path / "kept.h5").entries.keys() == {"P", "L"}


def test_each_distinct_configuration_is_measured_once(tmp_path):
    """With its multiplicity in the series."""
    chains, space = chains_and_space(sampled(tmp_path, updates=("hmc",), hmc_steps=1, n=30))
    counting = Counting(space)
    series = observe(chains, {"P": counting})["P"]
    assert counting.count == chains.n_distinct < 60
    assert series.shape == (2, 30)


@pytest.mark.parametrize("damage", ["flip", "cut", "text", "other"])
def test_damaged_measurements_are_named(tmp_path, capsys, damage):
    out(capsys, "measure", str(sampled(tmp_path)))
    path = tmp_path / "measurements.h5"
    content = bytearray(path.read_bytes())
    value = Measurements(path).entries["plaquette"].values[3]
    if damage == "flip":
        content[bytes(content).index(value.tobytes())] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"something"}.get(damage, content))
    if damage == "other":
        with h5py.File(path, "w") as file:
            file["x"] = 1
    assert str(path) in fails(capsys, "measure", str(tmp_path))


def test_what_cannot_be_kept_is_measured_with_one_warning(tmp_path, monkeypatch, caplog, small_parts):
    chains, space = chains_and_space(sampled(tmp_path))

    def refuse(path, data):
        raise LatticeFlowsError(f"cannot write {path}: Read-only file system")

    monkeypatch.setattr(files, "write", refuse)
    kept = Measurements(tmp_path / "kept.h5")
    for name in "PQ":
        assert observe(chains, {name: average_plaquette(space)}, Session(kept))[name].shape == (2, 12)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Read-only file system: what is measured is not kept" in caplog.text
    with pytest.raises(Interrupted, match="nothing could be kept"):
        observe(chains, {"R": Counting(space, 3)}, Session(kept))


def test_a_line_a_minute_without_a_terminal(tmp_path, monkeypatch, caplog, small_parts):
    chains, space = chains_and_space(sampled(tmp_path, n=3, chains=1))
    monkeypatch.setattr(observing, "LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "lattice_flows"):
        observe(chains, {"plaquette": average_plaquette(space)})
    assert [line.rpartition(",")[0] for line in caplog.messages] == [
        f"plaquette: {k} of 3 configurations" for k in (1, 2, 3)
    ]
    assert caplog.messages[-1].endswith("00:00 left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_what_is_measured(tmp_path, capsys, monkeypatch, small_parts, number, request):
    """And the same command ends with the table of a measurement in one go."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background of a shell ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    one, parts = (str(sampled(tmp_path / name)) for name in ("one", "parts"))
    expected = out(capsys, "measure", one, "--loops", "2,2")
    looks, read = [], ChainFile.read

    def interrupt(self, rows):
        looks.append(rows)
        if len(looks) == 40:  # among the loops
            os.kill(os.getpid(), number)
        return read(self, rows)

    monkeypatch.setattr(ChainFile, "read", interrupt)
    assert cli.main(["measure", parts, "--loops", "2,2"]) == 75
    error = capsys.readouterr().err
    assert "of 24 configurations are measured and kept in" in error
    assert "the same command goes on" in error
    entries = Measurements(tmp_path / "parts" / "measurements.h5").entries
    assert len(entries["plaquette"].values) == 24
    assert 0 < len(entries["Wilson loops up to 2x2"].values) < 24
    assert out(capsys, "measure", parts, "--loops", "2,2") == expected


def test_thinned(tmp_path, capsys):
    """Only the configurations that are asked for are measured; numbers and files say their distance."""
    folder = sampled(tmp_path, n=18, every=2)
    chains, space = chains_and_space(folder)
    whole = observe(chains, {"P": average_plaquette(space)})["P"]
    counting = Counting(space)
    np.testing.assert_array_equal(observe(chains.thinned(3), {"P": counting})["P"], whole[:, 2::3])
    assert counting.count == 12
    for option, number in (("--every", "3"), ("-n", "6"), ("-n", "7")):
        text = out(capsys, "measure", str(folder), option, number, "--export", str(tmp_path / "x.csv"))
        report = json.loads((folder / "report.json").read_text())
        assert (report["n"], report["every"], report["updates"]) == (12, 6, 36)
        assert "12 configurations" in text
        rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
        assert [(row["chain"], row["update"]) for row in rows[5:7]] == [("0", "36"), ("1", "6")]
    assert out(capsys, "compare", str(folder), "--json")
    assert json.loads((folder / "report.json").read_text())["every"] == 2
    assert "--every must be at most 18" in fails(capsys, "measure", str(folder), "--every", "19")


def test_series_in_files(tmp_path, capsys):
    """CSV to the last digit; Obs with the values, the updates and the errors of one chain."""
    folder = sampled(tmp_path / "run", "U(1)", n=30, chains=1, every=5)
    table, obs = str(tmp_path / "x.csv"), str(tmp_path / "x.json.gz")
    options = ("--polyakov", "--loops", "2,2", "--wilson-flow", "0.1")
    out(capsys, "measure", str(folder), *options, "--export", table, "--export", obs)
    space, chains = GaugeField(U1(), (4, 4)), ChainFile(folder / "ensemble.h5")
    rows = list(csv.DictReader(Path(table).read_text().splitlines()))
    own = observe(
        chains, {"P": average_plaquette(space), "L": polyakov_loops(space), "W": wilson_loops(space, 2, 2, -1)}
    )
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    np.testing.assert_array_equal(columns["plaquette"], own["P"][0])
    np.testing.assert_array_equal(columns["polyakov_loop_1_im"], own["L"][0, :, 1].imag)
    np.testing.assert_array_equal(columns["wilson_loop_in_time_2x1"], own["W"][0, :, 1, 0])
    assert {"action_density_at_0.05", "topological_charge_at_0.1"} <= columns.keys()
    from pyerrors.input.json import load_json_dict

    read = load_json_dict(obs.removesuffix(".json.gz"), verbose=False)
    assert read.keys() == columns.keys() - {"chain", "update"}
    plaquette = read["plaquette"]
    plaquette.gamma_method(S=2.0)
    expected = estimate(own["P"])
    assert plaquette.value == pytest.approx(expected.value, rel=1e-12)
    assert plaquette.dvalue == pytest.approx(expected.error, rel=1e-6)
    assert list(plaquette.idl["run"]) == list(range(5, 151, 5))
    assert "series go to a file that ends in .csv or .json.gz" in fails(
        capsys, "measure", str(folder), "--export", "x.txt"
    )


def test_polyakov_loops_in_every_direction(tmp_path, capsys):
    folder = sampled(tmp_path, "U(1)", (4, 3), n=100, chains=8)
    text = out(capsys, "measure", str(folder), "--polyakov")
    assert "direction  extent" in text
    entries = json.loads((folder / "report.json").read_text())["polyakov_loops"]["directions"]
    action = Wilson(GaugeField(U1(), (4, 3)), 1.5)
    for mu, entry in enumerate(entries):
        assert (entry["direction"], entry["extent"]) == (mu, (4, 3)[mu])
        assert entry["squared"]["exact"] == mean_polyakov_loop_squared(action, mu)
        for name, exact in (("re", 0), ("im", 0), ("squared", entry["squared"]["exact"])):
            assert abs(entry[name]["value"] - exact) < 4 * entry[name]["error"], (mu, name)
        chi = (3, 4)[mu] * (entry["squared"]["value"] - entry["modulus"]["value"] ** 2)
        assert entry["susceptibility"]["value"] == pytest.approx(chi)


def test_loops_beside_their_exact_values(tmp_path, capsys):
    """In two dimensions, also of what derives from them; nowhere else."""
    folder = sampled(tmp_path, "U(1)", (6, 6), n=200, chains=4)
    text = out(capsys, "measure", str(folder), "--loops", "2,3")
    assert text.count("exact ") > 6
    loops = json.loads((folder / "report.json").read_text())["loops"]
    action = Wilson(GaugeField(U1(), (6, 6)), 1.5)
    exact = np.array([[exact_value(f"wilson_loop_{r}x{t}", action) for t in (1, 2, 3)] for r in (1, 2)])
    expected = {"wilson_loops": exact, "potential": effective_potential(exact), "creutz_ratios": creutz_ratios(exact)}
    for name, values in expected.items():
        np.testing.assert_array_equal(loops[name]["exact"], values)
        value, error = np.array(loops[name]["value"]), np.array(loops[name]["error"])
        assert (abs(value - values)[:1] < 4 * error[:1]).all(), name
    text = out(capsys, "measure", str(folder), "--loops", "2,3", "--smear", "stout:rho=0.1,steps=1")
    assert "exact " not in text.partition("loops of links after")[2]
    assert json.loads((folder / "report.json").read_text())["loops"]["wilson_loops"]["exact"] == [[None] * 3] * 2


def test_loops_of_smeared_links(tmp_path, capsys):
    folder = sampled(tmp_path, "SU(2)", (4, 3, 4), n=6, chains=2)
    text = out(
        capsys, "measure", str(folder), "--loops", "2,3", "--polyakov", "--smear", "stout:rho=0.1,steps=2,spatial"
    )
    report, space = json.loads((folder / "report.json").read_text()), GaugeField(SU(2), (4, 3, 4))
    assert report["loops"]["smearing"] == report["polyakov_loops"]["smearing"] == "stout:rho=0.1,steps=2,spatial"
    assert "after stout:rho=0.1,steps=2,spatial" in text
    chains = ChainFile(folder / "ensemble.h5")
    links = torch.cat(list(chains.configurations()))
    expected = wilson_loops(space, 2, 3, time=-1)(stout_smear(links, space, 0.1, 2, range(2))).mean(0)
    np.testing.assert_allclose(report["loops"]["wilson_loops"]["value"], expected, rtol=1e-5)
    out(capsys, "measure", str(folder), "--loops", "2,3")
    assert {"Wilson loops up to 2x3", "Wilson loops up to 2x3 after stout:rho=0.1,steps=2,spatial"} <= Measurements(
        folder / "measurements.h5"
    ).entries.keys()
    assert "add --loops or --polyakov" in fails(capsys, "measure", str(folder), "--smear", "hyp")
    assert "a smearing such as" in fails(capsys, "measure", str(folder), "--loops", "2,2", "--smear", "fuzz")


def test_an_ensemble_file_keeps_its_own_measurements(tmp_path, capsys):
    sampled(tmp_path / "run")
    whole = out(capsys, "measure", str(tmp_path / "run" / "ensemble.h5"))
    assert out(capsys, "measure", str(tmp_path / "run")) == whole
    assert (tmp_path / "run" / "measurements.h5").exists()
    os.rename(tmp_path / "run" / "ensemble.h5", tmp_path / "mine.h5")
    assert out(capsys, "measure", str(tmp_path / "mine.h5")) == whole
    assert (tmp_path / "mine.measurements.h5").exists()


def test_wishes_that_do_not_fit(tmp_path):
    folder = sampled(tmp_path)
    for wishes in (Wishes(every=0), Wishes(n=0), Wishes(exports=["x.txt"])):
        with pytest.raises(InvalidInput):
            runs.measure_run(folder, wishes)
