"""Observables along stored chains."""

from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from lattice_flows.io import ChainFile
from lattice_flows.measurement import Observable


def observe(chains: ChainFile, observables: Mapping[str, Observable]) -> dict[str, np.ndarray]:
    """Each observable along the chains, `(chains, n, ...)`; each distinct configuration is measured once.

    Links are read and dropped in blocks: what grows with the length of the chains are these series alone.
    """
    values: dict[str, np.ndarray] = {}
    done = 0
    with tqdm(total=chains.n_distinct, desc="measuring", unit="conf", disable=None) as bar:
        for links in chains.links():
            for name, observable in observables.items():
                found = observable(links).numpy()
                # filled in place: pieces kept between blocks would leave holes that the next block does not fit into
                own = values.setdefault(name, np.empty((chains.n_distinct, *found.shape[1:])))
                own[done : done + len(links)] = found
            done += len(links)
            bar.update(len(links))
    return {name: chains.expand(own).swapaxes(0, 1) for name, own in values.items()}
