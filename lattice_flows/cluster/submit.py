"""Submission of a run: check and keep its settings, write its job scripts, and chain the jobs."""

import dataclasses
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lattice_flows.cluster import jobs
from lattice_flows.cluster.jobs import Job
from lattice_flows.cluster.profile import KINDS, Environment, Resources, load_profile
from lattice_flows.cluster.script import fill
from lattice_flows.config import Config, load
from lattice_flows.errors import InvalidInput, LatticeFlowsError


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
    _check_kinds(kinds, array, after)
    _check_there_is_work(kinds, folder, config.sampling.uses_flow, after)
    asks = {kind: profile.resources(kind, options or {}) for kind in kinds}
    environment = _with_modules(profile.environment, config.imports, Path(source).parent)
    scripts = _scripts(asks, folder, config.sampling.uses_flow, environment, array)
    if dry_run:
        return _shown(scripts, folder, after, array)
    _check_idle(folder, after)
    _write(folder, config, scripts)
    return _submit(asks, folder, after, array)


def _checked_config(source: str | Path, overrides: Iterable[str], imports: Sequence[str], folder: Path) -> Config:
    """The config, when lattice-flows train or sample would take it."""
    from lattice_flows import models
    from lattice_flows.runs.folder import check_same_run
    from lattice_flows.runs.train import training_stages

    config = load(source, overrides, imports)
    if config.sampling.uses_flow:
        config, flow, action = models.build_run(config, str(source))
        training_stages(config, flow, action)
    else:
        config, _ = models.build_action(config, str(source))
    check_same_run(folder, config)
    return config


def _check_kinds(kinds: Sequence[str], array: str | None, after: str | None) -> None:
    if list(kinds) != [kind for kind in KINDS if kind in kinds]:
        raise InvalidInput(
            f"jobs must be some of {', '.join(KINDS)}, in this order, got {','.join(kinds)} (command line: --jobs)"
        )
    if array is not None:
        jobs.tasks(array)
        if kinds == ("train",):
            raise InvalidInput("an array is one of chains: sample must be among the jobs (command line: --array)")
    if after is not None and not re.fullmatch(r"\d+(_\d+)?", after):
        raise InvalidInput(f"the id of a job, such as 12, is expected, got {after!r} (command line: --after)")


def _check_there_is_work(kinds: Sequence[str], folder: Path, uses_flow: bool, after: str | None) -> None:
    from lattice_flows.runs.folder import CHECKPOINT, ENSEMBLE, MODEL

    if after is not None:  # that job may make it
        return
    trained = (folder / CHECKPOINT).exists() or (folder / MODEL).exists()
    if kinds[0] == "sample" and uses_flow and not trained:
        raise InvalidInput(f"nothing is trained yet in {folder}: --jobs train,sample does that first")
    if kinds[0] == "measure" and not any(folder.glob(ENSEMBLE)) and not any(folder.glob(f"seed-*/{ENSEMBLE}")):
        raise InvalidInput(f"nothing is sampled yet in {folder}: --jobs sample,measure does that first")


def _with_modules(environment: Environment, imports: Sequence[str], folder: Path) -> Environment:
    """An environment in which modules beside a config are found: jobs load its copy in the folder of the run."""
    if not imports:
        return environment
    line = f"export PYTHONPATH={shlex.quote(str(folder.absolute()))}${{PYTHONPATH:+:$PYTHONPATH}}"
    return dataclasses.replace(environment, setup=(*environment.setup, line))


def _scripts(
    asks: Mapping[str, Resources], folder: Path, uses_flow: bool, environment: Environment, array: str | None
) -> dict[str, str]:
    run, config = str(folder), str(folder / "config.toml")
    arguments = {
        "train": [config, run],
        "sample": [run] if uses_flow or array is None else [config, run],
        "measure": [run],
    }
    return {
        kind: fill(kind, folder, arguments[kind], own, environment, None if kind == "train" else array)
        for kind, own in asks.items()
    }


def _check_idle(folder: Path, after: str | None) -> None:
    """Raise InvalidInput for a job of the run that is not over, other than `after` and those that it waits for."""
    recorded = jobs.read_jobs(folder)
    before = {job.job: job.after for job in recorded}
    while after is not None:
        recorded = [job for job in recorded if job.job != after]
        after = before.pop(after, None)
    queued = jobs.queue(job.job for job in recorded) or {}
    for job in recorded:
        for name, state in queued.items():
            if name.partition("_")[0] == job.job and not state.over:
                raise InvalidInput(
                    f"job {name} of {folder} ({job.kind}) is {state.state}: wait for it, submit --after {job.job}, or "
                    f"scancel {job.job}"
                )


def _write(folder: Path, config: Config, scripts: Mapping[str, str]) -> None:
    from lattice_flows.io import files
    from lattice_flows.runs.folder import write_config

    files.make_folder(folder)
    with files.locked(folder):  # and no longer, since a job may begin as soon as it is submitted
        write_config(folder, config)
        for kind, text in scripts.items():
            files.write(folder / f"{kind}.sbatch", text.encode())


def _submit(asks: Mapping[str, Resources], folder: Path, after: str | None, array: str | None) -> str:
    submitted: list[str] = []
    lines = []
    waits_for_array = False
    for kind, own in asks.items():
        own_array = None if kind == "train" else array
        script = folder / f"{kind}.sbatch"
        try:
            job = jobs.submit(script, _dependency(after, waits_for_array))
        except LatticeFlowsError as error:
            jobs.cancel(submitted)
            cancelled = f"; {', '.join(submitted)}, submitted before it, was cancelled" if submitted else ""
            raise LatticeFlowsError(f"{error}{cancelled}") from error
        submitted.append(job)
        ranks = own.nodes * own.ntasks_per_node
        jobs.record(folder, Job(job=job, kind=kind, ranks=ranks, array=own_array, after=after))
        lines.append(f"{kind}: job {job}{f', after {after}' if after else ''} ({script})")
        after, waits_for_array = job, own_array is not None
    return "\n".join([*lines, f"next: lattice-flows status {folder}"]) + "\n"


def _dependency(after: str | None, array: bool) -> str | None:
    """The dependency on a job; each task of an array waits for the task of its own index in an array before."""
    return after and f"{'aftercorr' if array else 'afterok'}:{after}"


def _shown(scripts: Mapping[str, str], folder: Path, after: str | None, array: str | None) -> str:
    """The script; of several, each below a line with its file and the job before it."""
    if len(scripts) == 1:
        return "".join(scripts.values())
    parts = []
    for kind, text in scripts.items():
        waits = f", after {after}" if after else ""
        parts.append(f"==> {folder / f'{kind}.sbatch'}{waits} <==\n{text}")
        after = kind if kind == "train" or array is None else f"each task of {kind}"
    return "\n".join(parts)
