"""A job script: a template of the folder slurm/, with options, setup lines, launcher and arguments filled in."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from lattice_flows.cluster.profile import Environment, Resources
from lattice_flows.errors import InvalidInput


def template(kind: str) -> str:
    """The text of train.sbatch, sample.sbatch or measure.sbatch.

    Example:
        >>> template("train").splitlines()[0]
        '#!/bin/bash'
    """
    package = Path(__file__).parents[1]
    folder = package / "slurm"
    if not folder.is_dir():  # a link, which an unpacked zip of the checkout holds as a text file
        folder = package.parent / "slurm"
    return (folder / f"{kind}.sbatch").read_text(encoding="utf-8")


def fill(
    kind: str, run: Path, arguments: Sequence[str], asks: Resources, environment: Environment, array: str | None = None
) -> str:
    """The job script of a run: the template of its kind, with `arguments` as by hand, and its output in `run`.

    Raises:
        InvalidInput: a path or an argument that no line of a script can hold.

    Example:
        >>> text = fill("measure", Path("/my runs"), ["/my runs"], Resources(), Environment(setup=("module load mpi",)))
        >>> print(*(line for line in text.splitlines() if "my runs" in line or "load mpi" in line), sep="\\n")
        #SBATCH --job-name='my runs-measure'
        #SBATCH --output='/my runs/measure-%j.out'
        module load mpi
        set -- '/my runs'
    """
    for word in (str(run), os.getcwd(), *arguments):
        if not word.isprintable():
            raise InvalidInput(f"a job script cannot hold the control characters of {word!r}")
    values: dict[str, str | int | None] = {
        "job-name": f"{run.absolute().name}-{kind}",
        "partition": asks.partition,
        "account": asks.account,
        "nodes": asks.nodes,
        "ntasks-per-node": asks.ntasks_per_node,
        "cpus-per-task": asks.cpus_per_task,
        "gpus-per-task": asks.gpus_per_task or None,
        "time": asks.time,
        "array": array,
        "chdir": os.getcwd(),
        "output": str(run.absolute()).replace("%", "%%") + f"/{kind}-{'%A_%a' if array else '%j'}.out",
        "signal": f"B:USR1@{environment.signal_seconds}",
    }
    named = [f"--{name}={shlex.quote(str(value))}" for name, value in values.items() if value is not None]
    options = (*named, "--requeue", "--open-mode=append", *asks.options)
    setup = (*(f"module load {shlex.quote(name)}" for name in environment.modules), *environment.setup)
    text = template(kind)
    for pattern, filled in (
        (r"(?:^#SBATCH .*\n)+", "".join(f"#SBATCH {option}\n" for option in options)),
        (r"^launcher=\(.*\)\n", f"launcher=({environment.launcher})\n"),
        (r"^# Setup: .*\n", "".join(f"{line}\n" for line in ("# Setup, from the site profile:", *setup))),
        (r"^# Arguments: .*\n", f"# Arguments, from the command line:\nset -- {shlex.join(arguments)}\n"),
    ):
        text, n = re.subn(pattern, lambda _, filled=filled: filled, text, flags=re.MULTILINE)  # type: ignore[misc]
        assert n == 1, f"{kind}.sbatch has {n} places for {pattern}"
    return text
