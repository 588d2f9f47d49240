"""Runs: one folder, that survives kills bit for bit and lets nothing in that does not belong."""

import io
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch

from lattice_flows import U1, GaugeField, runs
from lattice_flows.config import Config, load
from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import ChainFile, files, load_checkpoint, read_metrics, save_checkpoint
from lattice_flows.observables import topological_charge
from lattice_flows.reports import figures
from lattice_flows.reports.observe import observe
from lattice_flows.reports.report import log_weights
from lattice_flows.statistics import pareto_tail

SETTINGS = {
    "lattice": {"group": "U(1)", "extents": (4, 4)},
    "action": {"beta": 1.0},
    "flow": {"layers": 4, "hidden": (4,), "bins": 4},
    "training": {"steps": 40, "batch": 32, "learning_rate": 0.01, "checkpoint_every": 7, "seed": 3, "device": "cpu"},
    "sampling": {"n": 600, "batch": 100, "seed": 5},
}
CONFIG = Config.of(**SETTINGS)


def changed(section, **settings):
    """CONFIG with some settings of a section changed."""
    return Config.of(**SETTINGS | {section: SETTINGS[section] | settings})


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Bit for bit holds for a fixed number of threads; the subprocesses take theirs from the environment."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was trained, sampled and measured in one go; not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    train(folder)
    runs.sample_run(folder)
    runs.measure_run(folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def train(folder):
    torch.manual_seed(11)  # a checkpoint holds torch's global stream too, though nothing here draws from it
    runs.train_run(CONFIG, folder)


def numbers(folder):
    """The metrics without what a clock says."""
    return [{key: value for key, value in record.items() if "seconds" not in key} for record in metrics(folder)]


def metrics(folder):
    return read_metrics(folder / "metrics.jsonl")


def assert_same(first, second):
    """Bitwise equality of nested dicts and lists of tensors and numbers."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_same(value, second[key])
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def assert_same_training(folder, other):
    assert numbers(folder) == numbers(other)
    assert_same(
        load_checkpoint(folder / "checkpoint.pt")["training"], load_checkpoint(other / "checkpoint.pt")["training"]
    )


def assert_same_chain(folder, other):
    one, two = (ChainFile(path / "ensemble.h5") for path in (folder, other))
    assert one.chains == two.chains
    names = ["action", "acceptance", *(f"proposals/{name}" for name in ("log_w", "action", "accepted"))]
    for name in names:
        np.testing.assert_array_equal(one.series(name), two.series(name))
    for k in range(one.chains):
        np.testing.assert_array_equal(one.rows(k), two.rows(k))
    assert torch.equal(torch.cat(list(one.configurations())), torch.cat(list(two.configurations())))
    assert_same(*(list(file.end()) for file in (one, two)))


def kill(code, folder, moment):
    """Runs python code with the folder as argument in another process, and kills that with SIGKILL at `moment()`."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not moment():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()


def test_a_run_is_one_folder(finished):
    assert sorted(os.listdir(finished)) == [
        ".lock", ".report.lock", "checkpoint.pt", "config.toml", "ensemble.h5", "figures", "measurements.h5",
        "metrics.jsonl", "report.json", "report.txt", "sampling.jsonl", "trained.json",
    ]  # fmt: skip
    assert sorted(os.listdir(finished / "figures")) == [
        "autocorrelation.png", "charge.png", "history.png", "training.png", "weights.png",
    ]  # fmt: skip
    assert load(finished / "config.toml") == CONFIG
    assert "[provenance]\nversion = " in (finished / "config.toml").read_text()
    assert [record["step"] for record in metrics(finished)] == list(range(1, 41))
    assert metrics(finished)[0].keys() == {
        "step", "stage", "stage_number", "stages", "batch", "loss", "ess", "log_z", "grad_norm", "learning_rate",
        "beta", "seconds", "skipped", "cpu_seconds", "sampling_seconds", "backward_seconds", "waiting_seconds",
        "communication_seconds",
    }  # fmt: skip


def test_report(finished):
    report = json.loads((finished / "report.json").read_text())
    assert report["n"] == 600
    assert 0 < report["ess"] <= 1
    assert 0 < report["acceptance"] <= 1
    observables = report["observables"]
    entry = observables["plaquette"]
    assert entry.keys() >= {"value", "error", "tau_int", "tau_int_error", "n_eff", "exact", "pull", "frozen", "r_hat"}
    assert entry.keys() >= {"reliable", "reason"}
    tail = pareto_tail(log_weights(ChainFile(finished / "ensemble.h5")))
    assert (report["pareto_k"], report["pareto_warning"]) == (tail.k, tail.warning)
    assert observables["polyakov_loop"]["exact"] is None
    assert observables["polyakov_loop"]["pull"] is None
    for name in ("plaquette", "wilson_loop_2x2", "topological_charge_squared"):
        entry = observables[name]
        if entry["error"] is None:  # hardly trained, so the chain may be stuck
            assert entry["reason"].startswith("stuck: ")
            assert entry["pull"] is entry["n_eff"] is None
        else:
            assert abs(entry["pull"]) < 5
            assert entry["n_eff"] == pytest.approx(600 / (2 * entry["tau_int"]))
    text = (finished / "report.txt").read_text()
    assert all(words in text for words in ("W(2,2)", "<Q^2>", "ESS", "Pareto k", "longest rejection run"))
    trusted = "reweighted means can be trusted" if report["ess_reason"] else "the weights can be trusted"
    assert (tail.warning or trusted) in text
    shown = runs.show_run(finished)
    assert "40 of 40 steps" in shown
    assert "600 configurations" in shown
    assert text in shown


def test_the_ess_at_the_end_of_the_training_is_that_of_the_report(tmp_path):
    """Within their errors, where both can be trusted; and so is the acceptance that is expected."""
    weak = Config.of(**SETTINGS | {"action": {"beta": 0.3}, "training": SETTINGS["training"] | {"steps": 8}})
    runs.train_run(weak, tmp_path)
    runs.sample_run(tmp_path, ["sampling.n=3000"])
    report, trained = runs.measure_run(tmp_path), runs.read_trained(tmp_path)
    assert trained.warning == ""
    assert 0.1 < trained.ess < 0.99
    assert abs(trained.ess - report["ess"]) < 4 * math.hypot(trained.ess_error, report["ess_error"])
    assert trained.acceptance == pytest.approx(report["acceptance"], abs=0.05)


def test_figures_of_very_little():
    record = {"step": 1, "loss": None, "ess": None, "grad_norm": None}
    for metrics in ([record], [record, {"step": 2, "loss": 1.0, "ess": 0.5, "grad_norm": 3.0}]):
        figures.training_curve(metrics).savefig(io.BytesIO())
    figures.history(np.zeros(5), "Q").savefig(io.BytesIO())
    figures.weight_histogram(np.array([0.0, -np.inf]), 0.5).savefig(io.BytesIO())


def test_series_are_those_of_the_chain(finished):
    chains = ChainFile(finished / "ensemble.h5")
    charge = observe(chains, {"Q": topological_charge(GaugeField(U1(), (4, 4)))})["Q"]
    assert charge.shape == (1, 600)
    np.testing.assert_array_equal(charge, np.round(charge))
    moved = np.flatnonzero(np.diff(charge[0])) + 1
    assert chains.series("proposals/accepted")[moved].all()


def test_cost_is_written_down(finished):
    costs = read_metrics(finished / "sampling.jsonl")
    assert [(record["updates"], record["made"]) for record in costs] == [(0, 0), (600, 600)]
    assert all(record["cpu_seconds"] > 0 for record in costs)


TRAIN = """
import sys; sys.path.insert(0, %r)
import test_training_runs
test_training_runs.train(sys.argv[1])
""" % os.path.dirname(__file__)  # noqa: UP031  # braces of the code stay readable


def test_killed_training_goes_on_bit_for_bit(finished, tmp_path):
    for first, last in ((0, 20), (20, 38)):
        line = random.randrange(first, last)

        def moment(line=line):
            return (tmp_path / "metrics.jsonl").exists() and len(metrics(tmp_path)) > line

        kill(TRAIN, tmp_path, moment)
        assert len(metrics(tmp_path)) < 40
    runs.train_run(CONFIG, tmp_path)
    assert_same_training(finished, tmp_path)


def test_training_goes_on_from_every_kind_of_leftover(finished, run):
    checkpoint = load_checkpoint(run / "checkpoint.pt")
    shutil.rmtree(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.train, "save_checkpoint", fail_at(36, save_checkpoint))
        with pytest.raises(LatticeFlowsError):
            train(run)
    assert load_checkpoint(run / "checkpoint.pt")["training"]["step"] == 35
    assert len(metrics(run)) == 40
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 41')
    (run / ".checkpoint.pt.partial").write_bytes(b"half")
    runs.train_run(CONFIG, run)
    assert_same_training(finished, run)
    assert_same(checkpoint, load_checkpoint(run / "checkpoint.pt"))
    assert not (run / ".checkpoint.pt.partial").exists()
    assert runs.train_run(changed("training", steps=41), run) == 41
    assert len(metrics(run)) == 41


def fail_at(step, save):
    def saving(path, state):
        if state["training"]["step"] >= step:
            raise LatticeFlowsError("cannot write: No space left on device")
        save(path, state)

    return saving


@pytest.mark.parametrize("lengths", [(150, 350, 600), (1, 600, 600)])
def test_continued_chain_is_the_uninterrupted_one(finished, run, lengths):
    os.unlink(run / "ensemble.h5")
    for n in lengths:
        assert runs.sample_run(run, [f"sampling.n={n}"]) == n
    assert_same_chain(finished, run)


SAMPLE = """
import sys
from lattice_flows import runs
runs.sample.COMMIT_SECONDS = 0.0
runs.sample_run(sys.argv[1], ["sampling.n=100000", *%r])
"""
MIXTURE = [
    'sampling.updates=["flow", "overrelaxation*2", "heatbath", "metropolis", "hmc", "transformed"]',
    "sampling.chains=3",
    "sampling.every=2",
    "sampling.thermalise=4",
    "sampling.hmc_steps=2",
]


@pytest.mark.parametrize("overrides", [[], MIXTURE], ids=["flow", "mixture"])
def test_killed_sampling_goes_on_bit_for_bit(run, overrides):
    path = run / "ensemble.h5"
    os.unlink(path)
    later = time.monotonic() + 300
    pause = random.uniform(0.0, 0.5)

    def moment():
        nonlocal later
        if path.exists() and len(ChainFile(path)) and later > time.monotonic() + 1:
            later = time.monotonic() + pause
        return time.monotonic() > later

    kill(SAMPLE % (overrides,), run, moment)
    stored = ChainFile(path)
    assert len(stored) >= 1
    n = len(stored) // stored.every + 5
    assert runs.sample_run(run, [f"sampling.n={n}", *overrides]) == n
    once = shutil.copytree(run, run.parent / "once", ignore=shutil.ignore_patterns("ensemble.h5"))
    runs.sample_run(once, [f"sampling.n={n}", *overrides])
    assert_same_chain(run, once)


def test_weights_that_changed_end_a_chain(run):
    runs.train_run(changed("training", steps=45), run)
    with pytest.raises(InvalidInput, match=r"made with weights of step 40, not 45: --new keeps it as"):
        runs.sample_run(run, ["sampling.n=2000"])
    shutil.copy(run / "ensemble.h5", run.parent / "kept.h5")
    for override, words in {
        "seed=6": "seed 5, not 6",
        "batch=7": "batch 100, not 7",
        "chains=2": "chains 1, not 2",
        "every=3": "every 1, not 3",
        'updates=["flow*2"]': r"updates \('flow',\), not \('flow\*2',\)",
    }.items():
        with pytest.raises(InvalidInput, match=f"made with {words}"):
            runs.sample_run(run, [f"sampling.{override}"])
    assert (run / "ensemble.h5").read_bytes() == (run.parent / "kept.h5").read_bytes()


@pytest.mark.parametrize("version", [1, 2])
def test_an_ensemble_of_an_earlier_version_is_refused(run, version):
    """In one line, whatever is done with it; the file stays as it is."""
    path = run / "ensemble.h5"
    path.unlink()
    with h5py.File(path, "w", libver=("v108", "v108")) as old:
        old.attrs.update({"format": "lattice_flows ensemble", "version": version})
    before = path.read_bytes()
    for use in (runs.measure_run, runs.sample_run):
        with pytest.raises(InvalidInput, match=f"version {version}") as error:
            use(run)
        assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_contradicting_config(run):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    other = changed("action", beta=2.0)
    with pytest.raises(InvalidInput, match=r"holds a run with other settings: action.beta was 1.0 and is now 2.0"):
        runs.train_run(other, run)
    with pytest.raises(InvalidInput, match=r"training.steps was 40 and is now 39"):
        runs.train_run(changed("training", steps=39), run)
    with pytest.raises(InvalidInput, match=r"holds a run with other settings: action.beta.*; leave the config out"):
        runs.sample_run(run, config=other)
    for override in ("flow.layers=2", "training.steps=41"):
        with pytest.raises(InvalidInput, match=r"only \[sampling\] and training.device can change after training"):
            runs.sample_run(run, [override])
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("beta = 1.0", "beta = 2.0"))
    with pytest.raises(InvalidInput, match=r"other settings: action.beta was 1.0"):
        runs.train_run(other, run)
    with pytest.raises(InvalidInput, match=r"checkpoint.pt and config.toml contradict each other: action.beta"):
        runs.sample_run(run)


@pytest.mark.parametrize(
    ("lattice", "words"),
    [
        ({"group": "E(8)"}, r"unknown group 'E\(8\)'.* \(x.toml: lattice\)"),
        ({"group": "SU(1)"}, r"unknown group 'SU\(1\)'"),
        ({"extents": (2, 4)}, r"too small.* \(x.toml: lattice, flow\)"),
    ],
)
def test_what_does_not_fit_leaves_no_trace(tmp_path, lattice, words):
    with pytest.raises(InvalidInput, match=words):
        runs.train_run(changed("lattice", **lattice), tmp_path / "run", "x.toml")
    assert os.listdir(tmp_path) == []


def test_missing_pieces(run, tmp_path):
    with pytest.raises(InvalidInput, match="a folder made by lattice-flows train or sample is expected"):
        runs.sample_run(tmp_path)
    os.unlink(run / "ensemble.h5")
    with pytest.raises(InvalidInput, match="nothing is sampled yet"):
        runs.measure_run(run)
    os.unlink(run / "checkpoint.pt")
    with pytest.raises(InvalidInput, match="nothing is trained yet"):
        runs.sample_run(run)
    save_checkpoint(run / "checkpoint.pt", {"weights": 1})
    with pytest.raises(InvalidInput, match="a checkpoint of a run is expected, got one with weights"):
        runs.train_run(CONFIG, run)


def test_broken_pieces(run):
    for name, use in (("checkpoint.pt", runs.sample_run), ("ensemble.h5", runs.measure_run)):
        data = (run / name).read_bytes()
        (run / name).write_bytes(data[:-100])
        with pytest.raises(InvalidInput, match="this file is truncated"):
            use(run)
        assert (run / name).stat().st_size == len(data) - 100
    with pytest.raises(InvalidInput, match="this file is truncated"):
        runs.train_run(CONFIG, run)


def test_folder_in_use(run):
    for use in (runs.sample_run, lambda folder: runs.train_run(CONFIG, folder)):
        with files.locked(run), pytest.raises(LatticeFlowsError, match="is in use by another process"):
            use(run)
