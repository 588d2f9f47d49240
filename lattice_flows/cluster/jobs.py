"""Slurm's commands, and jobs.jsonl, the list of submitted jobs in the folder of a run."""

import dataclasses
import logging
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import MetricsFile, read_metrics

log = logging.getLogger(__name__)

JOBS = "jobs.jsonl"
# the states of a job that is over
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that was submitted: its id, its part of the run, its tasks if it is an array, the job that it waits for."""

    job: str
    kind: str
    ranks: int
    array: str | None = None
    after: str | None = None
    submitted: str = ""


class Queued(NamedTuple):
    """The state of a job or of a task of an array; ``left`` until its time limit, in Slurm's format."""

    state: str
    reason: str
    left: str


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a run in the order of their submission.

    Raises:
        InvalidInput: the file is broken.
    """
    try:
        return [Job(**record) for record in read_metrics(folder / JOBS)]
    except TypeError as error:
        raise InvalidInput(f"one job a line is expected: {error} ({folder / JOBS})") from error


def record(folder: Path, job: Job) -> None:
    """Append a job to the list of a run.

    Raises:
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    with MetricsFile(folder / JOBS, keep=len(read_metrics(folder / JOBS))) as jobs:
        jobs.append({**dataclasses.asdict(job), "submitted": time.strftime("%Y-%m-%d %H:%M:%S")})
        jobs.sync()


def submit(script: Path, dependency: str | None = None) -> str:
    """Hand a script to sbatch; return the id of the job. Slurm cancels a job if its dependency can never be met.

    Raises:
        LatticeFlowsError: there is no sbatch, or Slurm rejects the job.
    """
    if shutil.which("sbatch") is None:
        raise LatticeFlowsError(
            "sbatch is not here: submit from a login node of a cluster that runs Slurm; --dry-run prints the script"
        )
    waiting = [] if dependency is None else [f"--dependency={dependency}", "--kill-on-invalid-dep=yes"]
    result = _run(["sbatch", "--parsable", *waiting, str(script)])
    if result.returncode != 0:
        raise LatticeFlowsError(f"Slurm rejected the job: {message(result.stderr)} ({script})")
    return result.stdout.strip().partition(";")[0]  # the name of a cluster follows


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs."""
    if jobs:
        _run(["scancel", *jobs])


def queue(jobs: Iterable[str]) -> dict[str, Queued] | None:
    """The states of jobs by their ids, of tasks of an array by ``12_3``; None where there is no Slurm to ask.

    A job that ended some minutes ago is unknown to Slurm, and left out.
    """
    ids = sorted(set(jobs))
    if shutil.which("squeue") is None:
        return None
    if not ids:
        return {}
    # one unknown job alone is an error, among others it is left out
    wanted = ",".join(ids if len(ids) > 1 else [*ids, *ids])
    result = _run(["squeue", "--noheader", "--array", "--states=all", f"--jobs={wanted}", "--format=%i|%T|%r|%L"])
    if result.returncode != 0 and "Invalid job id" not in result.stderr:
        log.warning("Slurm does not answer: %s", message(result.stderr))
        return None
    rows = (line.split("|") for line in result.stdout.splitlines())
    return {job: Queued(*words) for job, *words in rows}


def tasks(array: str) -> list[int]:
    """The indices of the tasks of an array as sbatch writes them: ``0-7``, ``1,3,5-7``, ``0-6:2``, ``0-99%10``.

    Raises:
        InvalidInput: the text is no such list.

    Example:
        >>> tasks("1,4-8:2%2")
        [1, 4, 6, 8]
    """
    part = r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?"
    if not re.fullmatch(rf"{part}(,{part})*(%[1-9]\d*)?", array):
        raise InvalidInput(f"an array is such as 0-7, 1,3,5 or 0-99%10, got {array!r} (command line: --array)")
    indices: set[int] = set()
    for first, last, step in re.findall(part, array.partition("%")[0]):
        if int(last or first) < int(first):
            raise InvalidInput(f"an array must not end before it begins, got {array!r} (command line: --array)")
        indices.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return sorted(indices)


def message(text: str) -> str:
    """The complaint of a command of Slurm, without its name at the beginning of each line.

    Example:
        >>> message("sbatch: error: Batch job submission failed: Invalid account\\n")
        'Batch job submission failed: Invalid account'
    """
    lines = (re.sub(r"^\w+: (error: |fatal: )?", "", line).strip() for line in text.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "no reason given"


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, errors="replace")
