"""Observables along stored chains."""

from collections.abc import Mapping

import numpy as np
import torch
from tqdm import tqdm

from lattice_flows.distributed import SERIAL, World
from lattice_flows.io import ChainFile
from lattice_flows.measurement import Observable


def observe(chains: ChainFile, observables: Mapping[str, Observable], world: World = SERIAL) -> dict[str, np.ndarray]:
    """Each observable along the chains, `(chains, n, ...)`; each distinct configuration is measured once.

    Links are read and dropped in parts: what grows with the length of the chains are these series alone.

    Args:
        world: whose ranks share the parts, each of them calling this and getting all series.
    """
    parts = chains.parts()
    if not parts:
        return {}
    first = chains.read(parts[0][:1])
    values = {
        name: np.zeros((chains.n_distinct, *observable(first).shape[1:])) for name, observable in observables.items()
    }
    # the same parts on any number of ranks, so that the digits are the same
    mine = parts[world.rank :: world.size]
    hidden = None if world.first else True
    with tqdm(total=sum(map(len, mine)), desc="measuring", unit="conf", disable=hidden) as bar:
        for rows in mine:
            links = chains.read(rows)
            for name, observable in observables.items():
                values[name][rows] = observable(links).numpy()
            bar.update(len(rows))
    for own in values.values():
        world.sum_(torch.from_numpy(own))
    return {name: chains.expand(own).swapaxes(0, 1) for name, own in values.items()}
