"""Jobs on a real Slurm with two virtual nodes: from submission to the end of a run, and everything in between."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from cluster import command, facts, wait_for, wait_until

from lattice_flows import cli
from lattice_flows.folders import CHECKPOINT, ENSEMBLE, METRICS, REPORT, read_checkpoint
from lattice_flows.io import ChainFile, read_metrics
from lattice_flows.slurm import jobs

CONFIG = """
[lattice]
group = "U1"
sites = [4, 4]
[action]
beta = 1.0
[flow]
layers = 2
hidden = [4]
bins = 4
[training]
steps = 5
batch = 16
device = "cpu"
[sampling]
n = 50
batch = 50
chains = 2
"""
LONG = "training.steps=100000"
TWO_NODES = ("--nodes", "2", "--time", "5")

pytestmark = pytest.mark.usefixtures("slurm")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "site.toml"
    path.write_text('[environment]\nsignal_seconds = 10\n[defaults]\ntime = "5"\n')
    return path


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "u1.toml"
    path.write_text(CONFIG)
    return path


def submit(config, run, site, *words):
    """The ids of the jobs that it submits, in order."""
    before = len(jobs.read_jobs(run)) if run.exists() else 0
    assert cli.main(["submit", str(config), "--out", str(run), "--site", str(site), *words]) == 0
    return [job.job for job in jobs.read_jobs(run)[before:]]


def status(*runs, capsys):
    """The rows of the table, by column."""
    capsys.readouterr()
    assert cli.main(["status", *map(str, runs)]) == 0
    head, *rows = (re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def weights(run):
    return read_checkpoint(run)["training"]["flow"]


@pytest.fixture(scope="module")
def finished(slurm, mpi, site, tmp_path_factory):
    """A run that was trained, sampled and measured on two nodes, in one command, with the ids of its jobs."""
    folder = tmp_path_factory.mktemp("it's a run")
    (folder / "u1.toml").write_text(CONFIG)
    ids = submit(folder / "u1.toml", folder / "run", site, "--jobs", "train,sample,measure", *TWO_NODES)
    (folder / "u1.toml").unlink()  # the run has its settings
    return folder / "run", ids


def test_chain_on_two_nodes(finished, capsys):
    """Each job begins after the one before, and has the world of MPI that it asked for."""
    run, (train, sample, measure) = finished
    assert facts(sample)["Dependency"].startswith(f"afterok:{train}(")
    assert facts(measure)["Dependency"].startswith(f"afterok:{sample}(")
    assert [row["state"] for row in status(run, capsys=capsys)][1:] == ["PENDING (Dependency)"] * 2
    known = [wait_until(job, "COMPLETED") for job in (train, sample, measure)]
    for before, after in zip(known, known[1:], strict=False):
        assert before["EndTime"] <= after["StartTime"]
    assert (known[0]["NodeList"], known[0]["NumTasks"]) == ("n[1-2]", "2")
    # of a world of another size than this, every process would have complained
    assert "export LATTICE_FLOWS_RANKS=$SLURM_NTASKS" in (run / "train.sbatch").read_text()
    assert len(read_metrics(run / METRICS)) == 5
    assert (ChainFile(run / ENSEMBLE).n_updates, ChainFile(run / ENSEMBLE).chains) == (50, 2)
    assert json.loads((run / REPORT).read_text())["n"] == 100
    rows = status(run, capsys=capsys)
    assert [(row["job"], row["id"], row["state"], row["step"], row["remaining"]) for row in rows] == [
        ("train", train, "COMPLETED", "5/5", "-"),
        ("sample", sample, "COMPLETED", "50/50", "-"),
        ("measure", measure, "COMPLETED", "-", "-"),
    ]
    assert 0 < float(rows[0]["ESS"]) <= 1
    assert all(re.fullmatch(r"[\d.e+]+/s", row["rate"]) for row in rows[:2])
    for k in known: print(k["SubmitTime"],k["EligibleTime"],k["StartTime"],k["EndTime"])
    print(subprocess.getoutput(f"cat '{str(run).replace(chr(39), chr(39)+chr(34)+chr(39)+chr(34)+chr(39))}'/*.out"))
    assert 0
