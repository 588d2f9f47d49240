"""The commands: each takes its arguments and returns the text that is printed. Its docstring is its help."""

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lattice_flows.errors import Interrupted, InvalidInput, SomeFailed, each
from lattice_flows.signals import Stop

if TYPE_CHECKING:
    from lattice_flows.distributed import World
    from lattice_flows.io import Given
    from lattice_flows.runs import Wishes


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
    """Train a flow.

    A folder that holds a checkpoint of the same settings goes on from there, so the command that was killed is the
    command that resumes. A larger training.steps prolongs a run, with a new cosine schedule, and --steps ends it early.
    At the end the whole flow is measured on fresh samples.

    example: lattice-flows train config.toml training.steps=500 action.beta=2.2 --out runs/su2
    """
    with _together() as (world, stop):
        from lattice_flows import config, runs

        settings = config.load(arguments.config, arguments.overrides, arguments.imports)
        step = runs.train_run(settings, arguments.out, arguments.config, arguments.begin, world, stop, arguments.steps)
        if world.first:
            trained = runs.read_trained(Path(arguments.out))
            stages = f" in {trained.stages} stages" if trained and trained.stages > 1 else ""
            measured = trained.in_words() if trained else ""
            return f"{measured}trained for {step} steps{stages}; next: lattice-flows sample {arguments.out}\n"
    return ""


def sample(arguments: argparse.Namespace) -> str:
    """Make the Markov chains of a run, of a config, or of a trained model.

    Goes on with the chains that are there, until each has N configurations; sampling.updates says how. With a config it
    makes the folder of a run whose updates need no training, such as heatbath. With --model it first makes the folder
    of a run that has the weights of that model. In both, sample, measure, show and train work. With --new, chains that
    are there are kept under another name, ensemble.1.h5, and new ones begin.

    example: lattice-flows sample --model u1_2d_L16_beta7 -n 10000
    """
    if arguments.model is None and not arguments.overrides:
        arguments.parser.error("the following arguments are required: RUN, or CONFIG --out FOLDER, or --model MODEL")
    if arguments.model is None and arguments.extents:
        arguments.parser.error("--extents needs --model")
    with _together() as (world, stop):
        from lattice_flows import config, runs

        words = [*arguments.overrides, *([f"sampling.n={arguments.n}"] if arguments.n is not None else [])]
        if arguments.model is not None:
            run = arguments.out or Path(arguments.model).name.removesuffix(".safetensors")
            if world.first:
                runs.start_run(arguments.model, run, arguments.extents, words)
            n = runs.sample_run(run, words, world=world, stop=stop, anew=arguments.new)
        elif arguments.out is not None:
            source, *overrides = words
            run, settings = arguments.out, config.load(source, overrides, arguments.imports)
            n = runs.sample_run(run, config=settings, source=source, world=world, stop=stop, anew=arguments.new)
        else:
            run, *overrides = words
            n = runs.sample_run(run, overrides, world=world, stop=stop, anew=arguments.new)
        if world.first:
            return f"{runs.sampled_in_words(run)}{n} configurations; next: lattice-flows measure {run}\n"
    return ""


def anneal(arguments: argparse.Namespace) -> str:
    """Carry configurations from one coupling to another, by layers and updates in turn.

    Fits the layers to thermalised chains between both couplings, says what ESS and cost they are expected to have, and
    makes N weighted paths. Their ends are the proposals of independence Metropolis, the chain of a run in FOLDER, which
    is measured: report.json has log Z / Z_0, the dissipated work and weighted means beside the expectations. The config
    names group, lattice, action and the updates between layers, sampling.updates (by default heatbath and
    overrelaxation*2). The same command goes on where it was stopped, also to a larger N.

    example: lattice-flows anneal su3.toml --from runs/beta6 --to action.beta=6.178 --stages 32 --out runs/annealed
    """
    with _together() as (world, stop):
        from lattice_flows import config, runs

        words = [*arguments.overrides, *([arguments.to] if arguments.to else [])]
        if arguments.to and not arguments.to.startswith("action."):
            raise InvalidInput(f"--to takes a coupling, such as action.beta=3, got {arguments.to}")
        settings = config.load(arguments.config, words, arguments.imports)
        runs.anneal_run(
            arguments.out,
            settings,
            arguments.config,
            begin=arguments.begin,
            stages=arguments.stages,
            layers=arguments.layers,
            n=arguments.n,
            anew=arguments.new,
            world=world,
            stop=stop,
        )
        text = runs.measure_table(arguments.out, None, world, stop)
        return text if world.first else ""
    return ""


def measure(arguments: argparse.Namespace) -> str:
    """Measure the chains of a run, or single configurations.

    Prints the table; in the folder of a run it writes report.json, report.txt and figures/*.png. Every series is kept
    in measurements.h5 as it is measured: the same command goes on where it was stopped, and a run that has grown is
    measured where it is new.

    With --improved, gauge files are one ensemble, in the order of the numbers in their names; --action says its action.
    The report.json is written beside them. It holds the coefficients of control variates, which --coefficients takes
    for larger volumes, or for ensembles too small for fits.

    example: lattice-flows measure runs/su2
    """
    with _together() as (world, stop):
        from lattice_flows import runs

        first, *others = map(Path, arguments.sources)
        wishes, stated = _wishes(arguments), _stated(arguments)
        text = None
        if first.is_dir():
            if others:
                raise InvalidInput(
                    "measure takes one run at a time, or several configurations; compare shows runs side by side"
                )
            if stated:
                raise InvalidInput(f"a run states its action: leave out --action and --beta ({first})")
            if wishes == runs.Wishes(wilson_flow=wishes.wilson_flow):
                text = runs.measure_start(first, wishes.wilson_flow)
        elif others or (first.is_file() and (stated or first.suffix not in (".h5", ".hdf5"))):
            text = _measured_files(arguments, wishes, stated, world, stop)
        elif first.is_file():
            text = runs.measure_ensemble(first, wishes, stop)
        if text is None:  # a run, or what is missing
            text = runs.measure_table(first, wishes, world, stop)
        return text if world.first else ""
    return ""


def _measured_files(
    arguments: argparse.Namespace, wishes: "Wishes", stated: dict[str, Any], world: "World", stop: Stop
) -> str:
    """Measure gauge files, or an ensemble whose action is stated."""
    from lattice_flows import runs

    flow, improved, carried = wishes.wilson_flow, wishes.improved, wishes.coefficients
    of_chains = wishes != runs.Wishes(wilson_flow=flow, improved=improved, coefficients=carried)
    if of_chains or improved:
        for path in map(Path, arguments.sources):
            if not path.exists():
                raise InvalidInput(f"there is no file or folder of this name: {path}")
    if improved and (of_chains or flow is not None):
        raise InvalidInput("--improved measures all files, and nothing else: leave out the other options")
    if of_chains:
        options = "--loops, --polyakov, --smear, -n, --every and --export"
        raise InvalidInput(f"{options} need the ensemble of a run: errors come from its configurations")
    if improved:
        if not world.first:
            return ""
        return runs.measure_files(arguments.sources, stated, _given(arguments), stop, carried)
    return runs.measure_configurations(arguments.sources, flow, _given(arguments))


def _wishes(arguments: argparse.Namespace) -> "Wishes":
    """Return what the options of a command ask to measure."""
    from lattice_flows import runs
    from lattice_flows.observables import Smearing

    return runs.Wishes(
        loops=arguments.loops,
        wilson_flow=arguments.wilson_flow,
        polyakov=arguments.polyakov,
        smear=None if arguments.smear is None else Smearing.parse(arguments.smear),
        every=arguments.every,
        n=arguments.n,
        exports=tuple(arguments.export),
        improved=arguments.improved,
        coefficients=_coefficients(arguments),
    )


def _coefficients(arguments: argparse.Namespace) -> Path | None:
    """Return the report.json with coefficients that the options of a command name."""
    if arguments.coefficients is None:
        return None
    if not arguments.improved:
        raise InvalidInput("--coefficients goes with --improved, which uses them")
    path = Path(arguments.coefficients)
    return path / "report.json" if path.is_dir() else path


def compare(arguments: argparse.Namespace) -> str:
    """Put the samplers of runs side by side.

    For each run, and each observable that all of them have: tau_int, and CPU-seconds for an independent configuration,
    training included and not. Runs that are not measured yet are.

    example: lattice-flows compare runs/heatbath runs/flow
    """
    from lattice_flows import runs

    found, errors = each(arguments.runs, lambda run: runs.compare_runs([run]))
    rows = [row for rows in found for row in rows]
    text = json.dumps(rows, indent=2) + "\n" if arguments.json else runs.comparison_table(rows)
    if errors:
        raise SomeFailed(text, errors)
    return text


def show(arguments: argparse.Namespace) -> str:
    """Describe a run and its progress.

    Draws loss, ESS, gradient norm and the parts of a step's time in figures/training.png.

    example: lattice-flows show runs/su2
    """
    from lattice_flows import runs

    return runs.show_run(arguments.run)


def export(arguments: argparse.Namespace) -> str:
    """Write the trained model of a run, or its configurations, to files.

    The file of a model holds weights, config, training cost, and the ESS of N fresh proposals. It is loaded by
    lattice_flows.load(FILE), and sampled by lattice-flows sample --model FILE. With --format it is that of a
    four-dimensional SU(N) configuration. With --all it is an array (n, chains, ...) of every configuration for
    numpy.load, or with --format the folder of a file for each.

    example: lattice-flows export runs/su2 su2.safetensors
    """
    from lattice_flows import runs
    from lattice_flows.reports import report

    words, file = "", arguments.file
    single = arguments.chain is not None or arguments.update is not None
    if arguments.all:
        if single or arguments.n is not None:
            raise InvalidInput("--all writes every configuration: leave -n, --chain and --update out")
        number = runs.export_all(arguments.run, file, arguments.format)
        return f"{file}: {number} configurations, every chain after each stored update\n"
    if arguments.format is None:
        if single:
            raise InvalidInput("--chain and --update name a configuration: say with --format how it is to be written")
        model = runs.export_run(arguments.run, file, 10_000 if arguments.n is None else arguments.n)
        words = f"{report.in_words(model.name, model.facts)}\n"
    else:
        if arguments.n is not None:
            raise InvalidInput("-n is of the model of a run, --format of a configuration: leave one of them out")
        runs.export_configuration(arguments.run, file, arguments.format, arguments.chain or 0, arguments.update)
    return f"{words}{file}: {Path(file).stat().st_size:,} bytes\n"


def bring(arguments: argparse.Namespace) -> str:
    """Make a run that starts from a configuration in a file.

    Group, extents and precision are those of the file, which is verified; settings name the rest.

    example: lattice-flows import ckpoint_lat.1000 --out runs/su3 action.beta=6.0
    """
    from lattice_flows import runs
    from lattice_flows.reports import words

    config = runs.import_configuration(arguments.file, arguments.out, arguments.overrides, _given(arguments))
    further = f"lattice-flows measure {arguments.out}, lattice-flows sample {arguments.out}"
    return f"{words.system(config)}; next: {further}\n"


def convert(arguments: argparse.Namespace) -> str:
    """Write the configuration in a gauge file in another format.

    Reads NERSC, ILDG, SciDAC, MILC, openQCD, DDalphaAMG and HiRep, told apart by their content, and links without a
    header with --group and --extents. MILC holds 32 bits, openQCD 64; the others keep the precision.

    example: lattice-flows convert lat.sample.l4444 lat.ildg --format ildg
    """
    from lattice_flows import runs

    facts = runs.convert_configuration(arguments.file, arguments.out, arguments.format, _given(arguments))
    sites = "x".join(map(str, facts["extents"]))
    size = Path(arguments.out).stat().st_size
    return f"{arguments.out}: {facts['group']} on {sites}, plaquette {facts['plaquette']:.8f}, {size:,} bytes\n"


def verify(arguments: argparse.Namespace) -> str:
    """Compare gauge files with the checksum and the plaquette that they state.

    The exit code is 2 if a file is bad.

    example: lattice-flows verify ckpoint_lat.*
    """
    from lattice_flows import runs

    table, bad = runs.verify_configurations(arguments.files, _given(arguments))
    if bad:
        print(table, end="", flush=True)
        raise InvalidInput(f"{len(bad)} of {len(arguments.files)} files are bad: {', '.join(map(str, bad))}")
    return table


def _stated(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the action that the options of a command state, as in a config."""
    stated = {"name": arguments.action, "beta": arguments.beta}
    stated = {key: value for key, value in stated.items() if value is not None}
    if stated and not arguments.improved:
        raise InvalidInput("--action and --beta go with --improved, which needs the action")
    if stated and arguments.action is None:
        raise InvalidInput("--beta goes with --action, such as --action wilson")
    return stated


def _given(arguments: argparse.Namespace) -> "Given":
    """Return what the options of a command say about a gauge file."""
    from lattice_flows.io import Given

    said = {name: value for name in Given.__dataclass_fields__ if (value := getattr(arguments, name, None)) is not None}
    return Given(**said)


def models(arguments: argparse.Namespace) -> str:
    """List the trained models that the package brings.

    example: lattice-flows models
    """
    from lattice_flows import models
    from lattice_flows.reports import report

    return report.models_table(models.read_header(models.find(name)) for name in models.available())


def demo(arguments: argparse.Namespace) -> str:
    """Train, sample and measure U(1) on 8x8 at beta = 2.

    Compares with the exact values; takes less than a minute.

    example: lattice-flows demo --out demo
    """
    import torch

    from lattice_flows import runs

    # On fields this small a second thread gains nothing, and beside another busy process it loses a factor of ten.
    torch.set_num_threads(1)
    return runs.demo(arguments.out)


def kernels(arguments: argparse.Namespace) -> str:
    """Say which implementation of every kernel runs here, and why.

    Compiled kernels are made on first use; this compiles a small one, to see that the compiler works. $CXX names
    another compiler, $LATTICE_FLOWS_CACHE another folder for them, and LATTICE_FLOWS_KERNELS=reference switches to the
    PyTorch references.

    example: CXX=clang++ lattice-flows kernels
    """
    from lattice_flows.kernels import overview
    from lattice_flows.reports.columns import columns

    rows, compiler = overview.choices()
    return columns([("op", "CPU", "CUDA", "why"), *rows]) + (f"\n{compiler}\n" if compiler else "")


def submit(arguments: argparse.Namespace) -> str:
    """Submit the jobs of a run to Slurm.

    Checks the settings, writes them and the job scripts to the folder of the run, and submits these. A job that comes
    to its time limit writes a checkpoint and is requeued, until the run is complete. Options that are left out come
    from the site profile: --site, or $LATTICE_FLOWS_SITE, or ~/.config/lattice-flows/site.toml; slurm/README.md
    explains it.

    example: lattice-flows submit su2.toml --out runs/su2 --jobs train,sample,measure --nodes 2 --ntasks-per-node 16
    """
    from lattice_flows.cluster.profile import Resources
    from lattice_flows.cluster.submit import submit_run

    options = {key: value for key, value in vars(arguments).items() if key in Resources.__annotations__}
    return submit_run(
        arguments.config,
        arguments.overrides,
        arguments.out,
        arguments.jobs,
        {key: value for key, value in options.items() if value is not None},
        imports=arguments.imports,
        site=arguments.site,
        array=arguments.array,
        after=arguments.after,
        dry_run=arguments.dry_run,
    )


def status(arguments: argparse.Namespace) -> str:
    """Show the jobs of runs, and the progress of the runs.

    The state is Slurm's; where it no longer knows a job, the folder says whether the work is complete. ESS is that of
    the whole flow once it is trained, before that of the stage in its last steps. The rate is in steps or updates a
    second, the remaining time is at this rate.

    example: lattice-flows status runs/*
    """
    from lattice_flows.cluster.status import status_table

    return status_table(arguments.runs)
