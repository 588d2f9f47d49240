"""The command line: ``lattice-flows train | sample | measure | compare | show | export | import | ...``."""

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lattice_flows.errors import Interrupted, InvalidInput, LatticeFlowsError
from lattice_flows.signals import INTERRUPTED, Stop, end_all
from lattice_flows.slurm.commands import add_commands

if TYPE_CHECKING:
    from lattice_flows.distributed import World

# The commands import what they need when they run, so that --help does not wait for torch.


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 for what the user can mend, 75 when asked to stop, 130 for Ctrl-C."""
    # argparse leaves over the overrides that stand behind an option: train CONFIG --out FOLDER training.steps=500
    arguments, rest = _parser().parse_known_args(argv)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        arguments.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    elif rest:
        arguments.overrides += rest
    getattr(arguments, "check", lambda _: None)(arguments)
    logging.basicConfig(level=logging.WARNING, format="lattice-flows: %(message)s")
    logging.getLogger("lattice_flows").setLevel(logging.INFO)
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except Interrupted as error:
        print(f"lattice-flows: {error}", file=sys.stderr)
        return INTERRUPTED
    except LatticeFlowsError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of the output, such as head, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("\nlattice-flows: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except Exception:
        end_all(1, traceback.format_exc())
        raise
    return 0


def _fail(message: str) -> int:
    line = f"lattice-flows: error: {' '.join(message.split())}"
    end_all(2, line)
    print(line, file=sys.stderr)
    return 2


@contextlib.contextmanager
def _together() -> Iterator[tuple["World", Stop]]:
    """The ranks that carry out a command, and whether they are asked to stop, from before torch is loaded."""
    with Stop() as stop:
        from lattice_flows import distributed

        world = distributed.world()
        try:
            yield world, stop
        except Interrupted:
            if world.first:  # a launcher ends the others at once when a rank says that it has failed
                raise


def _train(arguments: argparse.Namespace) -> None:
    with _together() as (world, stop):
        from lattice_flows import config, runs

        settings = config.load(arguments.config, arguments.overrides)
        step = runs.train_run(settings, arguments.out, arguments.config, arguments.begin, world, stop)
    if world.first:
        print(f"trained for {step} steps; next: lattice-flows sample {arguments.out}")


def _sample(arguments: argparse.Namespace) -> None:
    with _together() as (world, stop):
        from lattice_flows import config, exchange, runs

        words = [*arguments.overrides, *([f"sampling.n={arguments.n}"] if arguments.n is not None else [])]
        if arguments.model is not None:
            run = arguments.out or Path(arguments.model).name.removesuffix(".safetensors")
            if world.first:
                exchange.start_run(arguments.model, run, arguments.sites, words)
            n = runs.sample_run(run, words, world=world, stop=stop)
        elif arguments.out is not None:
            source, *overrides = words
            run, settings = arguments.out, config.load(source, overrides)
            n = runs.sample_run(run, config=settings, source=source, world=world, stop=stop)
        else:
            run, *overrides = words
            n = runs.sample_run(run, overrides, world=world, stop=stop)
    if world.first:
        print(f"{n} configurations; next: lattice-flows measure {run}")


def _measure(arguments: argparse.Namespace) -> None:
    from lattice_flows import configurations, distributed, results

    world = distributed.world()
    first, *others = arguments.sources
    text = None  # for measure_run, which says too what is missing
    if Path(first).is_dir():
        if others:
            raise InvalidInput(
                "measure takes one run at a time, or several configurations; compare shows runs side by side"
            )
        if not arguments.loops:
            text = configurations.measure_start(first, arguments.flow)
    elif others or not _is_ensemble(first):
        if arguments.loops:
            raise InvalidInput("--loops needs the ensemble of a run: the errors of loops come from its configurations")
        if Path(first).is_file():
            text = configurations.measure_configurations(arguments.sources, arguments.flow)
    elif Path(first).is_file():
        text = results.measure_ensemble(first, arguments.loops, arguments.flow)
    if text is None:
        results.measure_run(first, arguments.loops, arguments.flow, world)
        text = Path(first, "report.txt").read_text(encoding="utf-8") if world.first else ""
    if world.first:
        print(text, end="")


def _is_ensemble(path: str) -> bool:
    return Path(path).suffix in (".h5", ".hdf5")


def _compare(arguments: argparse.Namespace) -> None:
    from lattice_flows import compare

    rows = compare.compare_runs(arguments.runs)
    print(json.dumps(rows, indent=2) + "\n" if arguments.json else compare.comparison_table(rows), end="")


def _show(arguments: argparse.Namespace) -> None:
    from lattice_flows import results

    print(results.show_run(arguments.run), end="")


def _export(arguments: argparse.Namespace) -> None:
    from lattice_flows import configurations, exchange, report

    if arguments.format is None:
        if arguments.chain is not None or arguments.update is not None:
            raise InvalidInput("--chain and --update name a configuration: say with --format how it is to be written")
        model = exchange.export_run(arguments.run, arguments.file, 10_000 if arguments.n is None else arguments.n)
        print(report.in_words(model.name, model.facts))
    else:
        if arguments.n is not None:
            raise InvalidInput("-n is of the model of a run, --format of a configuration: leave one of them out")
        configurations.export_configuration(
            arguments.run, arguments.file, arguments.format, arguments.chain or 0, arguments.update
        )
    print(f"{arguments.file}: {Path(arguments.file).stat().st_size:,} bytes")


def _import(arguments: argparse.Namespace) -> None:
    from lattice_flows import configurations, report

    config = configurations.import_configuration(arguments.file, arguments.out, arguments.overrides)
    print(f"{report.system(config)}; next: lattice-flows measure {arguments.out}, lattice-flows sample {arguments.out}")


def _models(arguments: argparse.Namespace) -> None:
    from lattice_flows import models, report

    headers = [models.read_header(models.find(name)) for name in models.available()]
    print(report.models_table(headers), end="")


def _demo(arguments: argparse.Namespace) -> None:
    import torch

    from lattice_flows import results

    # On fields this small a second thread gains nothing, and beside another busy process it loses a factor of ten.
    torch.set_num_threads(1)
    print(results.demo(arguments.out), end="")


def _kernels(arguments: argparse.Namespace) -> None:
    from lattice_flows.columns import columns
    from lattice_flows.kernels import overview

    rows, compiler = overview.choices()
    print(columns([("op", "CPU", "CUDA", "why"), *rows]), end="")
    if compiler:
        print(f"\n{compiler}")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from lattice_flows.provenance import provenance

        made_from = provenance()
        print(f"lattice-flows {made_from['version']}" + (f" ({made_from['commit']})" if "commit" in made_from else ""))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lattice-flows",
        description="Normalizing flows inside exact Markov chains, for lattice gauge theory. A run is a folder: train "
        "makes it; sample, measure and show work in it.",
        epilog="example: lattice-flows demo",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and, in a checkout, the commit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: object, summary: str, details: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {details}",
            epilog=f"example: {example}",
        )
        sub.set_defaults(command=function, parser=sub)
        return sub

    train = command(
        "train",
        _train,
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
        "the folder of a run, of the same [flow]; a hierarchical flow is carried to the extents of the config",
    )
    _add_overrides(train, "settings that replace those in the file")

    sample = command(
        "sample",
        _sample,
        "make the Markov chains of a run, of a config, or of a trained model",
        "Goes on with the chains that are there, until each has N configurations; sampling.updates says how. With a "
        "config it makes the folder of a run whose updates need no training, such as heatbath. With --model it first "
        "makes the folder of a run that has the weights of that model. In both, sample, measure, show and train work.",
        "lattice-flows sample --model u1_2d_L16_beta7 -n 10000",
    )
    sample.usage = (
        "lattice-flows sample [-h] (RUN | CONFIG --out FOLDER | --model MODEL [--out FOLDER] [--sites L,L]) [-n N] "
        "[section.key=value ...]"
    )
    sample.add_argument("-n", metavar="N", help="configurations of each chain (default: sampling.n)")
    sample.add_argument("--model", metavar="MODEL", help="a model (lattice-flows models), file or run to make a run of")
    sample.add_argument("--out", metavar="FOLDER", help="folder of the run to make (of a model, default: its name)")
    sample.add_argument(
        "--sites", type=_sites, metavar="L,L", help="with --model: other extents, for a hierarchical flow"
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
        _measure,
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
        "--flow",
        type=_flow_time,
        metavar="T",
        help="gradient flow up to this flow time: action densities, charge and, in four dimensions, t0 and w0",
    )

    compare = command(
        "compare",
        _compare,
        "put the samplers of runs side by side",
        "For each run, and each observable that all of them have: tau_int, and CPU-seconds for an independent "
        "configuration, training included and not. Runs that are not measured yet are.",
        "lattice-flows compare runs/heatbath runs/flow",
    )
    compare.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    compare.add_argument("--json", action="store_true", help="for machines")

    show = command(
        "show",
        _show,
        "say what a run is and how far it is",
        "Draws loss, ESS, gradient norm and the parts of a step's time in figures/training.png.",
        "lattice-flows show runs/su2",
    )
    _add_run(show)

    export = command(
        "export",
        _export,
        "write the trained model of a run, or a configuration, to one file",
        "The file of a model holds weights, config, training cost, and the ESS of N fresh proposals. It is loaded by "
        "lattice_flows.load(FILE), and sampled by lattice-flows sample --model FILE. With --format it is that of a "
        "four-dimensional SU(N) configuration.",
        "lattice-flows export runs/su2 su2.safetensors",
    )
    _add_run(export)
    export.add_argument("file", metavar="FILE", help="the file; of a model its name ends in .safetensors")
    export.add_argument("-n", metavar="N", type=int, help="proposals for the ESS of the model (default: 10000)")
    export.add_argument("--format", choices=("nersc", "nersc-short", "ildg"), help="of the configuration")
    export.add_argument("--chain", metavar="K", type=int, help="which chain it is of (default: 0)")
    export.add_argument("--update", metavar="T", type=int, help="after which update (default: the last one stored)")

    bring = command(
        "import",
        _import,
        "make a run that starts from a configuration in a file",
        "Group, extents and precision are those of the NERSC or ILDG file, which is verified; settings name the rest.",
        "lattice-flows import ckpoint_lat.1000 --out runs/su3 action.beta=6.0",
    )
    bring.add_argument("file", metavar="FILE", help="a NERSC or ILDG file")
    bring.add_argument("--out", required=True, metavar="FOLDER", help="folder of the run, which must not be one yet")
    _add_overrides(bring, "settings of the run; action.beta at least")

    command(
        "models",
        _models,
        "list the trained models that the package brings",
        "",
        "lattice-flows models",
    )

    demo = command(
        "demo",
        _demo,
        "train, sample and measure U(1) on 8x8 at beta = 2",
        "Compares with the exact values; takes less than a minute.",
        "lattice-flows demo --out demo",
    )
    demo.add_argument("--out", default="lattice-flows-demo", metavar="FOLDER", help="folder of the run (%(default)s)")

    command(
        "kernels",
        _kernels,
        "say which implementation of every kernel runs here, and why",
        "Compiled kernels are made on first use; this compiles a small one, to see that the compiler works. $CXX names "
        "another compiler, $LATTICE_FLOWS_CACHE another folder for them, and LATTICE_FLOWS_KERNELS=reference "
        "switches to the PyTorch references.",
        "CXX=clang++ lattice-flows kernels",
    )

    def printing(name: str, function: Callable[[argparse.Namespace], str], *words: str) -> argparse.ArgumentParser:
        return command(name, lambda arguments: print(function(arguments), end=""), *words)

    add_commands(printing)
    return parser


def _sites(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(extent) for extent in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"extents such as 32,32 are expected, got {text!r}") from None


def _loops(text: str) -> tuple[int, int]:
    sides = _sites(text)
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
    if arguments.model is None and arguments.sites:
        parser.error("--sites needs --model")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of the run")


def _add_overrides(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help=meaning)


if __name__ == "__main__":
    sys.exit(main())
