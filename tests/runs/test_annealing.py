"""Annealing from the command line: its report, its prediction, how it goes on, and what it refuses."""

import json
import math
import shutil

import pytest
import torch
from command_line import fails, out

from lattice_flows import SU, cli, runs
from lattice_flows.config import Config, to_toml
from lattice_flows.errors import Interrupted
from lattice_flows.io import ChainFile, read_report
from lattice_flows.planar.exact import log_partition
from lattice_flows.reports.report import log_weights
from lattice_flows.runs.stochastic import FITS, read_fits
from lattice_flows.sampling import log_z_ratio
from lattice_flows.signals import Stop

CONFIG = Config.of(
    lattice={"group": "SU(2)", "extents": (8, 8)},
    action={"beta": 2.0},
    training={"dtype": "float64", "device": "cpu"},
    sampling={"updates": ("heatbath", "overrelaxation*2"), "chains": 10, "n": 60, "thermalise": 30},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run at beta = 2, its config in a file, and that of another theory."""
    folder = tmp_path_factory.mktemp("annealing")
    runs.sample_run(folder / "run", config=CONFIG)
    (folder / "su2.toml").write_text(to_toml(CONFIG))
    return folder


@pytest.fixture(scope="module")
def annealed(folder):
    """The folder of an annealing from the run to beta = 2.5."""
    own = CONFIG.having(action={"beta": 2.5})
    runs.anneal_run(folder / "annealed", own, begin=folder / "run", stages=4, n=250)
    runs.measure_run(folder / "annealed")
    return folder / "annealed"


def test_the_report_of_an_annealing(annealed):
    report = read_report(annealed / "report.json")
    exact = log_partition(SU(2), 2.5, 64) - log_partition(SU(2), 2.0, 64)
    ratio, work = report["log_z_ratio"], report["work"]
    assert ratio["exact"] == pytest.approx(exact)
    assert abs(ratio["value"] - exact) < 4 * ratio["error"] < 0.4
    assert abs(report["predicted_ess"] - report["ess"]) < 0.1
    assert report["ess_error"] < 0.05
    assert work["mean"] == pytest.approx(-ratio["value"] - report["steps"]["mean"] + work["dissipated"])
    assert abs(work["predicted"] / work["dissipated"] - 1) < 0.5
    assert 4 * work["dissipated_error"] < work["dissipated"]
    plaquette = report["reweighted"]["plaquette"]
    assert abs(plaquette["pull"]) < 4
    assert plaquette["error"] < 0.01
    assert abs(report["observables"]["plaquette"]["pull"]) < 4
    assert report["paths"] == report["n"] == 250
    # the starts are a sample, too
    own = log_z_ratio(log_weights(ChainFile(annealed / "ensemble.h5")))
    factor = (1 + 250 / report["starts"]) ** 0.5
    assert 1.05 < factor <= 2**0.5
    assert ratio["error"] == pytest.approx(math.hypot(factor * float(own[1]), report["steps"]["error"]), rel=1e-3)
    assert f"larger by a factor of up to {factor:.2f}" in (annealed / "report.txt").read_text()
    cost = report["cost"]
    assert 0.2 < cost["predicted_cpu_seconds"] / cost["cpu_seconds"] < 5
    assert cost["fit_cpu_seconds"] > 0


def test_the_command_goes_on(folder, annealed, capsys):
    """To more paths; the first ones are those that were there."""
    before = ChainFile(annealed / "ensemble.h5").series("proposals/log_w")
    begin = "--from", str(folder / "run"), "--to", "action.beta=2.5"
    command = "anneal", str(folder / "su2.toml"), *begin, "--stages", "4"
    fits = (annealed / FITS).read_bytes()
    table = out(capsys, *command, "--out", str(annealed), "-n", "260")
    assert "260 configurations by annealing" in table
    assert "log Z / Z_0" in table
    after = ChainFile(annealed / "ensemble.h5").series("proposals/log_w")
    assert len(after) == 260
    assert (after[:250] == before).all()
    assert (annealed / FITS).read_bytes() == fits
    assert "the chain was made with stages 4, not 5" in fails(capsys, *command[:-1], "5", "--out", str(annealed))
    # the config of the folder says all
    again = out(capsys, "anneal", str(annealed / "config.toml"), "--out", str(annealed))
    assert again.splitlines()[:5] == table.splitlines()[:5]
    assert "annealing" in out(capsys, "compare", str(annealed), str(folder / "run"))
    assert "expected: ESS 0.9" in out(capsys, "show", str(annealed))


def test_layers_are_taken_to_other_extents(folder, annealed, tmp_path, capsys):
    """From Haar's measure there is nothing to begin at; the variance grows with the volume."""
    config = str(folder / "su2.toml")
    first = "anneal", config, "--stages", "6", "-n", "16", "action.beta=1.0", "--out"
    out(capsys, *first, str(tmp_path / "first"))
    out(capsys, *first, str(tmp_path / "second"), "--layers", str(tmp_path / "first"), "lattice.extents=[8,16]")
    one, two = (read_fits(tmp_path / name) for name in ("first", "second"))
    assert torch.equal(one.response.velocities, two.response.velocities)
    assert two.response.work(6) == pytest.approx(2 * one.response.work(6))
    assert two.about["layers"] == "production"
    ratio = read_report(tmp_path / "second" / "report.json")["log_z_ratio"]
    assert abs(ratio["value"] - ratio["exact"]) < 5 * ratio["error"]
    error = fails(capsys, *first, str(tmp_path / "third"), "--layers", str(annealed))
    assert "layers of another action, first coupling do not fit" in error


def test_a_stop_keeps_the_paths_that_are_made(folder, tmp_path):
    class Soon(Stop):
        asked = property(lambda self: True)

    own, arguments = CONFIG.having(action={"beta": 0.5}), {"stages": 2, "n": 40, "layers": "plaquette"}
    with pytest.raises(Interrupted, match="1 of 40 updates are written"):
        runs.anneal_run(tmp_path / "stopped", own, **arguments, stop=Soon())
    runs.anneal_run(tmp_path / "stopped", own, **arguments)
    runs.anneal_run(tmp_path / "whole", own, **arguments)
    one, two = (ChainFile(tmp_path / name / "ensemble.h5").series("action") for name in ("stopped", "whole"))
    assert (one == two).all()


def test_what_is_refused(folder, annealed, tmp_path, capsys):
    config, run = str(folder / "su2.toml"), str(folder / "run")
    hot = CONFIG.having(action={"beta": 6.0}, sampling={"updates": ("metropolis",), "thermalise": 0, "n": 120})
    runs.sample_run(tmp_path / "hot", config=hot)
    runs.sample_run(tmp_path / "short", config=CONFIG.having(sampling={"n": 8}))
    (tmp_path / "empty").mkdir()
    shutil.copy(folder / "run" / "config.toml", tmp_path / "empty")
    for words, message in {
        ("--from", run, "--to", "action.beta=1.5"): "1.5, that of the target: got 1.5 after 2",
        ("--from", run): "got 2 after 2",
        ("--from", run, "--to", "beta=3"): "--to takes a coupling, such as action.beta=3, got beta=3",
        ("--from", run, "--to", "sampling.n=3"): "--to takes a coupling, such as action.beta=3",
        ("--from", run, "lattice.extents=[8,4]", "action.beta=3"): "cannot begin at configurations of SU(2) on 8x8",
        ("--from", run, "action.name=symanzik", "action.beta=3"): "begin at the same action at a smaller beta",
        ("--from", run, "action.beta=3", "-n", "5000"): "5000 paths need as many independent configurations",
        ("--from", str(tmp_path / "no"), "action.beta=3"): "there is none of this name",
        ("--from", str(tmp_path / "empty"), "action.beta=3"): "nothing is sampled yet",
        ("--from", str(tmp_path / "hot"), "action.beta=7"): "in this one the action at first is +",
        ("--from", str(tmp_path / "short"), "action.beta=3"): "this ensemble is short: ",
        ("--layers", "all"): "layers are none, plaquette, production, nlo, or the folder of an annealing, got all",
        ("sampling.updates=['flow','heatbath']",): "updates between layers are such as heatbath, got",
        ("sampling.updates=['overrelaxation']",): "over-relaxation keeps the action",
        ("lattice.extents=[2,8]", "--layers", "nlo"): "layers of nlo need extents >= 3, got 2x8: take",
        ("-n", "4"): "errors need at least 5 paths, got 4",
    }.items():
        assert message in fails(capsys, "anneal", config, *words, "--out", str(tmp_path / "refused")), words
        assert not (tmp_path / "refused" / "ensemble.h5").exists()
    assert not (tmp_path / "refused").exists()
    assert "run holds a run of other updates: take another" in fails(capsys, "anneal", config, "--out", run)
    assert not (folder / "run" / FITS).exists()
    with pytest.raises(SystemExit):
        cli.main(["anneal", config, "--stages", "0", "--out", "x"])
    assert "a number >= 1 is expected" in capsys.readouterr().err


def test_damaged_fits_are_named(annealed, tmp_path, capsys):
    shutil.copytree(annealed, tmp_path / "copy")
    path = tmp_path / "copy" / FITS
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert "damaged" in fails(capsys, "sample", str(tmp_path / "copy"), "-n", "300")
    path.unlink()
    assert "no layers are fitted yet" in fails(capsys, "sample", str(tmp_path / "copy"), "-n", "300")
    assert json.loads((annealed / "report.json").read_text())["predicted_ess"] > 0
