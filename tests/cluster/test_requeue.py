"""When a script requeues its job, with a stand-in for lattice-flows that ends as it is told to."""

from pathlib import Path

import pytest
from cluster import THEORY, command, facts, wait_for

from lattice_flows import cli
from lattice_flows.cluster import jobs

PROGRAM = """#!/bin/bash
{trap}
if [ "$1" = measure ]; then set -- --out "$2"; fi
while [ "$1" != --out ]; do shift; done
mkdir -p "$2"
{work}
touch "$2/started"
sleep 100 & wait
"""
SAVES, DIES = "trap 'exit 75' USR1", ""
STEP = 'echo "a step" | tee -a "$2/metrics.jsonl" "$2/measurements.h5" >> "$2/sampling.jsonl"'

pytestmark = pytest.mark.usefixtures("slurm")


@pytest.fixture
def start(tmp_path):
    """Submits a run whose program behaves as described; returns the id of its job and the folder of the run."""

    def submit(trap, work, *words):
        program = tmp_path / "bin" / "lattice-flows"
        program.parent.mkdir()
        program.write_text(PROGRAM.format(trap=trap, work=work))
        program.chmod(0o755)
        site, config, run = (tmp_path / name for name in ("site.toml", "u1.toml", "run"))
        site.write_text(f'[environment]\nlauncher = ""\nsetup = ["export PATH={program.parent}:$PATH"]\n')
        config.write_text(THEORY)
        if "measure" in words:
            run.mkdir()
            (run / "ensemble.h5").touch()
        assert cli.main(["submit", str(config), "--out", str(run), "--site", str(site), "--time", "5", *words]) == 0
        return jobs.read_jobs(run)[-1].job, run

    return submit


def interrupt(job, folder):
    wait_for((folder / "started").exists, f"{job} to work")
    command("scancel", "--signal=USR1", "--batch", job)


@pytest.mark.parametrize(("trap", "kind"), [(SAVES, "train"), (DIES, "train"), (SAVES, "measure")])
def test_progress_is_requeued(trap, kind, start):
    """Also where the process did not live to say that it was interrupted: what it has made is not less."""
    job, run = start(trap, STEP, "--jobs", kind)
    interrupt(job, run)

    def requeued():  # it may be COMPLETING for a while
        known = facts(job)
        return (known["Restarts"], known["JobState"]) == ("1", "PENDING")

    wait_for(requeued, f"{job} to be requeued")
    command("scancel", job)


@pytest.mark.parametrize("trap", [SAVES, DIES], ids=["saves", "dies"])
def test_no_progress_is_not_requeued_for_ever(trap, start):
    job, run = start(trap, "")
    interrupt(job, run)
    known = wait_for(lambda: facts(job)["JobState"] == "FAILED" and facts(job), "the end")
    assert (known["Restarts"], known["ExitCode"]) == ("0", "75:0" if trap else "138:0")
    assert "interrupted before the first step, and not requeued" in Path(known["StdOut"]).read_text()


def test_an_error_is_not_requeued(start):
    job, _ = start("", f"{STEP}; exit 2")
    known = wait_for(lambda: facts(job)["JobState"] == "FAILED" and facts(job), "the end")
    assert (known["Restarts"], known["ExitCode"]) == ("0", "2:0")


def test_one_task_of_an_array_is_requeued_alone(start):
    """That with the plain id of the array, by which Slurm would take all of them."""
    array, run = start(SAVES, STEP, "--array", "3-4", 'sampling.updates=["heatbath"]')
    for task in (3, 4):
        wait_for((run / f"seed-{task}" / "started").exists, f"task {task} to work")
    (same,) = (task for task in (3, 4) if facts(f"{array}_{task}")["JobId"] == array)
    interrupt(f"{array}_{same}", run / f"seed-{same}")
    wait_for(lambda: facts(f"{array}_{same}")["Restarts"] == "1", "the task to be requeued")
    other = facts(f"{array}_{7 - same}")
    assert (other["JobState"], other["Restarts"]) == ("RUNNING", "0")
    command("scancel", array)
