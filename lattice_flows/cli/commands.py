"""The commands: each takes its arguments and returns the text that is printed."""

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.signals import Stop

if TYPE_CHECKING:
    from lattice_flows.distributed import World


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


def train(arguments: argparse.Namespace) -> str:
    """Train a flow."""
    with _together() as (world, stop):
        from lattice_flows import config, runs

        settings = config.load(arguments.config, arguments.overrides, arguments.imports)
        step = runs.train_run(settings, arguments.out, arguments.config, arguments.begin, world, stop)
        if world.first:
            return f"trained for {step} steps; next: lattice-flows sample {arguments.out}\n"
    return ""


def sample(arguments: argparse.Namespace) -> str:
    """Make Markov chains."""
    with _together() as (world, stop):
        from lattice_flows import config, runs

        words = [*arguments.overrides, *([f"sampling.n={arguments.n}"] if arguments.n is not None else [])]
        if arguments.model is not None:
            run = arguments.out or Path(arguments.model).name.removesuffix(".safetensors")
            if world.first:
                runs.start_run(arguments.model, run, arguments.extents, words)
            n = runs.sample_run(run, words, world=world, stop=stop)
        elif arguments.out is not None:
            source, *overrides = words
            run, settings = arguments.out, config.load(source, overrides, arguments.imports)
            n = runs.sample_run(run, config=settings, source=source, world=world, stop=stop)
        else:
            run, *overrides = words
            n = runs.sample_run(run, overrides, world=world, stop=stop)
        if world.first:
            return f"{n} configurations; next: lattice-flows measure {run}\n"
    return ""


def measure(arguments: argparse.Namespace) -> str:
    """Measure a run, an ensemble, or configurations."""
    from lattice_flows import distributed, runs

    world = distributed.world()
    first, *others = arguments.sources
    loops, time = arguments.loops, arguments.wilson_flow
    text = None  # for measure_run, which also says that something is missing
    if Path(first).is_dir():
        if others:
            raise InvalidInput(
                "measure takes one run at a time, or several configurations; compare shows runs side by side"
            )
        if not loops:
            text = runs.measure_start(first, time)
    elif others or Path(first).suffix not in (".h5", ".hdf5"):
        if loops:
            raise InvalidInput("--loops needs the ensemble of a run: the errors of loops come from its configurations")
        if Path(first).is_file():
            text = runs.measure_configurations(arguments.sources, time)
    elif Path(first).is_file():
        text = runs.measure_ensemble(first, loops, time)
    if text is None:
        runs.measure_run(first, loops, time, world)
        text = Path(first, "report.txt").read_text(encoding="utf-8") if world.first else ""
    return text if world.first else ""


def compare(arguments: argparse.Namespace) -> str:
    """Put runs side by side."""
    from lattice_flows import runs

    rows = runs.compare_runs(arguments.runs)
    return json.dumps(rows, indent=2) + "\n" if arguments.json else runs.comparison_table(rows)


def show(arguments: argparse.Namespace) -> str:
    """Describe a run."""
    from lattice_flows import runs

    return runs.show_run(arguments.run)


def export(arguments: argparse.Namespace) -> str:
    """Write a model, a configuration or all of them to files."""
    from lattice_flows import runs
    from lattice_flows.reports import report

    words = ""
    single = arguments.chain is not None or arguments.update is not None
    if arguments.all:
        if single or arguments.n is not None:
            raise InvalidInput("--all writes every configuration: leave -n, --chain and --update out")
        number = runs.export_all(arguments.run, arguments.file, arguments.format)
        return f"{arguments.file}: {number} configurations, every chain after each stored update\n"
    if arguments.format is None:
        if single:
            raise InvalidInput("--chain and --update name a configuration: say with --format how it is to be written")
        model = runs.export_run(arguments.run, arguments.file, 10_000 if arguments.n is None else arguments.n)
        words = f"{report.in_words(model.name, model.facts)}\n"
    else:
        if arguments.n is not None:
            raise InvalidInput("-n is of the model of a run, --format of a configuration: leave one of them out")
        runs.export_configuration(
            arguments.run, arguments.file, arguments.format, arguments.chain or 0, arguments.update
        )
    return f"{words}{arguments.file}: {Path(arguments.file).stat().st_size:,} bytes\n"


def bring(arguments: argparse.Namespace) -> str:
    """Make a run of a configuration in a file."""
    from lattice_flows import runs
    from lattice_flows.reports import words

    config = runs.import_configuration(arguments.file, arguments.out, arguments.overrides)
    return (
        f"{words.system(config)}; next: lattice-flows measure {arguments.out}, lattice-flows sample {arguments.out}\n"
    )


def models(arguments: argparse.Namespace) -> str:
    """List the trained models of the package."""
    from lattice_flows import models
    from lattice_flows.reports import report

    return report.models_table(models.read_header(models.find(name)) for name in models.available())


def demo(arguments: argparse.Namespace) -> str:
    """Train, sample and measure in a small example."""
    import torch

    from lattice_flows import runs

    # On fields this small a second thread gains nothing, and beside another busy process it loses a factor of ten.
    torch.set_num_threads(1)
    return runs.demo(arguments.out)


def kernels(arguments: argparse.Namespace) -> str:
    """Say which kernels run here."""
    from lattice_flows.kernels import overview
    from lattice_flows.reports.columns import columns

    rows, compiler = overview.choices()
    return columns([("op", "CPU", "CUDA", "why"), *rows]) + (f"\n{compiler}\n" if compiler else "")
