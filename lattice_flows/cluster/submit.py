"""Submission of a run: check and keep its settings, write its job scripts, and chain the jobs."""

import dataclasses
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lattice_flows import models
from lattice_flows.cluster import jobs
from lattice_flows.cluster.jobs import Job
from lattice_flows.cluster.profile import KINDS, Resources, load_profile
from lattice_flows.cluster.script import fill
from lattice_flows.config import Config, load
from lattice_flows.errors import InvalidInput, LatticeFlowsError
from lattice_flows.io import files
from lattice_flows.runs.folder import CHECKPOINT, CONFIG, ENSEMBLE, MODEL, check_same_run, write_config
from lattice_flows.runs.train import training_stages


def submit_run(
    source: str | Path,
    overrides: Iterable[str] = (),
    folder: str | Path | None = None,
    kinds: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    *,
    imports: Sequence[str] = (),
    site: str | Path | None = None,
    array: str | None = None,
    after: str | None = None,
    dry_run: bool = False,
) -> str:
    """Submit the jobs of a run, each to begin when the one before has succeeded; return their list in words.

    The settings go to config.toml in the folder of the run at once: jobs that wait do not need the file `source`.

    Args:
        source: TOML file of settings.
        overrides: settings that replace those in the file.
        folder: of the run. Default: ``runs/NAME``, of a config NAME.toml.
        kinds: of ``train``, ``sample``, ``measure``, in this order. Default: ``train``, or ``sample`` where no update
            needs a flow.
        options: resources that the jobs ask for, before those of the site profile, by the names in `Resources`.
        imports: modules to import first, which the config then names.
        site: as in `load_profile`.
        array: makes the sampling, and the measuring after it, an array of jobs, such as ``0-7``: its task k has the
            seed k, and the run ``seed-k`` in the folder.
        after: the job that the first one waits for.
        dry_run: returns the scripts instead, and does nothing.

    Raises:
        InvalidInput: settings, options or a site profile that cannot be, or that contradict the run in the folder;
            nothing there to sample or to measure; or a job of the run that is not over.
        LatticeFlowsError: no Slurm here, Slurm rejects a job (those before it in the call are then cancelled), or the
            folder is in use, or cannot be written to.
    """
    folder = Path("runs", Path(source).stem) if folder is None else Path(folder)
    profile = load_profile(site)
    config = _checked_config(source, overrides, imports, folder)
    kinds = tuple(kinds) or (("train",) if config.sampling.uses_flow else ("sample",))
    _check_kinds(kinds, folder, config.sampling.uses_flow, array, after)
    asks = {kind: profile.resources(kind, options or {}) for kind in kinds}
    environment = profile.environment
    if config.imports:  # modules beside the config: jobs load its copy in the folder of the run
        line = f"export PYTHONPATH={shlex.quote(str(Path(source).parent.absolute()))}${{PYTHONPATH:+:$PYTHONPATH}}"
        environment = dataclasses.replace(environment, setup=(*environment.setup, line))
    copy, run = str(folder / CONFIG), str(folder)
    arguments = {
        "train": [copy, run],
        "sample": [run] if config.sampling.uses_flow or array is None else [copy, run],
        "measure": [run],
    }
    arrays = {kind: None if kind == "train" else array for kind in kinds}
    scripts = {kind: fill(kind, folder, arguments[kind], asks[kind], environment, arrays[kind]) for kind in kinds}
    if dry_run:
        return _shown(scripts, folder, after, arrays)
    _check_idle(folder, after)
    files.make_folder(folder)
    with files.locked(folder):  # and no longer, since a job may begin as soon as it is submitted
        write_config(folder, config)
        for kind, text in scripts.items():
            files.write(folder / f"{kind}.sbatch", text.encode())
    return _submit(asks, folder, after, arrays)


def _checked_config(source: str | Path, overrides: Iterable[str], imports: Sequence[str], folder: Path) -> Config:
    """The config, when lattice-flows train or sample would take it."""
    config = load(source, overrides, imports)
    if config.sampling.uses_flow:
        config, flow, action = models.build_run(config, str(source))
        training_stages(config, flow, action)
    else:
        config, _ = models.build_action(config, str(source))
    check_same_run(folder, config)
    return config


def _check_kinds(kinds: Sequence[str], folder: Path, uses_flow: bool, array: str | None, after: str | None) -> None:
    if list(kinds) != [kind for kind in KINDS if kind in kinds]:
        raise InvalidInput(
            f"jobs must be some of {', '.join(KINDS)}, in this order, got {','.join(kinds)} (command line: --jobs)"
        )
    if array is not None:
        jobs.tasks(array)
        if kinds == ("train",):
            raise InvalidInput("an array is one of chains: sample must be among the jobs (command line: --array)")
    if after is not None:  # that job may make what is not there
        if not re.fullmatch(r"\d+(_\d+)?", after):
            raise InvalidInput(f"the id of a job, such as 12, is expected, got {after!r} (command line: --after)")
    elif kinds[0] == "sample" and uses_flow and not ((folder / CHECKPOINT).exists() or (folder / MODEL).exists()):
        raise InvalidInput(f"nothing is trained yet in {folder}: --jobs train,sample does that first")
    elif kinds[0] == "measure" and not any(folder.glob(ENSEMBLE)) and not any(folder.glob(f"seed-*/{ENSEMBLE}")):
        raise InvalidInput(f"nothing is sampled yet in {folder}: --jobs sample,measure does that first")


def _check_idle(folder: Path, after: str | None) -> None:
    """Raise InvalidInput for a job of the run that is not over, other than `after` and those that it waits for."""
    recorded = {job.job: job for job in jobs.read_jobs(folder)}
    while after in recorded:
        after = recorded.pop(after).after
    queued = jobs.queue(recorded) or {}
    for job in recorded.values():
        for name, state in queued.items():
            if name.partition("_")[0] == job.job and state.state not in jobs.OVER:
                raise InvalidInput(
                    f"job {name} of {folder} ({job.kind}) is {state.state}: wait for it, submit --after {job.job}, or "
                    f"scancel {job.job}"
                )


def _submit(asks: Mapping[str, Resources], folder: Path, after: str | None, arrays: Mapping[str, str | None]) -> str:
    submitted: list[str] = []
    lines = []
    depends = "afterok"
    for kind, own in asks.items():
        script = folder / f"{kind}.sbatch"
        try:
            job = jobs.submit(script, after and f"{depends}:{after}")
        except LatticeFlowsError as error:
            jobs.cancel(submitted)
            cancelled = f"; {', '.join(submitted)}, submitted before it, was cancelled" if submitted else ""
            raise LatticeFlowsError(f"{error}{cancelled}") from error
        submitted.append(job)
        ranks = own.nodes * own.ntasks_per_node
        jobs.record(folder, Job(job=job, kind=kind, ranks=ranks, array=arrays[kind], after=after))
        lines.append(f"{kind}: job {job}{f', after {after}' if after else ''} ({script})")
        after = job
        depends = "aftercorr" if arrays[kind] else "afterok"  # a task of an array after that of its own index
    return "\n".join([*lines, f"next: lattice-flows status {folder}"]) + "\n"


def _shown(scripts: Mapping[str, str], folder: Path, after: str | None, arrays: Mapping[str, str | None]) -> str:
    """The script; of several, each below a line with its file and the job before it."""
    if len(scripts) == 1:
        return "".join(scripts.values())
    parts = []
    for kind, text in scripts.items():
        waits = f", after {after}" if after else ""
        parts.append(f"==> {folder / f'{kind}.sbatch'}{waits} <==\n{text}")
        after = f"each task of {kind}" if arrays[kind] else kind
    return "\n".join(parts)
