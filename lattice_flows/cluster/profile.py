"""A site profile, in a TOML file: the environment of jobs, and the resources that they ask for by default."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lattice_flows.config.rules import Count, Rule, Settings, at_least, at_most, keys, matching, within
from lattice_flows.config.text import TOML_LIMIT, parse_toml, read_text, shown
from lattice_flows.errors import InvalidInput

KINDS = ("train", "sample", "measure")
VARIABLE = "LATTICE_FLOWS_SITE"


def _one_line(text: str) -> bool:
    return bool(text.strip()) and text.isprintable()


def _words(text: str) -> bool:
    try:
        return text.isprintable() and bool(shlex.split(text) or not text)
    except ValueError:
        return False


Word = Annotated[str, matching("one word", r"[^\s,;'\"$`\\]+")]
Lines = Annotated[tuple[str, ...], Rule("a list of lines, none of them empty", lambda v: all(map(_one_line, v)))]
Time = Annotated[
    str,
    matching("a time such as 30 (minutes), 12:00:00 or 2-00:00:00", r"(\d{1,4}-\d\d?|\d{1,7})(:\d\d?){0,2}"),
]


@dataclass(frozen=True, kw_only=True)
class Environment(Settings):
    """``[environment]``: the commands of a job before lattice-flows, and the way to start it.

    ``modules`` are loaded, then the lines of ``setup`` run in bash. ``launcher`` stands before the command and starts
    as many processes as the job has tasks; the shell expands it, so that ``mpiexec -n $SLURM_NTASKS`` is one. A job is
    interrupted ``signal_seconds`` before its time limit: as long as the longest step and a checkpoint may take.
    """

    modules: Annotated[tuple[str, ...], Rule("names of modules", lambda v: all(map(_one_line, v)))] = ()
    setup: Lines = ()
    launcher: Annotated[str, Rule("words of one line", _words)] = "srun --mpi=pmi2 --kill-on-bad-exit=1"
    signal_seconds: Annotated[int, Rule("from 1 to 65535", lambda v: 1 <= v <= 65535)] = 120


@dataclass(frozen=True, kw_only=True)
class Resources(Settings):
    """``[defaults]``, ``[train]``, ``[sample]`` and ``[measure]``: the resources of a job, by the names of sbatch.

    ``options`` are further options of sbatch as a script has them, such as ``--mem-per-cpu=2G``.

    Example:
        >>> Resources(nodes=2, ntasks_per_node=4).time
        '01:00:00'
        >>> Resources(time="noon")
        Traceback (most recent call last):
        lattice_flows.errors.InvalidInput: time must be a time such as 30 (minutes), 12:00:00 or 2-00:00:00, got 'noon'
    """

    nodes: Count = 1
    ntasks_per_node: Count = 1
    cpus_per_task: Count = 1
    gpus_per_task: Annotated[int, at_least(0), at_most(1000)] = 0
    time: Time = "01:00:00"
    partition: Word | None = None
    account: Word | None = None
    options: Annotated[
        tuple[str, ...],
        Rule("options such as --mem-per-cpu=2G", lambda v: all(o.startswith("-") and _one_line(o) for o in v)),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A site profile.

    Attributes:
        source: the name of the file in errors.
        environment: of every job.
        tables: the settings of its other sections by name, as they stand in the file.
    """

    source: str
    environment: Environment
    tables: Mapping[str, Mapping[str, Any]]

    def resources(self, kind: str, options: Mapping[str, Any]) -> Resources:
        """The resources of a job: options of the command line, else those of its section, else ``[defaults]``.

        Raises:
            InvalidInput: a wrong value, with its place.

        Example:
            >>> tables = {"defaults": {"nodes": 8, "time": "12:00:00"}, "measure": {"nodes": 1}}
            >>> profile = Profile(source="site.toml", environment=Environment(), tables=tables)
            >>> [profile.resources(kind, {"time": "30"}).nodes for kind in ("train", "measure")]
            [8, 1]
        """
        given = {
            key: (value, f"{self.source}: {section}.{key}")
            for section in ("defaults", kind)
            for key, value in self.tables.get(section, {}).items()
        }
        given |= {key: (value, f"command line: --{key.replace('_', '-')}") for key, value in options.items()}
        table = {key: value for key, (value, _) in given.items()}
        resources: Resources = Resources.from_table(table, lambda key: given[key][1] if key else self.source)
        return resources


def load_profile(path: str | Path | None = None) -> Profile:
    """The site profile in a file; or in that of ``$LATTICE_FLOWS_SITE``; or in ``~/.config/lattice-flows/site.toml``.

    Where there is none of them, it is an empty one.

    Raises:
        InvalidInput: no such file, or a wrong value in it, in one line that names file, key and expectation.
    """
    kind = "site profile"
    if path is not None:
        source = str(path)
    elif path := os.environ.get(VARIABLE):
        kind, source = f"{kind} of ${VARIABLE}", f"${VARIABLE}: {path}"
    else:
        path = os.path.expanduser("~/.config/lattice-flows/site.toml")  # stays as it is where there is no home
        source = path
        if not os.path.exists(path):
            return Profile(source="built-in site profile", environment=Environment(), tables={})
    try:
        text = read_text(path, kind, TOML_LIMIT)
    except InvalidInput as error:
        raise InvalidInput(f"{error}; slurm/sites has two to begin with") from error
    tables = parse_toml(text, "site profile", source)
    environment = Environment()
    sections: dict[str, Any] = {"environment": Environment, "defaults": Resources, **dict.fromkeys(KINDS, Resources)}
    for name, table in tables.items():
        if name not in sections:
            home = next((section for section, kind in sections.items() if name in keys(kind)), None)
            remedy = f"; {name} belongs to [{home}]" if home else ""
            raise InvalidInput(
                f"unknown section {shown(name)}, valid sections: {', '.join(sections)}{remedy} ({source})"
            )
        if not isinstance(table, dict):
            raise InvalidInput(f"{name} must be a section [{name}], got {shown(table)} ({source}: {name})")
        settings = sections[name].from_table(table, within(name, lambda key: f"{source}: {key}"))
        if name == "environment":
            environment = settings
    return Profile(source=source, environment=environment, tables=tables)
