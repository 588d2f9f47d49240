"""Where the paths of an annealing begin: independent configurations of a run."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.errors import InvalidInput, naming
from lattice_flows.io import ChainFile
from lattice_flows.models import build_action
from lattice_flows.reports.words import couplings, space_in_words
from lattice_flows.runs.folder import CONFIG, load_run, sampled
from lattice_flows.sampling.stochastic_flow import check_rising
from lattice_flows.statistics import estimate

FEWEST = 32
"""Of independent configurations."""
FAR = 5.0
"""The pull between the two ends of chains that are not thermalised."""


class Rows:
    """Configurations of an ensemble by number, read as they are wanted."""

    def __init__(self, chains: ChainFile, rows: Tensor, dtype: torch.dtype):
        self.chains, self.rows, self.dtype = chains, rows, dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: Tensor) -> Tensor:
        distinct, places = np.unique(self.rows[numbers].numpy(), return_inverse=True)
        return self.chains.read(distinct)[torch.from_numpy(places)].to(self.dtype)


def begin_at(config: Config, action: Action) -> tuple[float, ChainFile]:
    """The coupling and the chains of the run where paths begin."""
    folder = Path(config.sampling.begin)
    run, own = build_action(load_run(folder), str(folder / CONFIG))
    if own.space != action.space:
        one, other = space_in_words(own.space), space_in_words(action.space)
        raise InvalidInput(f"paths of {other} cannot begin at configurations of {one} ({folder})")
    before, now = ({**one.action.table(), "beta": None} for one in (run, config))
    if before != now or own.beta is None or action.beta is None:
        one, other = (f"{each.action.name} action at {couplings(each)}" for each in (run, config))
        raise InvalidInput(f"paths begin at the same action at a smaller beta, got {one} for {other} ({folder})")
    with naming(str(folder)):
        check_rising(action, [own.beta])
    return own.beta, ChainFile(sampled(folder))


def independent(chains: ChainFile) -> Tensor:
    """The rows of configurations that are two autocorrelation times of the action apart."""
    action = chains.series("action").T
    with naming(str(chains.path)):
        whole = estimate(action)
        if not whole.reliable:
            raise InvalidInput(f"independent configurations are needed, this ensemble is {whole.reason}: sample longer")
        _check_thermalised(action)
    step = max(1, round(2 * whole.tau_int / chains.every))
    found = []
    for chain in range(chains.chains):
        rows, counts = chains.rows(chain)
        found.append(np.repeat(rows, counts)[step - 1 :: step])
    return torch.from_numpy(np.concatenate(found))


def check_enough(rows: Tensor, source: str, paths: int | None) -> None:
    """Raise InvalidInput if an ensemble has too few independent configurations, for fits or for paths."""
    if source == "haar":
        return
    if len(rows) < FEWEST:
        raise InvalidInput(
            f"{FEWEST} independent configurations are needed, the run has {len(rows)}: sample more ({source})"
        )
    if paths is not None and paths > len(rows):
        raise InvalidInput(
            f"{paths} paths need as many independent configurations, the run has {len(rows)} of them: take "
            f"-n {len(rows)}, or sample more ({source})"
        )


def _check_thermalised(action: np.ndarray) -> None:
    """Raise InvalidInput if the first tenth of chains has another mean than their second half."""
    n = action.shape[1]
    first, second = action[:, : -(-n // 10)], action[:, n // 2 :]
    end = estimate(second)
    pull = (first.mean() - end.value) / (end.error * math.sqrt(1 + second.size / first.size))
    if abs(pull) > FAR:
        raise InvalidInput(
            f"a thermalised ensemble is needed, in this one the action at first is {pull:+.1f} errors off that at the "
            "end: sample it anew with a larger sampling.thermalise"
        )
