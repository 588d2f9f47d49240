"""The words of the command line: commands, their options, and their help."""

import argparse
import functools
import math
import sys

from lattice_flows.cli import commands
from lattice_flows.cluster.commands import add_commands

READ_CONFIGS = ("train", "sample", "measure", "compare", "show", "export", "import", "submit", "status")
"""The commands that meet configs, and with them names that a module of the user's own may define."""


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

    def command(name: str, function: object, summary: str, details: str, example: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {details}",
            epilog=f"example: {example}",
        )
        sub.set_defaults(command=function, parser=sub)
        return sub

    train = command(
        "train",
        commands.train,
        "train a flow",
        "A folder that holds a checkpoint of the same settings goes on from there, so the command that was killed is "
        "the command that resumes. A larger training.steps prolongs a run, with a new cosine schedule.",
        "lattice-flows train config.toml training.steps=500 action.beta=2.2 --out runs/su2",
    )
    train.add_argument("config", metavar="CONFIG", help="TOML file of settings")
    train.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, made if it is not there")
    train.add_argument(
        "--from",
        dest="begin",
        metavar="MODEL",
        help="begin from these weights instead of random ones: a model (lattice-flows models), a .safetensors file, or "
        "the folder of a run, of the same [flow]; a flow that can is carried to the extents of the config",
    )
    _add_overrides(train, "settings that replace those in the file")

    sample = command(
        "sample",
        commands.sample,
        "make the Markov chains of a run, of a config, or of a trained model",
        "Goes on with the chains that are there, until each has N configurations; sampling.updates says how. With a "
        "config it makes the folder of a run whose updates need no training, such as heatbath. With --model it first "
        "makes the folder of a run that has the weights of that model. In both, sample, measure, show and train work.",
        "lattice-flows sample --model u1_2d_L16_beta7 -n 10000",
    )
    sample.usage = (
        "lattice-flows sample [-h] (RUN | CONFIG --out FOLDER | --model MODEL [--out FOLDER] [--extents L,L]) [-n N] "
        "[--import MODULE] [section.key=value ...]"
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
    # argparse cannot tell a run that may be missing from an override
    sample.add_argument(
        "overrides",
        nargs="*",
        metavar="RUN or CONFIG, section.key=value",
        help="folder of the run or, with --out, TOML file of settings; then settings that replace those there: "
        "of a run only those of [sampling] and training.device",
    )
    sample.set_defaults(check=functools.partial(_check_sample, sample))

    measure = command(
        "measure",
        commands.measure,
        "measure the chains of a run, or single configurations",
        "Prints the table; in the folder of a run it writes report.json, report.txt and figures/*.png.",
        "lattice-flows measure runs/su2",
    )
    measure.add_argument(
        "sources", nargs="+", metavar="RUN or FILE", help="folder of a run, an ensemble.h5, or NERSC and ILDG files"
    )

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

    compare = command(
        "compare",
        commands.compare,
        "put the samplers of runs side by side",
        "For each run, and each observable that all of them have: tau_int, and CPU-seconds for an independent "
        "configuration, training included and not. Runs that are not measured yet are.",
        "lattice-flows compare runs/heatbath runs/flow",
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    compare.add_argument("--json", action="store_true", help="for machines")

    show = command(
        "show",
        commands.show,
        "describe a run and its progress",
        "Draws loss, ESS, gradient norm and the parts of a step's time in figures/training.png.",
        "lattice-flows show runs/su2",
    )
    _add_run(show)

    export = command(
        "export",
        commands.export,
        "write the trained model of a run, or its configurations, to files",
        "The file of a model holds weights, config, training cost, and the ESS of N fresh proposals. It is loaded by "
        "lattice_flows.load(FILE), and sampled by lattice-flows sample --model FILE. With --format it is that of a "
        "four-dimensional SU(N) configuration. With --all it is an array (n, chains, ...) of every configuration for "
        "numpy.load, or with --format the folder of a file for each.",
        "lattice-flows export runs/su2 su2.safetensors",
    )
    _add_run(export)
    export.add_argument("file", metavar="FILE", help="the file; a model ends in .safetensors, an array in .npy")
    export.add_argument("--all", action="store_true", help="every configuration in order, repeated as the chain was")
    export.add_argument("-n", metavar="N", type=int, help="proposals for the ESS of the model (default: 10000)")
    export.add_argument("--format", choices=("nersc", "nersc-short", "ildg"), help="of the configuration")
    export.add_argument("--chain", metavar="K", type=int, help="which chain it is of (default: 0)")
    export.add_argument("--update", metavar="T", type=int, help="after which update (default: the last one stored)")

    bring = command(
        "import",
        commands.bring,
        "make a run that starts from a configuration in a file",
        "Group, extents and precision are those of the NERSC or ILDG file, which is verified; settings name the rest.",
        "lattice-flows import ckpoint_lat.1000 --out runs/su3 action.beta=6.0",
    )
    bring.add_argument("file", metavar="FILE", help="a NERSC or ILDG file")
    bring.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, which must not be one yet")
    _add_overrides(bring, "settings of the run; action.beta at least")

    command(
        "models",
        commands.models,
        "list the trained models that the package brings",
        "",
        "lattice-flows models",
    )

    demo = command(
        "demo",
        commands.demo,
        "train, sample and measure U(1) on 8x8 at beta = 2",
        "Compares with the exact values; takes less than a minute.",
        "lattice-flows demo --out demo",
    )
    demo.add_argument("--out", default="lattice-flows-demo", metavar="FOLDER", help="folder of the run (%(default)s)")

    command(
        "kernels",
        commands.kernels,
        "say which implementation of every kernel runs here, and why",
        "Compiled kernels are made on first use; this compiles a small one, to see that the compiler works. $CXX names "
        "another compiler, $LATTICE_FLOWS_CACHE another folder for them, and LATTICE_FLOWS_KERNELS=reference "
        "switches to the PyTorch references.",
        "CXX=clang++ lattice-flows kernels",
    )

    add_commands(command)
    for name in READ_CONFIGS:
        subparsers.choices[name].add_argument(
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
        raise argparse.ArgumentTypeError(f"extents such as 32,32 are expected, got {text!r}") from None


def _loops(text: str) -> tuple[int, int]:
    sides = _extents(text)
    if len(sides) != 2 or sides[0] < 1 or sides[1] < 2:
        raise argparse.ArgumentTypeError(f"sides such as 4,4 are expected, the second >= 2, got {text!r}")
    return sides[0], sides[1]


def _flow_time(text: str) -> float:
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not 0 < time < math.inf:
        raise argparse.ArgumentTypeError(f"a flow time > 0 such as 2.0 is expected, got {text!r}")
    return time


def _check_sample(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.model is None and not arguments.overrides:
        parser.error("the following arguments are required: RUN, or CONFIG --out FOLDER, or --model MODEL")
    if arguments.model is None and arguments.extents:
        parser.error("--extents needs --model")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of the run")


def _add_overrides(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help=meaning)
