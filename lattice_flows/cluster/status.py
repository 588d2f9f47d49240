"""The state of jobs and the progress of runs, as one table."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lattice_flows.cluster import jobs
from lattice_flows.cluster.jobs import Job, Queued
from lattice_flows.config import loads
from lattice_flows.errors import InvalidInput, SomeFailed
from lattice_flows.io import ChainFile
from lattice_flows.reports.columns import columns
from lattice_flows.runs import training_progress
from lattice_flows.runs.folder import (
    CHECKPOINT,
    CONFIG,
    ENSEMBLE,
    METRICS,
    REPORT,
    beginning,
    load_run,
    read_costs,
    read_steps,
)
from lattice_flows.runs.trained import read_trained


class Progress(NamedTuple):
    """The steps of a training, the updates of chains, or a measurement as 0 or 1 of 1; nan is a number not known."""

    done: int
    total: int
    rate: float = math.nan
    """Steps or updates a second."""
    ess: str = "-"
    """That of the flow at the end of its training, else of the stage in its last steps."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done >= self.total


class Row(NamedTuple):
    """One part of a run: its folder, train, sample or measure, the job, its id or that of its task, the progress."""

    folder: Path
    kind: str
    job: Job | None
    name: str
    progress: Progress | None


def status_table(folders: Iterable[str | Path]) -> str:
    """A row for every job of runs, or every part that was made without one.

    Raises:
        SomeFailed: no run, or a broken file, in some folders; its answer is the table of the others.
        InvalidInput: so it is in every folder.
    """
    rows: list[Row] = []
    wrong = list[Exception]()
    for folder in folders:
        try:
            rows.extend(_rows(Path(folder)))  # which keeps the rows before a broken file
        except InvalidInput as error:
            wrong.append(error)
    if not rows and wrong:
        raise wrong[0]
    known = jobs.queue(row.job.job for row in rows if row.job)
    header = ("run", "job", "id", "state", "step", "ESS", "rate", "remaining", "time left")
    table = columns([header, *(_words(row, known) for row in rows)])
    if wrong:
        raise SomeFailed(table, wrong)
    return table


def _rows(folder: Path) -> Iterator[Row]:
    """The last job of each kind, and the parts in the folder that no job made."""
    uses_flow = load_run(folder).sampling.uses_flow
    last = {job.kind: job for job in jobs.read_jobs(folder)}
    present = {
        "train": (folder / METRICS).exists() or (folder / CHECKPOINT).exists(),
        "sample": (folder / ENSEMBLE).exists(),
        "measure": (folder / REPORT).exists(),
    }
    if not last and not any(present.values()):
        present["train" if uses_flow else "sample"] = True
    for kind, there in present.items():
        job = last.get(kind)
        if job is None or job.array is None:
            if job or there:
                yield Row(folder, kind, job, job.job if job else "-", _progress(folder, kind, job.ranks if job else 1))
        else:
            for task in jobs.tasks(job.array):
                own = folder / f"seed-{task}"
                yield Row(own, kind, job, f"{job.job}_{task}", _progress(own, kind, job.ranks))


def _words(row: Row, known: dict[str, Queued] | None) -> Sequence[str]:
    queued = (known or {}).get(row.name)
    step = ess = rate = remaining = "-"
    if (progress := row.progress) is not None:
        step = "-" if row.kind == "measure" else f"{progress.done}/{progress.total}"
        ess = progress.ess
        rate = "-" if math.isnan(progress.rate) else f"{progress.rate:.3g}/s"
        if not progress.complete and not math.isnan(progress.rate):
            remaining = _duration((progress.total - progress.done) / progress.rate)
    left = queued.left if queued and queued.state == "RUNNING" else "-"
    return str(row.folder), row.kind, row.name, _state(row, queued, known is not None), step, ess, rate, remaining, left


def _state(row: Row, queued: Queued | None, asked: bool) -> str:
    """Slurm's word, or else that of the folder."""
    if row.job is None or not asked:
        return "no job" if asked else "-"
    if queued is None:
        return "gone, complete" if row.progress is not None and row.progress.complete else "gone, not complete"
    return queued.state if queued.reason in ("None", "") else f"{queued.state} ({queued.reason})"


def _progress(folder: Path, kind: str, ranks: int = 1) -> Progress | None:
    """The progress of one part of a run; None before there is a run. Records are of the time of all ranks together."""
    if kind == "measure":
        return Progress(int((folder / REPORT).exists()), 1)
    if not (folder / CONFIG).exists():
        return None
    config = load_run(folder)
    if kind == "train":
        found = training_progress(read_steps(folder), beginning(folder, config), read_trained(folder))
        rate = 1 / found.seconds if found.seconds > 0 else math.nan
        return Progress(found.steps, found.total, rate, found.ess)
    path, total = folder / ENSEMBLE, config.sampling.n * config.sampling.every
    if not path.exists():
        return Progress(0, total)
    stored = ChainFile(path)
    if "config" in stored.attributes:  # the settings of the chains: those in the config of a model's run may differ
        total = loads(stored.config, str(path)).sampling.n * stored.every
    costs = read_costs(folder)
    if costs:  # as the last command wanted them
        total = costs[-1].get("wanted", total)
    recent = [record for record in costs if record["made"]][-5:]
    seconds = sum(record.get("seconds", record["cpu_seconds"] / ranks) for record in recent)
    rate = sum(record["made"] for record in recent) / seconds if seconds > 0 else math.nan
    return Progress(stored.n_updates, total, rate)


def _duration(seconds: float) -> str:
    """In Slurm's format, 2-03:04:05."""
    days, rest = divmod(math.ceil(seconds), 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
