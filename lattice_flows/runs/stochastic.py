"""The fits of a run's annealing: their file, and the stochastic flow that they and the settings make."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.config.registry import SAMPLERS
from lattice_flows.config.sections import cycle_of
from lattice_flows.config.text import parse_json
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files, load_weights, read_about, save_weights
from lattice_flows.lattice.space import gauge_field
from lattice_flows.models import dtype
from lattice_flows.operators import WeightedSum
from lattice_flows.reports.annealing import Predicted
from lattice_flows.reports.steps import Steps
from lattice_flows.runs.begin import Rows, begin_at, check_enough, independent
from lattice_flows.sampling import Cycle, Sampler, Streams, start
from lattice_flows.sampling.base import Context
from lattice_flows.sampling.stochastic_flow import LAYERS, StochasticFlow
from lattice_flows.training.response import Response, fit_couplings, fits_along

FITS = "annealing.safetensors"
RESPONSE = ("betas", "velocities", "parts")
CHAINS = 32
"""The number of chains that are fitted."""
TIMED = 16
"""The number of paths that are timed, and whose steps are compared."""


class Fits(NamedTuple):
    """What is fitted, and what it needs and costs."""

    response: Response
    rows: Tensor
    """`(n,)` int64: the rows of the ensemble where paths begin; none for Haar's measure."""
    about: dict[str, Any]
    """The settings that the fits are of, and more numbers.

    `path_seconds` and `stage_seconds` are those of `_seconds`, `fit_seconds` the CPU time of all fits; `steps` the
    `Steps` of paths of so many `stages`.
    """

    def made_for(self, config: Config) -> bool:
        """Whether these are the fits of the settings of a config."""
        return all(self.about.get(key) == value for key, value in settings_of(config).items())


def prediction(fits: Fits, stages: int) -> Predicted:
    """What the fits expect of paths of so many stages."""
    seconds = fits.about["path_seconds"] + stages * fits.about["stage_seconds"]
    return Predicted(fits.response.work(stages), seconds)


def fits_of(folder: Path, config: Config) -> Fits:
    """The fits in a folder; errors as of `read_fits`, or they are of other settings."""
    fits = read_fits(folder)
    if not fits.made_for(config):
        raise InvalidInput(f"the layers are those of other settings: lattice-flows anneal fits them ({folder / FITS})")
    return fits


def stochastic_flow(folder: Path, config: Config, action: Action, world: World = SERIAL) -> StochasticFlow:
    """The stochastic flow of the annealing in a folder, the same on all ranks.

    Raises:
        InvalidInput: nothing is fitted, or for other settings; or the ensemble where paths begin is another one.
    """
    return flow_of(world.broadcast(fits_of(folder, config) if world.first else None), config, action)


def flow_of(fits: Fits, config: Config, action: Action) -> StochasticFlow:
    """The stochastic flow of some fits."""
    betas, ensemble = fits.response.schedule(config.sampling.stages), None
    if config.sampling.begin != "haar":
        first, chains = begin_at(config, action)
        if first != float(betas[0]) or int(fits.rows.max()) >= chains.n_distinct:
            raise InvalidInput(f"this is another ensemble than that of the fits: take another --out ({chains.path})")
        ensemble = Rows(chains, fits.rows, action.space.dtype(dtype(config)))
    return StochasticFlow(
        action,
        betas[1:].tolist(),
        sampler_of(config),
        operators=operators_of(config, action),
        coefficients=fits.response.coefficients(betas),
        first=float(betas[0]),
        ensemble=ensemble,
        dtype=dtype(config),
    )


def fitted(folder: Path, config: Config, action: Action, given: Path | None = None, paths: int | None = None) -> Fits:
    """The fits of an annealing: those in its folder, where they are of these settings, or new ones, which are written.

    Args:
        given: the folder of another annealing, whose layers are taken; its extents may be others.
        paths: the number of paths that are to be made.

    Raises:
        InvalidInput: a schedule that does not rise, an ensemble that does not fit or is too small, layers of another
            theory, or as `transport_fit`.
    """
    fits = read_fits(folder) if (folder / FITS).exists() else None
    if fits is None or not fits.made_for(config):
        fits = _fit(config, action, given, paths)
    check_enough(fits.rows, config.sampling.begin, paths)
    if fits.about.get("stages") != config.sampling.stages:
        streams = Streams(config.sampling.seed, 1).branch("steps")
        errors = flow_of(fits, config, action).integration_errors(TIMED, streams)
        fits.about.update(stages=config.sampling.stages, steps=Steps.of(errors)._asdict())
        _write(folder / FITS, fits)
    return fits


def _fit(config: Config, action: Action, given: Path | None, paths: int | None) -> Fits:
    begun, streams = time.process_time(), Streams(config.sampling.seed, CHAINS).branch("fits")
    if config.sampling.begin == "haar":
        first, rows = 0.0, torch.zeros(0, dtype=torch.int64)
        knots = fit_couplings(first, action)
        x = start(action.space, streams, dtype=dtype(config))
    else:
        first, chains = begin_at(config, action)
        knots, rows = fit_couplings(first, action), independent(chains)
        check_enough(rows, config.sampling.begin, paths)
        ensemble = Rows(chains, rows, action.space.dtype(dtype(config)))
        x = ensemble[torch.arange(CHAINS) * len(rows) // CHAINS]
    if given is None:
        along = fits_along(action, knots, sampler_of(config), operators_of(config, action), x, streams)
        with tqdm(along, total=len(knots), desc="fitting layers", unit="coupling", disable=None) as bar:
            response = Response.of(knots, list(bar))
    else:
        response = _carried(given, knots, config, action)
    fits = Fits(response, rows, settings_of(config))
    seconds = _seconds(lambda n: flow_of(fits, config.having(sampling={"stages": n}), action), config.sampling.seed)
    fits.about.update(seconds, fit_seconds=time.process_time() - begun)
    return fits


def _carried(given: Path, knots: list[float], config: Config, action: Action) -> Response:
    """The response in the folder of another annealing, for this volume."""
    other, now = read_fits(given), settings_of(config)
    keys = "layers", "between", "action"
    differ = [key for key in keys if other.about.get(key) != now[key]]
    differ += ["group"] if other.about["lattice"].get("group") != now["lattice"].get("group") else []
    differ += ["dimension"] if len(other.about["lattice"]["extents"]) != action.space.dim else []
    differ += ["first coupling"] if other.response.betas[0] != knots[0] else []
    if differ:
        raise InvalidInput(f"layers of another {', '.join(differ)} do not fit: leave --layers FOLDER out ({given})")
    return other.response.scaled(action.space.volume / math.prod(other.about["lattice"]["extents"]))


def _write(path: Path, fits: Fits) -> None:
    files.make_folder(path.parent)
    tensors = {name: getattr(fits.response, name) for name in RESPONSE} | {"rows": fits.rows}
    save_weights(path, tensors, {"annealing": json.dumps(fits.about)})


def read_fits(folder: Path) -> Fits:
    """The fits in a folder.

    Raises:
        InvalidInput: there are none, or their file is damaged.
    """
    path = folder / FITS
    if not path.exists():
        raise InvalidInput(f"no layers are fitted yet: lattice-flows anneal CONFIG --out {folder} does that ({path})")
    tensors, about = load_weights(path), read_about(path)
    try:
        response = Response(*(tensors[name].double() for name in RESPONSE))
        numbers = parse_json(about["annealing"].encode(), "a JSON object is expected", path)
        return Fits(response, tensors["rows"], numbers)
    except KeyError as error:
        raise InvalidInput(f"the fits of an annealing are expected, {error} is missing ({path})") from error


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that fits depend on."""
    settings = config.sampling
    own = {"begin": settings.begin, "layers": settings.layers, "between": list(settings.between), "seed": settings.seed}
    return own | {"lattice": _plain(config.lattice.table()), "action": _plain(config.action.table())}


def sampler_of(config: Config) -> Callable[[Action], Sampler]:
    """Makes the updates between layers, with their default settings."""
    parts = [(SAMPLERS[name], count) for name, count in cycle_of(config.sampling.between)]

    def sampler(action: Action) -> Sampler:
        return Cycle((entry.build(action, entry.settings(), Context()), count) for entry, count in parts)

    return sampler


def operators_of(config: Config, action: Action) -> tuple[WeightedSum, ...]:
    """The operators of the layers."""
    if config.sampling.layers == "none":
        return ()
    space, name = gauge_field(action.space), config.sampling.layers
    found = tuple(LAYERS[name](space.group, space.dim))
    if min(space.lattice.extents) < 3 and not all(operator.leading for operator in found):
        raise InvalidInput(f"layers of {name} need extents >= 3, got {space.lattice}: take --layers plaquette")
    return found


def _seconds(flow_of_stages: Callable[[int], StochasticFlow], seed: int) -> dict[str, float]:
    """The CPU time of a path without its stages, and of each stage, from paths of few and of more stages."""
    streams, few, more = Streams(seed, 1).branch("time"), 2, 6
    flows, least = {stages: flow_of_stages(stages) for stages in (few, more)}, {few: math.inf, more: math.inf}
    for k in range(3):
        for stages, flow in flows.items():
            begun = time.process_time()
            flow.draw(TIMED, streams.child(0, k, stages))
            least[stages] = min(least[stages], (time.process_time() - begun) / TIMED)
    stage = max(0.0, least[more] - least[few]) / (more - few)
    return {"path_seconds": least[few] - few * stage, "stage_seconds": stage}


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """The table as JSON gives it back."""
    return json.loads(json.dumps(table))
