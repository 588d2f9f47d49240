"""Ensembles of many Markov chains of any sampler in one HDF5 file, version 4 of ``ensemble.h5``.

    /links         (n_distinct, dim, *sites, *element)   each distinct configuration of each chain once, in order
    /scalars       (n_distinct, *sites)                  the same of a scalar field; a file has one of the two
    /chain         (n_distinct,) int64                   the chain of each configuration
    /update        (n_distinct,) int64                   the stored update at which the chain had reached it
    /multiplicity  (n_distinct,) int64                   the number of stored updates that each configuration stands for
    /action        (n_updates, chains) float64           after every update: row t - 1 is that of update t = 1, 2, ...
    /acceptance    (n_updates, chains) float64           the share of accepted changes in every update
    /proposals/log_w, action (float64), accepted (bool)  (n_updates, chains, proposals): of a flow, if one proposes
    /swaps/accepted (bool), probability (float64)        (n_updates, chains, pairs): of a replica exchange
    /end/x, action, log_w, offered                       the state of the chains after the last update, see `ChainState`
    /end/streams   (chains,) int64                       of their random streams
    /checksums     CRC-32 of every page of the file      see `lattice_flows.io.checksums`
    attributes     format, version, field, every, and those of the run: group, extents, beta, seed, config, ...

The attribute `field` (gauge, scalar) names the dataset of the configurations. They are stored at updates that are
multiples of `every`, and only if the chain has moved since it was stored last. A row stands for the chain from its
update up to that of the chain's next row, or up to the end. Its multiplicity is the number of multiples of `every` in
between, and the weight of the row in every average. In /end, log_w and offered are empty where a sampler has none;
others and other_actions are there beside a replica exchange.

Any HDF5 tool reads the file, and each dataset has a `description`. `ChainWriter` (`lattice_flows.io.chain_writer`)
appends to it in transactions. Files of version 3 have neither multiplicities nor checksums.
"""

import math
from pathlib import Path

import h5py
import numpy as np

from lattice_flows.errors import InvalidInput

FORMAT = "lattice_flows ensemble"
VERSION = 4
# the dataset of configurations by the attribute `field`; for any other field it has the field's name
DATASETS = {"gauge": "links", "scalar": "scalars"}
# datasets with a row for each stored configuration, and for each update
ROWS = ("chain", "update", "multiplicity")
NUMBERS = ("action", "acceptance")
PROPOSALS = ("log_w", "action", "accepted")
SWAPS = ("accepted", "probability")
COLUMNS = {"proposals": PROPOSALS, "swaps": SWAPS}
"""The datasets of numbers with a further axis, by their group; a file may lack a group."""
STATE, EXCHANGED = ("x", "action", "log_w", "offered"), ("others", "other_actions")
"""The fields of a state in /end; and those that are there beside swaps."""
DESCRIPTIONS = {
    "x": "each distinct configuration of each chain once, in order: weight them with /multiplicity in averages",
    "chain": "the chain of each configuration",
    "update": "the update at which the chain had reached the configuration: the first is 1",
    "multiplicity": "the number of stored updates that each configuration stands for, its weight in averages",
    "action": "(update, chain): the action after every update",
    "acceptance": "(update, chain): the share of accepted changes in every update",
    "proposals/log_w": "(update, chain, proposal): minus log q of each proposal; minus its action, the log-weight",
    "proposals/action": "(update, chain, proposal): the action of each proposal",
    "proposals/accepted": "(update, chain, proposal): whether each proposal was accepted",
    "swaps/accepted": "(update, chain, pair): whether neighbouring couplings swapped their configurations",
    "swaps/probability": "(update, chain, pair): the probability of each swap",
    "end/x": "the configuration of each chain after the last update",
    "end/action": "the action of each chain after the last update",
    "end/log_w": "the log-weight of the last accepted proposal of each chain; empty where a sampler has none",
    "end/offered": "the number of proposals that each chain has met; empty where a sampler has none",
    "end/others": "the configurations of each chain at the other couplings of a replica exchange, in order",
    "end/other_actions": "their actions, each at its coupling",
    "end/streams": "the state of the random stream of each chain after the last update",
}


def multiplicities(chain: np.ndarray, update: np.ndarray, updates: int, every: int) -> np.ndarray:
    """Return the numbers of stored updates that rows stand for, after so many updates; the rows reach to the end."""
    order = np.argsort(chain, kind="stable")
    own, start = chain[order], update[order]
    stop = np.full_like(start, updates + 1)
    same = own[1:] == own[:-1]
    stop[:-1][same] = start[1:][same]
    counts = np.empty_like(start)
    counts[order] = (stop - 1) // every - (start - 1) // every  # multiples of `every` before the next row
    return counts


def broken(why: str, path: Path) -> InvalidInput:
    """Return the error that says what is wrong with a file."""
    return InvalidInput(
        f"an ensemble of lattice_flows is expected, this file is {why}: "
        f"restore it from a copy, or remove it to sample from the start ({path})"
    )


def names_of_numbers(file: h5py.File) -> list[str]:
    """Return the names of the datasets that hold numbers of each update."""
    return [*NUMBERS, *(f"{group}/{name}" for group, names in COLUMNS.items() if group in file for name in names)]


def row_bytes(data: h5py.Dataset | np.ndarray) -> int:
    """Return the bytes of a row."""
    return data.dtype.itemsize * math.prod(data.shape[1:])
