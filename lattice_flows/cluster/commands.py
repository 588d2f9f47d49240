"""The two commands ``lattice-flows submit | status``."""

import argparse
from collections.abc import Callable
from typing import Any

from lattice_flows.cluster.profile import KINDS, PLACE, VARIABLE

Command = Callable[[str, Callable[[argparse.Namespace], str], str, str, str], argparse.ArgumentParser]
OPTIONS = {
    "--nodes": (int, "N", "how many nodes"),
    "--ntasks-per-node": (int, "N", "processes on each of them"),
    "--cpus-per-task": (int, "N", "cores of each process"),
    "--gpus-per-task": (int, "N", "GPUs of each process"),
    "--time": (str, "LIMIT", "time limit of one life of a job, such as 12:00:00"),
    "--partition": (str, "NAME", "the partition"),
    "--account": (str, "NAME", "the account"),
}


def add_commands(command: Command) -> None:
    """Add the two commands; `command` takes name, function, summary, details and example, and returns the parser."""
    submit = command(
        "submit",
        _submit,
        "submit the jobs of a run to Slurm",
        "Checks the settings, writes them and the job scripts to the folder of the run, and submits these. A job that "
        "comes to its time limit writes a checkpoint and is requeued, until the run is complete. Options that are left "
        f"out come from the site profile: --site, or ${VARIABLE}, or {PLACE}; slurm/README.md explains it.",
        "lattice-flows submit su2.toml --out runs/su2 --jobs train,sample,measure --nodes 2 --ntasks-per-node 16",
    )
    submit.add_argument("config", metavar="CONFIG", help="TOML file of settings")
    submit.add_argument("--out", metavar="FOLDER", help="folder of the run (default: runs/NAME, of NAME.toml)")
    submit.add_argument(
        "--jobs",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="JOB,...",
        help=f"some of {', '.join(KINDS)}, each after the one before (default: train, if an update needs a flow)",
    )
    for name, (kind, metavar, meaning) in OPTIONS.items():
        submit.add_argument(name, type=kind, metavar=metavar, help=meaning)
    submit.add_argument("--array", metavar="0-7", help="sample with these seeds, each in a run of its own, RUN/seed-0")
    submit.add_argument("--after", metavar="JOB", help="begin when this job has succeeded")
    submit.add_argument("--site", metavar="FILE", help="site profile, in TOML")
    submit.add_argument("--dry-run", action="store_true", help="print the scripts and do nothing; needs no Slurm")
    submit.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace those there")

    status = command(
        "status",
        _status,
        "show the jobs of runs, and the progress of the runs",
        "The state is Slurm's; where it no longer knows a job, the folder says whether the work is complete. ESS is "
        "that of recent training steps, the rate is in steps or updates a second, the remaining time is at this rate.",
        "lattice-flows status runs/*",
    )
    status.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")


def _submit(arguments: argparse.Namespace) -> str:
    from lattice_flows.cluster.submit import submit_run

    given = ((name.strip("-").replace("-", "_"), name) for name in OPTIONS)
    options: dict[str, Any] = {key: getattr(arguments, key) for key, _ in given if getattr(arguments, key) is not None}
    return submit_run(
        arguments.config,
        arguments.overrides,
        arguments.out,
        arguments.jobs,
        options,
        imports=arguments.imports,
        site=arguments.site,
        array=arguments.array,
        after=arguments.after,
        dry_run=arguments.dry_run,
    )


def _status(arguments: argparse.Namespace) -> str:
    from lattice_flows.cluster.status import status_table

    return status_table(arguments.runs)
