"""Jobs on a real Slurm with two virtual nodes: from submission to the end of a run, and everything in between."""

import itertools
import json
import re
import time

import pytest
import torch
from cluster import THEORY, command, facts, wait_for, wait_until
from command_line import fails, out

from lattice_flows import cli
from lattice_flows.cluster import jobs
from lattice_flows.io import ChainFile, read_metrics
from lattice_flows.runs.folder import ENSEMBLE, METRICS, REPORT, read_checkpoint

CONFIG = f"""
{THEORY}
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


def submitted(config, run, site):
    """The words of a command line that submits a run."""
    return ["submit", str(config), "--out", str(run), "--site", str(site)]


def submit(config, run, site, *words):
    """The ids of the jobs that it submits, in order."""
    before = len(jobs.read_jobs(run)) if run.exists() else 0
    assert cli.main([*submitted(config, run, site), *words]) == 0
    return [job.job for job in jobs.read_jobs(run)[before:]]


def status(*runs, capsys):
    """The rows of the table, by column."""
    capsys.readouterr()
    head, *rows = (re.split(r" {2,}", line) for line in out(capsys, "status", *map(str, runs)).splitlines())
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
    for before, after in itertools.pairwise(known):
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
    assert 0 < float(rows[0]["ESS"].partition("(")[0].removeprefix("< ")) <= 1
    assert all(re.fullmatch(r"[\d.e+]+/s", row["rate"]) for row in rows[:2])


def running_steps(run, job, least):
    """Waits until a training has made some steps, and complains if its job ends before."""

    def made():
        known = facts(job)
        if known["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING"):
            output = run / f"train-{job}.out"
            raise AssertionError(f"job {job} is {known['JobState']}: {output.read_text() if output.exists() else ''}")
        return (run / METRICS).exists() and len(read_metrics(run / METRICS)) >= least

    wait_for(made, f"step {least}", 60)


def started(config, run, site, *words):
    """The job of a training that has made its first steps, and its folder.

    On a busy machine srun now and then does not get through to the daemons of two nodes, and the job fails before it
    begins, or hangs there: it is then submitted again, twice at most.
    """
    for attempt in range(3):
        folder = run.with_name(f"{run.name}-{attempt}")
        (job,) = submit(config, folder, site, *words)
        try:
            running_steps(folder, job, 10)
            return job, folder
        except AssertionError as error:
            failure = error
            jobs.cancel([job])
    raise failure


def next_life_soon(job):
    """A requeued job waits for two minutes, in case that its nodes are ill; here it is enough that they are idle."""
    wait_for(lambda: facts(job)["JobState"] == "PENDING", "the job to be requeued")
    wait_for(lambda: command("sinfo", "-h", "-o", "%t") == "idle", "idle nodes")
    time.sleep(12)  # what is left of the old step on a node would be in the way of the new one, which has its number
    command("scontrol", "update", f"JobId={job}", "StartTime=now")


def test_interrupted_and_requeued_until_complete(mpi, config, site, tmp_path, capsys):
    """The signal before the time limit: a checkpoint, a second life, and the weights of a run that nothing stopped."""
    other = tmp_path / "other"
    long = ("training.steps=150", "training.batch=512", "training.checkpoint_every=1000", *TWO_NODES)
    job, run = started(config, tmp_path / "run", site, *long)
    command("scancel", "--signal=USR1", "--batch", job)
    next_life_soon(job)
    done = len(read_metrics(run / METRICS))
    assert read_checkpoint(run)["training"]["step"] == done < 150
    known = wait_until(job, "COMPLETED")
    assert known["Restarts"] == "1"
    text = (run / f"train-{job}.out").read_text()
    assert f"asked to stop: checkpoint written at step {done} of 150" in text
    assert f"goes on from step {done} of 150" in text
    assert [record["step"] for record in read_metrics(run / METRICS)] == list(range(1, 151))
    (uninterrupted,) = submit(config, other, site, *long)
    wait_until(uninterrupted, "COMPLETED")
    assert facts(uninterrupted)["Restarts"] == "0"
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_array_of_seeds(finished, site, capsys):
    """Each task has its own seed and folder; what is measured after it is of the same task."""
    run, _ = finished
    wait_for(lambda: (run / REPORT).exists(), "the end of the run")
    sample, measure = submit(run / "config.toml", run, site, "--jobs", "sample,measure", "--array", "3-4")
    for task in (3, 4):
        wait_until(f"{measure}_{task}", "COMPLETED")
        assert facts(f"{sample}_{task}")["JobState"] == "COMPLETED"
    three, four = (ChainFile(run / f"seed-{k}" / ENSEMBLE) for k in (3, 4))
    assert (three.attributes["seed"], four.attributes["seed"]) == (3, 4)
    assert three.n_updates == four.n_updates == 50
    assert not (three.series("action") == four.series("action")).all()
    assert (run / "seed-4" / REPORT).exists()


def test_cancelled_is_over(config, site, tmp_path, capsys):
    """scancel ends a job and does not bring it back, and what waits for it is not begun."""
    run = tmp_path / "run"
    train, sample = submit(config, run, site, LONG, "--jobs", "train,sample", "--time", "5")
    running_steps(run, train, 1)
    capsys.readouterr()
    error = fails(capsys, *submitted(config, run, site), LONG)
    assert f"job {train} of {run} (train) is RUNNING: wait for it" in error
    command("scancel", train)
    assert wait_for(lambda: facts(train)["JobState"] == "CANCELLED" and facts(train), "the end")["Restarts"] == "0"
    wait_for(lambda: facts(sample)["JobState"] == "CANCELLED", "the end of what waits")
    time.sleep(1)
    assert facts(train)["JobState"] == "CANCELLED"
    assert status(run, capsys=capsys)[0]["state"] == "CANCELLED"


def test_rejected(config, site, tmp_path, capsys):
    """With Slurm's own words, and nothing of the chain left in the queue."""
    error = fails(capsys, *submitted(config, tmp_path / "run", site), "--partition", "nowhere")
    assert "Slurm rejected the job: invalid partition specified: nowhere; Batch job submission failed: " in error
    profile = tmp_path / "site.toml"
    profile.write_text('[sample]\npartition = "nowhere"\n')
    error = fails(capsys, *submitted(config, tmp_path / "chain", profile), "--jobs", "train,sample")
    (job,) = jobs.read_jobs(tmp_path / "chain")
    assert f"{job.job}, submitted before it, was cancelled" in error
    wait_for(lambda: facts(job.job)["JobState"] == "CANCELLED", "the end")


def test_wrong_launcher_is_explained(mpi, config, tmp_path):
    """Two worlds of one process each: each of them sees it, and says what to do."""
    profile = tmp_path / "site.toml"
    profile.write_text('[environment]\nlauncher = "srun --mpi=none"\n')
    (job,) = submit(config, tmp_path / "run", profile, *TWO_NODES)
    wait_for(lambda: facts(job)["JobState"] == "FAILED", "the failure")
    text = (tmp_path / "run" / f"train-{job}.out").read_text()
    assert (
        "LATTICE_FLOWS_RANKS=2 says that 2 processes work together, but this one is in an MPI world of size 1" in text
    )
    assert "--mpi=pmi2" in text
    assert not (tmp_path / "run" / METRICS).exists()
