"""Annealing in the folder of a run: fits, a prediction, and the chain of independence Metropolis."""

import logging
from pathlib import Path

from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.models import build_action
from lattice_flows.runs.folder import CONFIG, check_same_run, load_run
from lattice_flows.runs.sample import sample_run
from lattice_flows.runs.stochastic import fitted, prediction, read_fits
from lattice_flows.sampling.stochastic_flow import LAYERS, AnnealingSettings
from lattice_flows.signals import Stop

FEWEST = 5

log = logging.getLogger(__name__)


def anneal_run(
    folder: str | Path,
    config: Config,
    source: str = "config",
    *,
    begin: str | Path | None = None,
    stages: int | None = None,
    layers: str | None = None,
    n: int | None = None,
    anew: bool = False,
    world: World = SERIAL,
    stop: Stop | None = None,
) -> int:
    """Anneal to the action of a config; return the number of paths.

    The layers are fitted to thermalised chains first, and what they are expected to do is logged. The ends of paths
    are the proposals of independence Metropolis, whose chain is that of the run in the folder: all that serves runs
    serves it. An annealing that was stopped goes on from the last block of paths.

    Args:
        config: its updates are those between layers, by default `heat_bath_cycle`; or it is that of an annealing.
        source: names the config in errors.
        begin: "haar", or the folder of a run at a smaller coupling. Default: that of the config, or "haar".
        stages: the number of couplings. Default: that of the config, or 32.
        layers: a name of `lattice_flows.sampling.stochastic_flow.LAYERS`; or the folder of an annealing, whose layers
            are taken. Default: those of the config, or "production".
        n: the number of paths. Default: that of the config of an annealing; or 1000, or one for each independent
            configuration of the run if these are fewer.
        anew: keep a chain that is there under another name, such as ensemble.1.h5, and make a new one.
        world: the ranks that share the paths, each of them calling this.
        stop: asked after every path, on every rank.

    Raises:
        InvalidInput: no coupling, a schedule that does not rise, a run of another theory, which is not in equilibrium
            or has too few configurations, or settings that contradict the annealing in the folder.
        Interrupted: it was asked to stop, and has written the paths.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder, given = Path(folder), None if layers is None or layers in LAYERS else Path(layers)
    if given is not None:
        if not given.is_dir():
            raise InvalidInput(f"layers are {', '.join(LAYERS)}, or the folder of an annealing, got {layers}")
        layers = read_fits(given).about["layers"]
    if begin is not None and str(begin) != "haar":
        begin = str(Path(begin).resolve())
    if config.sampling.names == ("annealing",):
        n = n or config.sampling.n
    else:
        chain = {"chains": 1, "every": 1, "thermalise": None, "start": None}
        config = config.having(sampling={"updates": ("annealing",), "between": between(config), **chain})
    chosen = {"begin": begin, "stages": stages, "layers": layers}
    config = config.having(sampling={key: value for key, value in chosen.items() if value is not None})
    config, action = build_action(config, source)
    total = 0
    if world.first:
        if n is not None and n < FEWEST:
            raise InvalidInput(f"errors need at least {FEWEST} paths, got {n}")
        check_same_run(folder, config)
        if not anew and (folder / CONFIG).exists() and load_run(folder).sampling.names != ("annealing",):
            raise InvalidInput(f"{folder} holds a run of other updates: take another --out, or keep its chain by --new")
        fits = fitted(folder, config, action, given, n)
        total = n or min(1000, len(fits.rows) or 1000)
        log.info("%s", prediction(fits, config.sampling.stages).in_words(total))
    config = config.having(sampling={"n": world.broadcast(total)})
    return sample_run(folder, config=config, source=source, world=world, stop=stop, anew=anew)


def between(config: Config) -> tuple[str, ...]:
    """The updates between layers that a config names; the default ones where it names a flow alone."""
    sampling = config.sampling
    if sampling.names == ("flow",):
        return AnnealingSettings.between
    if sampling.uses_flow or "annealing" in sampling.names:
        raise InvalidInput(
            f"updates between layers are such as heatbath, got sampling.updates = {list(sampling.updates)}"
        )
    return sampling.updates
