"""The fits of a run's annealing: their file, and the stochastic flow that they and the settings make."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.config.registry import SAMPLERS
from lattice_flows.config.text import parse_json
from lattice_flows.errors import InvalidInput, naming
from lattice_flows.io import ChainFile, load_weights, read_about, save_weights
from lattice_flows.lattice.space import gauge_field
from lattice_flows.models import build_action, dtype
from lattice_flows.operators import WeightedSum
from lattice_flows.reports.annealing import Predicted
from lattice_flows.reports.words import action_settings, space_in_words
from lattice_flows.runs.folder import CONFIG, load_run, sampled
from lattice_flows.sampling import Cycle, Sampler, Streams, start
from lattice_flows.sampling.base import Context
from lattice_flows.sampling.stochastic_flow import LAYERS, StochasticFlow, check_rising
from lattice_flows.statistics import Estimate, estimate
from lattice_flows.training.response import Response, fit_couplings, fits_along

log = logging.getLogger(__name__)

FITS = "annealing.safetensors"
CHAINS = 32
"""The number of chains that are fitted."""
FAR = 5.0
"""The pull between the two ends of chains that are not thermalised."""


class Fits(NamedTuple):
    """What is fitted, and what it needs and costs."""

    response: Response
    rows: Tensor
    """`(n,)` int64: the rows of the ensemble where paths begin; none for Haar's measure."""
    about: dict[str, Any]
    """The settings that the fits are of; `stage_seconds`, the CPU time of a stage of a path, and `fit_seconds`."""


class Rows:
    """Configurations of an ensemble by number, read as they are wanted."""

    def __init__(self, path: Path, rows: Tensor, dtype: torch.dtype):
        self.chains, self.rows, self.dtype = ChainFile(path), rows, dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: Tensor) -> Tensor:
        distinct, places = np.unique(self.rows[numbers].numpy(), return_inverse=True)
        return self.chains.read(distinct)[torch.from_numpy(places)].to(self.dtype)


def prediction(fits: Fits, stages: int) -> Predicted:
    """What the fits expect of paths of so many stages."""
    return Predicted(fits.response.work(stages), stages * fits.about["stage_seconds"])


def stochastic_flow(folder: Path, config: Config, action: Action) -> StochasticFlow:
    """The stochastic flow of the annealing in a folder.

    Raises:
        InvalidInput: nothing is fitted, or for other settings.
    """
    fits = read_fits(folder)
    if (made := settings_of(config)) != {key: fits.about.get(key) for key in made}:
        raise InvalidInput(f"the layers are those of other settings: lattice-flows anneal fits them ({folder / FITS})")
    return flow_of(fits, config, action)


def flow_of(fits: Fits, config: Config, action: Action) -> StochasticFlow:
    """The stochastic flow of some fits."""
    settings, betas = config.sampling, fits.response.schedule(config.sampling.stages)
    ensemble = None
    if settings.begin != "haar":
        first, _, chains = _ensemble(settings.begin, config, action)
        if first != fits.response.betas[0] or int(fits.rows.max()) >= chains.n_distinct:
            raise InvalidInput(f"this is another ensemble than the one of the fits: anneal anew ({chains.path})")
        ensemble = Rows(chains.path, fits.rows, action.space.dtype(dtype(config)))
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


def fit(folder: Path, config: Config, action: Action) -> Fits:
    """Fit the layers of an annealing to thermalised chains, and write the file; or read it, for the same settings.

    Raises:
        InvalidInput: a schedule that does not rise, an ensemble that does not fit or is too small, or as
            `transport_fit`.
    """
    made = settings_of(config)
    if (folder / FITS).exists():
        fits = read_fits(folder)
        if made == {key: fits.about.get(key) for key in made}:
            return fits
    settings, begun = config.sampling, time.process_time()
    streams = Streams(settings.seed, CHAINS).branch("fits")
    if settings.begin == "haar":
        first, rows = 0.0, torch.zeros(0, dtype=torch.int64)
        couplings = fit_couplings(first, action)
        x = start(action.space, streams, dtype=dtype(config))
    else:
        first, rows, chains = _ensemble(settings.begin, config, action)
        couplings = fit_couplings(first, action)
        ensemble = Rows(chains.path, rows, action.space.dtype(dtype(config)))
        x = ensemble[torch.arange(CHAINS) * len(rows) // CHAINS]
    along = fits_along(action, couplings, sampler_of(config), operators_of(config, action), x, streams)
    with tqdm(along, total=len(couplings), desc="fitting layers", unit="coupling", disable=None) as bar:
        response = Response.of(couplings, list(bar))
    fits = Fits(response, rows, made)
    seconds = _stage_seconds(flow_of(fits, config.having(sampling={"stages": 2}), action), settings.seed)
    made |= {"stage_seconds": seconds, "fit_seconds": time.process_time() - begun}
    tensors = {name: getattr(response, name) for name in ("betas", "velocities", "parts")} | {"rows": rows}
    save_weights(folder / FITS, tensors, {"annealing": json.dumps(made)})
    return fits


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
        response = Response(*(tensors[name].double() for name in ("betas", "velocities", "parts")))
        return Fits(response, tensors["rows"], parse_json(about["annealing"].encode(), "a JSON object is expected", path))
    except KeyError as error:
        raise InvalidInput(f"the fits of an annealing are expected, {error} is missing ({path})") from error


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that fits depend on."""
    settings = config.sampling
    own = {"begin": settings.begin, "layers": settings.layers, "between": list(settings.between), "seed": settings.seed}
    return own | {"lattice": _plain(config.lattice.table()), "action": _plain(config.action.table())}


def sampler_of(config: Config) -> Callable[[Action], Sampler]:
    """Makes the updates between layers, with their default settings."""
    parts = [update.partition("*") for update in config.sampling.between]

    def sampler(action: Action) -> Sampler:
        steps = []
        for name, _, count in parts:
            entry = SAMPLERS[name]
            steps.append((entry.build(action, entry.settings(), Context()), int(count or 1)))
        return Cycle(steps)

    return sampler


def operators_of(config: Config, action: Action) -> tuple[WeightedSum, ...]:
    """The operators of the layers."""
    if config.sampling.layers == "none":
        return ()
    space = gauge_field(action.space)
    return tuple(LAYERS[config.sampling.layers](space.group, space.dim))


def _ensemble(source: str, config: Config, action: Action) -> tuple[float, Tensor, ChainFile]:
    """The coupling of a run, the rows of its independent configurations, and its chains."""
    folder = Path(source)
    run = load_run(folder)
    run, own = build_action(run, str(folder / CONFIG))
    if own.space != action.space:
        one, other = space_in_words(own.space), space_in_words(action.space)
        raise InvalidInput(f"paths to {other} cannot begin at an ensemble of {one} ({folder})")
    before, now = ({**action_settings(one), "name": one.action.name, "beta": None} for one in (run, config))
    if before != now:
        raise InvalidInput(f"paths begin at the same action at another beta, got {before} for {now} ({folder})")
    chains = ChainFile(sampled(folder))
    check_rising(action, [own.beta, action.beta])
    return own.beta, _independent(chains), chains


def _independent(chains: ChainFile) -> Tensor:
    """The rows of configurations that are two autocorrelation times of the action apart."""
    action = chains.series("action").T
    with naming(str(chains.path)):
        whole = estimate(action)
        if not whole.reliable:
            raise InvalidInput(f"a thermalised ensemble is needed, this one is {whole.reason}: sample it longer")
        _check_thermalised(action)
    step = max(1, round(2 * whole.tau_int / chains.every))
    found = []
    for chain in range(chains.chains):
        rows, counts = chains.rows(chain)
        found.append(np.repeat(rows, counts)[step - 1 :: step])
    return torch.from_numpy(np.concatenate(found))


def _check_thermalised(action: np.ndarray) -> None:
    """Raise InvalidInput if the first tenth of chains has another mean than their second half."""
    n = action.shape[1]
    ends: list[Estimate] = [estimate(part) for part in (action[:, : max(5, n // 10)], action[:, n // 2 :])]
    pull = (ends[0].value - ends[1].value) / float(np.hypot(*(end.error for end in ends)))
    if abs(pull) > FAR:
        raise InvalidInput(
            f"a thermalised ensemble is needed, in this one the action at the begin is {pull:+.1f} errors off that at "
            "the end: sample it anew with a larger sampling.thermalise"
        )


def _stage_seconds(flow: StochasticFlow, seed: int) -> float:
    """The CPU time of a stage of a path."""
    streams = Streams(seed, 1).branch("time")
    flow.draw(8, streams.child(0, 0))  # compiled before
    begun = time.process_time()
    flow.draw(CHAINS, streams.child(0, 1))
    return (time.process_time() - begun) / (CHAINS * (len(flow.betas) - 1))


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """The table as JSON gives it back."""
    return json.loads(json.dumps(table))
