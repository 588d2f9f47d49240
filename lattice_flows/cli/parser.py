"""The words of the command line: the commands, their options, and their help."""

import argparse
import contextlib
import inspect
import sys
from collections.abc import Callable

from lattice_flows.cli import commands
from lattice_flows.cluster.profile import KINDS
from lattice_flows.config.text import shown

FORMATS = ("nersc", "nersc-short", "ildg", "milc", "openqcd")
"""The formats of configurations that are written."""

LAYERS = ("none", "plaquette", "production", "nlo")
"""The layers of annealings."""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from lattice_flows.config.provenance import provenance

        made_from = provenance()
        commit = f" ({made_from['commit']})" if "commit" in made_from else ""
        sys.stdout.write(f"lattice-flows {made_from['version']}{commit}\n")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; an argument `command` is the function to call."""
    parser = argparse.ArgumentParser(
        prog="lattice-flows",
        description="Normalizing flows inside exact Markov chains, for lattice gauge theory. A run is a folder: train "
        "makes it; sample, measure and show work in it.",
        epilog="example: lattice-flows demo",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and, in a checkout, the commit")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(function: Callable[[argparse.Namespace], str], name: str = "") -> argparse.ArgumentParser:
        """A command, with the docstring of its function as help."""
        text, _, example = (inspect.getdoc(function) or "").partition("\n\nexample: ")
        summary = text.partition(".")[0]
        sub = subparsers.add_parser(
            name or function.__name__,
            help=summary[:1].lower() + summary[1:],
            description=text,
            epilog=f"example: {example}",
        )
        sub.set_defaults(command=function, parser=sub)
        return sub

    train = command(commands.train)
    train.add_argument("config", metavar="CONFIG", help="TOML file of settings")
    train.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, made if it is not there")
    train.add_argument(
        "--from",
        dest="begin",
        metavar="MODEL",
        help="begin from these weights instead of random ones: a model (lattice-flows models), a .safetensors file, or "
        "the folder of a run, of the same [flow]; a flow that can is carried to the extents of the config",
    )
    train.add_argument("--steps", type=int, metavar="N", help="end after N of the steps that the config plans")
    train.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that replace those in the file"
    )

    sample = command(commands.sample)
    sample.usage = (
        "lattice-flows sample [-h] (RUN | CONFIG --out FOLDER | --model MODEL [--out FOLDER] [--extents L,L]) [-n N] "
        "[--new] [--import MODULE] [section.key=value ...]"
    )
    sample.add_argument("-n", metavar="N", help="configurations of each chain (default: sampling.n)")
    sample.add_argument("--model", metavar="MODEL", help="a model (lattice-flows models), file or run to make a run of")
    sample.add_argument("--out", metavar="FOLDER", help="folder of the run to make (of a model, default: its name)")
    sample.add_argument(
        "--extents",
        "--sites",
        type=_extents,
        metavar="L,L",
        help="with --model: other extents, for a flow that can be carried to them",
    )
    sample.add_argument("--new", action="store_true", help="keep the chains that are there aside, and begin new ones")
    # argparse cannot tell a run that may be missing from an override
    sample.add_argument(
        "overrides",
        nargs="*",
        metavar="RUN or CONFIG, section.key=value",
        help="folder of the run or, with --out, TOML file of settings; then settings that replace those there: "
        "of a run only those of [sampling] and training.device",
    )

    anneal = command(commands.anneal)
    anneal.add_argument("config", metavar="CONFIG", help="TOML file of settings")
    anneal.add_argument(
        "--from",
        dest="begin",
        metavar="RUN|haar",
        help="folder of a run at a smaller coupling, or Haar's measure (default: haar)",
    )
    anneal.add_argument("--to", metavar="action.beta=B", help="the coupling at the end (default: that of the config)")
    anneal.add_argument("--stages", type=_count, metavar="N", help="couplings of a path (default: 32)")
    anneal.add_argument(
        "--layers",
        metavar="|".join(LAYERS),
        help="operators of the layers: none; the plaquette; production, which adds a nearly squared force; nlo, all of "
        "next-to-leading order (default: production); or the folder of an annealing, whose layers are taken, also for "
        "other extents",
    )
    anneal.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, made if it is not there")
    anneal.add_argument("--new", action="store_true", help="keep the chain that is there aside, and begin a new one")
    anneal.add_argument("-n", type=_count, metavar="N", help="paths (default: 1000, fewer if RUN has fewer)")
    anneal.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that replace those in the file"
    )

    measure = command(commands.measure)
    measure.add_argument(
        "sources", nargs="+", metavar="RUN or FILE", help="folder of a run, an ensemble.h5, or gauge files"
    )
    _add_ignore(measure)
    measure.add_argument(
        "--loops", type=_loops, metavar="R,T", help="Wilson loops of a run up to this size, potential and Creutz ratios"
    )
    measure.add_argument(
        "--wilson-flow",
        "--flow",
        type=_flow_time,
        metavar="T",
        help="Wilson flow up to this time: action densities, charge and, in four dimensions, t0 and w0",
    )

    measure.add_argument(
        "--polyakov", action="store_true", help="Polyakov loops of a run in every direction, with their susceptibility"
    )
    measure.add_argument(
        "--smear",
        metavar="KIND:...",
        help="measure --loops and --polyakov on smeared links: ape:alpha=0.5,steps=20 or hyp or stout:rho=0.1,steps=3; "
        "with ,spatial only links in space are smeared; with --improved, too: the correlator after stout in space",
    )
    measure.add_argument(
        "--improved",
        action="store_true",
        help="smaller errors of averages by control variates from the action, which also test the ensemble",
    )
    measure.add_argument(
        "--coefficients",
        metavar="RUN or FILE",
        help="with --improved: take the coefficients in the report.json of another ensemble, in place of fits",
    )
    measure.add_argument(
        "--action", metavar="NAME", help="with --improved: the action of an ensemble that another program made"
    )
    measure.add_argument("--beta", type=float, metavar="B", help="with --action: its coupling")
    measure.add_argument("-n", type=_count, metavar="N", help="at most N configurations of each chain, equally spaced")
    measure.add_argument("--every", type=_count, default=1, metavar="K", help="every K-th configuration of each chain")
    measure.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="FILE",
        help="write the series of a run to FILE.csv, or as Obs of pyerrors to FILE.json.gz; may be given again",
    )

    compare = command(commands.compare)
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    compare.add_argument("--json", action="store_true", help="for machines")

    command(commands.show).add_argument("run", metavar="RUN", help="folder of the run")

    export = command(commands.export)
    export.add_argument("run", metavar="RUN", help="folder of the run")
    export.add_argument("file", metavar="FILE", help="the file; a model ends in .safetensors, an array in .npy")
    export.add_argument("--all", action="store_true", help="every configuration in order, repeated as the chain was")
    export.add_argument("-n", metavar="N", type=int, help="proposals for the ESS of the model (default: 10000)")
    export.add_argument("--format", choices=FORMATS, help="of the configuration")
    export.add_argument("--chain", metavar="K", type=int, help="which chain it is of (default: 0)")
    export.add_argument("--update", metavar="T", type=int, help="after which update (default: the last one stored)")

    bring = command(commands.bring, "import")
    bring.add_argument("file", metavar="FILE", help="a gauge file, see convert")
    bring.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, which must not be one yet")
    bring.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings of the run; action.beta at least"
    )
    _add_given(bring)

    convert = command(commands.convert)
    convert.add_argument("file", metavar="IN", help="a gauge file")
    convert.add_argument("out", metavar="OUT", help="the file to write")
    convert.add_argument("--format", choices=FORMATS, required=True, help="of OUT")
    _add_given(convert)

    verify = command(commands.verify)
    verify.add_argument("files", nargs="+", metavar="FILE", help="a gauge file, see convert")
    _add_given(verify)

    command(commands.models)
    demo = command(commands.demo)
    demo.add_argument("--out", default="lattice-flows-demo", metavar="FOLDER", help="folder of the run (%(default)s)")
    command(commands.kernels)

    submit = command(commands.submit)
    submit.add_argument("config", metavar="CONFIG", help="TOML file of settings")
    submit.add_argument("--out", metavar="FOLDER", help="folder of the run (default: runs/NAME, of NAME.toml)")
    submit.add_argument(
        "--jobs",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="JOB,...",
        help=f"some of {', '.join(KINDS)}, each after the one before (default: train, if an update needs a flow)",
    )
    submit.add_argument("--nodes", type=int, metavar="N", help="how many nodes")
    submit.add_argument("--ntasks-per-node", type=int, metavar="N", help="processes on each of them")
    submit.add_argument("--cpus-per-task", type=int, metavar="N", help="cores of each process")
    submit.add_argument("--gpus-per-task", type=int, metavar="N", help="GPUs of each process")
    submit.add_argument("--time", metavar="LIMIT", help="time limit of one life of a job, such as 12:00:00")
    submit.add_argument("--partition", metavar="NAME", help="the partition")
    submit.add_argument("--account", metavar="NAME", help="the account")
    submit.add_argument("--array", metavar="0-7", help="sample with these seeds, each in a run of its own, RUN/seed-0")
    submit.add_argument("--after", metavar="JOB", help="begin when this job has succeeded")
    submit.add_argument("--site", metavar="FILE", help="site profile, in TOML")
    submit.add_argument("--dry-run", action="store_true", help="print the scripts and do nothing; needs no Slurm")
    submit.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace those there")

    command(commands.status).add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")

    for name, sub in subparsers.choices.items():
        if name not in (
            "convert",
            "verify",
            "models",
            "demo",
            "kernels",
        ):  # the others meet configs, with names of the user's own modules
            sub.add_argument(
                "--import",
                dest="imports",
                action="append",
                default=[],
                metavar="MODULE",
                help="import this module first: it adds actions, architectures, updates or observables",
            )
    return parser


def _extents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(extent) for extent in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"extents such as 32,32 are expected, got {shown(text)}") from None


def _count(text: str) -> int:
    if text.isdecimal() and int(text[:18]) > 0:
        return int(text[:18])
    raise argparse.ArgumentTypeError(f"a number >= 1 is expected, got {shown(text)}")


def _loops(text: str) -> tuple[int, int]:
    sides = _extents(text)
    if len(sides) != 2 or sides[0] < 1 or sides[1] < 2:
        raise argparse.ArgumentTypeError(f"sides such as 4,4 are expected, the second >= 2, got {shown(text)}")
    return sides[0], sides[1]


def _flow_time(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1000:
            return float(text)
    raise argparse.ArgumentTypeError(f"a flow time such as 2.0, > 0 and <= 1000, is expected, got {shown(text)}")


def _add_given(parser: argparse.ArgumentParser) -> None:
    """Add what the user can say about a gauge file."""
    parser.add_argument("--group", metavar="SU(N)", help="of a file that does not state it")
    parser.add_argument("--extents", type=_extents, metavar="X,Y,Z,T", help="of a file that does not state them")
    parser.add_argument("--precision", type=int, choices=(32, 64), help="of links without a header (default: by size)")
    parser.add_argument(
        "--byte-order", choices=("big", "little"), help="of links without a header (default: that of links in SU(N))"
    )
    _add_ignore(parser)


def _add_ignore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ignore",
        action="append",
        choices=("checksum", "boundary"),
        help="read a gauge file in spite of a wrong checksum, or of antiperiodic boundary conditions (of fermions)",
    )
