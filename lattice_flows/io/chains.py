"""Ensembles of many Markov chains of any sampler in one HDF5 file, version 3 of ``ensemble.h5``.

    /links         (n_distinct, dim, *sites, *element)   each distinct configuration of each chain once, in order
    /scalars       (n_distinct, *sites)                  the same of a scalar field; a file has one of the two
    /chain         (n_distinct,) int64                   the chain of each configuration
    /update        (n_distinct,) int64                   the stored update at which the chain had reached it
    /action        (n_updates, chains) float64           after every update: row t - 1 is that of update t = 1, 2, ...
    /acceptance    (n_updates, chains) float64           the share of accepted changes in every update
    /proposals/log_w, action (float64), accepted (bool)  (n_updates, chains, proposals): of a flow, if one proposes
    /end/x, action, log_w, offered                       the state of the chains after the last update, see `ChainState`
    /end/streams   (chains, k) uint8                     of their random streams
    attributes     format, version, field, every, and those of the run: group, extents, beta, seed, config, ...

The attribute `field` (gauge, scalar) names the dataset of the configurations. They are stored at updates that are
multiples of `every`, and only if the chain has moved since it was stored last. A row stands for the chain from its
update up to that of the chain's next row, or up to the end. Its multiplicity is the number of multiples of `every` in
between. In /end, log_w and offered are empty where a sampler has none.

Any HDF5 tool reads the file. `ChainWriter` appends to it in transactions (`lattice_flows.io.transactions`).
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import files
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

FORMAT = "lattice_flows ensemble"
VERSION = 3
BLOCK = 2**26
"""The bytes of configurations that are read at a time."""
DATASETS = {"gauge": "links", "scalar": "scalars"}
"""The dataset of configurations by the attribute `field`; for any other field it has the field's name."""
NUMBERS = ("action", "acceptance")
PROPOSALS = ("log_w", "action", "accepted")


class ChainFile:
    """Stored chains, read lazily: numbers in slices of updates, configurations in blocks.

    A reader is a snapshot: updates that a writer adds meanwhile are not seen, but for `end`.

    Attributes:
        attributes: those of the run, `field` and `every`.
        dataset: the name of the dataset of configurations, `links` or `scalars`.
        n_updates: the number of committed updates.
        chains: the number of chains.
        every: configurations are stored at multiples of it.
        n_distinct: the number of distinct configurations, rows of the dataset.
        proposals: the number of proposals of a flow that each chain meets in an update.

    Raises:
        InvalidInput: the file is missing, truncated, something else, or of another version.

    Example:
        >>> import tempfile
        >>> from lattice_flows.io import ChainWriter, create_chains
        >>> from lattice_flows.sampling import Streams
        >>> streams, state = Streams(seed=0, chains=2), ChainState(torch.zeros(2, 2, 4, 4), torch.zeros(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = create_chains(Path(folder, "ensemble.h5"), state, streams.get_state(), {"beta": 2.0})
        ...     with ChainWriter(path) as out:
        ...         for _ in range(3):
        ...             out.append(state, torch.zeros(2))
        ...         out.commit(streams.get_state())
        ...     file = ChainFile(path)
        ...     file.series("action").shape, [part.tolist() for part in file.rows(chain=1)]
        ((3, 2), [[1], [3]])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._open() as (file, attributes):
            self.attributes: dict[str, Any] = attributes
            self.every = int(attributes["every"])
            self.dataset = dataset_of(attributes)
            self.n_updates, self.chains = file["action"].shape
            self.n_distinct = len(file[self.dataset])
            self.proposals = file["proposals/action"].shape[2] if "proposals" in file else 0

    def __len__(self) -> int:
        return self.n_updates

    def series(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return numbers of the updates from `start` to `stop`, `(updates, chains)` or `(updates, chains, proposals)`.

        Args:
            name: `action`, `acceptance`, `proposals/log_w`, `proposals/action` or `proposals/accepted`.

        Raises:
            InvalidInput: the file has no such numbers.
        """
        with self._open() as (file, _):
            if name not in (known := numbers(file)):
                raise InvalidInput(f"unknown numbers {name!r}; there are {', '.join(known)} ({self.path})")
            begin, end, _ = slice(start, stop).indices(self.n_updates)
            return file[name][begin:end]

    def rows(self, chain: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of chain k in order, and their multiplicities.

        Raises:
            InvalidInput: there is no such chain.
        """
        if not 0 <= chain < self.chains:
            raise InvalidInput(f"chain must be from 0 to {self.chains - 1}, got {chain} ({self.path})")
        with self._open() as (file, _):
            rows = np.flatnonzero(file["chain"][: self.n_distinct] == chain)
            reached = file["update"][: self.n_distinct][rows]
        after = self.n_updates // self.every * self.every + self.every
        return rows, np.diff(reached, append=after) // self.every

    def configurations(self) -> Iterator[Tensor]:
        """Yield the distinct configurations of all chains in order, in blocks of 64 MiB."""
        return map(self.read, self.parts())

    def parts(self) -> list[np.ndarray]:
        """Return all rows, in parts of 64 MiB of configurations."""
        with self._open() as (file, _):
            stored = file[self.dataset]
            size = max(1, BLOCK // (stored.dtype.itemsize * int(np.prod(stored.shape[1:]))))
        return [np.arange(start, min(start + size, self.n_distinct)) for start in range(0, self.n_distinct, size)]

    def read(self, rows: np.ndarray) -> Tensor:
        """Return the configurations `(len(rows), *shape)` in rows that rise."""
        with self._open() as (file, _):
            return torch.from_numpy(file[self.dataset][rows])

    def configuration(self, chain: int, update: int | None = None) -> Tensor:
        """Return the configuration `(*shape)` of chain k after an update, by default after the last one stored.

        Raises:
            InvalidInput: there is no such chain, or no configuration was stored at this update.
        """
        last = self.n_updates // self.every * self.every
        at = last if update is None else update
        if not 0 < at <= last or at % self.every:
            step = f"a multiple of {self.every} " if self.every > 1 else ""
            raise InvalidInput(f"update must be {step}from {min(self.every, last)} to {last}, got {at} ({self.path})")
        rows, multiplicity = self.rows(chain)
        row = rows[np.searchsorted(np.cumsum(multiplicity), at // self.every)]
        return self.read(rows[rows == row])[0]

    def expand(self, values: np.ndarray) -> np.ndarray:
        """Turn values of all rows `(n_distinct, ...)` into series `(n_updates // every, chains, ...)`."""
        columns = [np.repeat(values[rows], counts, axis=0) for rows, counts in map(self.rows, range(self.chains))]
        return np.stack(columns, axis=1)

    def end(self) -> tuple[ChainState, Tensor]:
        """Return the state of the chains and of their streams, from which they go on bit for bit."""
        with self._open() as (file, _):
            stored = {name: torch.from_numpy(file["end"][name][:]) for name in (*ChainState._fields, "streams")}
        log_w, offered = (stored[name] if len(stored[name]) else None for name in ("log_w", "offered"))
        return ChainState(stored["x"], stored["action"], log_w, offered), stored["streams"]

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        with contextlib.ExitStack() as stack:
            try:
                disk = stack.enter_context(TransactionFile(self.path, writable=False))
                file = stack.enter_context(h5py.File(disk, "r"))
            except FileNotFoundError as error:
                raise InvalidInput(f"cannot read the ensemble: {error.strerror} ({self.path})") from error
            except OSError as error:
                raise InvalidInput(
                    "an ensemble of lattice_flows is expected, this file is truncated or something else: "
                    f"restore it from a copy, or remove it to sample from the start ({self.path})"
                ) from error
            attributes = dict(file.attrs)
            found = attributes.pop("format", None), attributes.pop("version", None)
            files.check_format("an ensemble", found, (FORMAT, VERSION), self.path, "is another HDF5 file")
            yield file, attributes


def dataset_of(attributes: Mapping[str, Any]) -> str:
    """Return the name of the dataset of configurations in an ensemble with these attributes.

    Example:
        >>> dataset_of({}), dataset_of({"field": "scalar"})
        ('links', 'scalars')
    """
    field = attributes.get("field", "gauge")
    return DATASETS.get(field, field)


def numbers(file: h5py.File) -> list[str]:
    """Return the names of the datasets that hold numbers of each update."""
    return [*NUMBERS, *(f"proposals/{name}" for name in PROPOSALS if "proposals" in file)]
