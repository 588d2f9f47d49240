"""Observables along stored chains."""

from collections.abc import Mapping

import numpy as np
import torch
from tqdm import tqdm

from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.io import ChainFile
from lattice_flows.lattice import GaugeField
from lattice_flows.models import build_space
from lattice_flows.observables import Observable
from lattice_flows.reports.words import space_in_words


def observe(chains: ChainFile, observables: Mapping[str, Observable], world: World = SERIAL) -> dict[str, np.ndarray]:
    """Measure observables along the chains: name -> series `(chains, n, ...)`.

    Each distinct configuration is measured once. Configurations are read in parts and dropped, so that memory grows
    with these series alone.

    Args:
        world: the ranks that share the parts; each of them calls this and gets all series.
    """
    parts = chains.parts()
    if not parts:
        return {}
    first = chains.read(parts[0][:1])
    values = {name: np.zeros((chains.n_distinct, *own(first).shape[1:])) for name, own in observables.items()}
    # the same parts on any number of ranks, so that the digits are the same
    mine = parts[world.rank :: world.size]
    with tqdm(total=sum(map(len, mine)), desc="measuring", unit="conf", disable=None if world.first else True) as bar:
        for rows in mine:
            x = chains.read(rows)
            for name, observable in observables.items():
                values[name][rows] = observable(x).numpy()
            bar.update(len(rows))
    for own in values.values():
        world.sum_(torch.from_numpy(own))
    return {name: chains.expand(own).swapaxes(0, 1) for name, own in values.items()}


def links_of(config: Config, purpose: str) -> GaugeField:
    """Return the space of a run of links; raise InvalidInput for another field.

    The error begins with `purpose`, a subject and a verb, such as "Wilson loops are measured on".
    """
    space = build_space(config)
    if not isinstance(space, GaugeField):
        raise InvalidInput(f"{purpose} links, the run is of {space_in_words(space)}: leave them out")
    return space
