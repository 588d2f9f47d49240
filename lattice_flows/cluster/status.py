"""The state of jobs and the progress of runs, as one table."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lattice_flows.cluster import jobs
from lattice_flows.cluster.jobs import Job, Queued
from lattice_flows.errors import InvalidInput
from lattice_flows.reports.columns import columns

HEADER = ("run", "job", "id", "state", "step", "ESS", "rate", "remaining", "time left")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of one part of a run.

    Attributes:
        done, total: steps of the training or updates of the chains; of a measurement 0 or 1, of 1.
        rate: of them in a second; nan where it is not known.
        ess: that of recent training steps; nan where there is none.
    """

    done: int
    total: int
    rate: float = math.nan
    ess: float = math.nan

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done >= self.total

    @property
    def remaining(self) -> float:
        """The seconds that are left at this rate."""
        return (self.total - self.done) / self.rate


def status_table(folders: Iterable[str | Path]) -> str:
    """A row for every job of runs, or every part that was made without one; then the errors of the other folders.

    Raises:
        InvalidInput: no run, or a broken file, in every folder.
    """
    parts, wrong = [], []
    for folder in map(Path, folders):
        try:
            for row in _rows(folder):
                run, kind, job, _ = row
                parts.append((row, read_progress(run, kind, job.ranks if job else 1)))
        except InvalidInput as error:
            wrong.append(error)
    if not parts and wrong:
        raise wrong[0]
    known = jobs.queue(job.job for (_, _, job, _), _ in parts if job)
    table = columns([HEADER, *(_words(row, progress, known) for row, progress in parts)])
    return table + "".join(f"error: {error}\n" for error in wrong)


Row = tuple[Path, str, Job | None, str]  # the folder, train, sample or measure, the job, and its id or that of its task


def _rows(folder: Path) -> Iterator[Row]:
    """The last job of each kind, and the parts in the folder that no job made."""
    from lattice_flows.runs.folder import CHECKPOINT, ENSEMBLE, METRICS, REPORT, load_run

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
        if job is None:
            if there:
                yield folder, kind, None, "-"
        elif job.array is None:
            yield folder, kind, job, job.job
        else:
            for task in jobs.tasks(job.array):
                yield folder / f"seed-{task}", kind, job, f"{job.job}_{task}"


def _words(row: Row, progress: Progress | None, known: dict[str, Queued] | None) -> Sequence[str]:
    folder, kind, job, name = row
    queued = (known or {}).get(name)
    step = "-" if kind == "measure" or progress is None else f"{progress.done}/{progress.total}"
    words = [str(folder), kind, name, _state(job, queued, known is not None, progress), step, "-", "-", "-", "-"]
    if progress is not None:
        words[5] = "-" if math.isnan(progress.ess) else f"{progress.ess:.3f}"
        words[6] = "-" if math.isnan(progress.rate) else f"{progress.rate:.3g}/s"
        words[7] = "-" if progress.complete or math.isnan(progress.remaining) else _duration(progress.remaining)
    if queued is not None and queued.state == "RUNNING":
        words[8] = queued.left
    return words


def _state(job: Job | None, queued: Queued | None, asked: bool, progress: Progress | None) -> str:
    """Slurm's word, or else that of the folder."""
    if job is None or not asked:
        return "no job" if job is None and asked else "-"
    if queued is None:
        return "gone, complete" if progress is not None and progress.complete else "gone, not complete"
    return queued.state if queued.reason in ("None", "") else f"{queued.state} ({queued.reason})"


def read_progress(folder: Path, kind: str, ranks: int = 1) -> Progress | None:
    """The progress of the training, the sampling or the measuring of a run; None before there is a run.

    Args:
        kind: train, sample or measure.
        ranks: that sampling is shared by, since its records are of the time of all of them together.

    Raises:
        InvalidInput: a broken file.
    """
    from lattice_flows.runs.folder import CONFIG, REPORT, load_run

    if kind == "measure":
        return Progress(done=int((folder / REPORT).exists()), total=1)
    if not (folder / CONFIG).exists():
        return None
    config = load_run(folder)
    return _training(folder, config) if kind == "train" else _sampling(folder, config, ranks)


def _training(folder: Path, config: Any) -> Progress:
    from lattice_flows.io import read_metrics
    from lattice_flows.runs import training_progress
    from lattice_flows.runs.folder import METRICS, beginning

    found = training_progress(read_metrics(folder / METRICS), beginning(folder, config))
    rate = 1 / found.seconds if found.seconds > 0 else math.nan
    return Progress(done=found.steps, total=found.total, rate=rate, ess=found.ess)


def _sampling(folder: Path, config: Any, ranks: int) -> Progress:
    from lattice_flows.config import loads
    from lattice_flows.io import ChainFile, read_metrics
    from lattice_flows.runs.folder import COSTS, ENSEMBLE

    path, total = folder / ENSEMBLE, config.sampling.n * config.sampling.every
    if not path.exists():
        return Progress(done=0, total=total)
    stored = ChainFile(path)
    if "config" in stored.attributes:  # the settings of the chains: those in the config of a model's run may differ
        total = loads(stored.attributes["config"], str(path)).sampling.n * stored.every
    recent = [record for record in read_metrics(folder / COSTS) if record["made"]][-5:]
    seconds = sum(record.get("seconds", record["cpu_seconds"] / ranks) for record in recent)
    rate = sum(record["made"] for record in recent) / seconds if seconds > 0 else math.nan
    return Progress(done=stored.n_updates, total=total, rate=rate)


def _duration(seconds: float) -> str:
    """In Slurm's format, 2-03:04:05."""
    days, rest = divmod(math.ceil(seconds), 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock
