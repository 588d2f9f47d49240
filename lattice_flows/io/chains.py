"""Reading an ensemble of many Markov chains, whose layout is in `lattice_flows.io.chain_layout`."""

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.config.text import read_bytes
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files
from lattice_flows.io.chain_layout import (
    COLUMNS,
    DATASETS,
    EXCHANGED,
    FORMAT,
    NUMBERS,
    STATE,
    VERSION,
    broken,
    multiplicities,
    names_of_numbers,
    row_bytes,
)
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

# the bytes of configurations that are read at a time
BLOCK = 2**26

T = TypeVar("T")


class ChainFile:
    """Stored chains, read lazily: numbers in slices of updates, configurations in blocks.

    A reader is a snapshot: updates that a writer adds meanwhile are not seen, but for `end`. It needs no lock. What it
    reads has been compared with checksums, but for files of version 3.

    Args:
        updates: the snapshot after the first so many.

    Attributes:
        attributes: those of the run, `field` and `every`.
        dataset: the name of the dataset of configurations, `links` or `scalars`.
        n_updates: the number of committed updates.
        chains: the number of chains.
        every: configurations are stored at multiples of it.
        n_distinct: the number of distinct configurations, rows of the dataset.
        row_bytes: the size of a configuration.
        proposals: the number of proposals of a flow that each chain meets in an update.
        pairs: the number of pairs of couplings that swap in an update.
        version: that of the file.
        checked: whether the file has checksums.

    Raises:
        InvalidInput: the file is missing, truncated, something else, or of another version; each method raises it
            where it meets a part that is damaged.

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

    def __init__(self, path: str | Path, updates: int | None = None) -> None:
        self.path = Path(path)
        self._identity: tuple[int, int] | None = None
        self.n_updates = 0
        self._get("attributes", self._begin)
        if updates is not None and updates < self.n_updates:
            self.n_updates = updates
            reached = self._get("update", lambda file: file["update"][:])
            self.n_distinct = int(np.searchsorted(reached, updates, "right"))

    def _begin(self, file: h5py.File) -> None:
        self.attributes: dict[str, Any] = dict(file.attrs)
        self.version = self.attributes.pop("version", None)
        found = self.attributes.pop("format", None), VERSION if self.version == 3 else self.version
        files.check_format("an ensemble", found, (FORMAT, VERSION), self.path, "is another HDF5 file")
        self.every = int(self.attributes["every"])
        field = str(self.attributes.get("field", "gauge"))
        self.dataset = DATASETS.get(field, field)
        self.n_updates, self.chains = file["action"].shape
        self.n_distinct = len(file[self.dataset])
        self.row_bytes = row_bytes(file[self.dataset])
        self.proposals, self.pairs = (
            file[f"{group}/accepted"].shape[2] if group in file else 0 for group in ("proposals", "swaps")
        )
        if not self.checked:
            self._check(file)

    def _check(self, file: h5py.File) -> None:
        """Refuse shapes that contradict each other, or are larger than a file without checksums."""
        numbers = {name: file[name].shape[: 2 if name in NUMBERS else 3] for name in names_of_numbers(file)}
        shape = self.n_updates, self.chains
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(NUMBERS, shape)
        for group, last in (("proposals", self.proposals), ("swaps", self.pairs)):
            expected |= {f"{group}/{name}": (*shape, last) for name in COLUMNS[group]}
        contradictions = [
            self.every < 1,
            any(found != expected[name] for name, found in numbers.items()),
            any(file[name].shape != (self.n_distinct,) for name in ("chain", "update")),
            file["end/x"].shape != (self.chains, *file[self.dataset].shape[1:]),
            any(file[name].nbytes > self.path.stat().st_size for name in (self.dataset, "chain", "update", *numbers)),
        ]
        if any(contradictions):
            raise ValueError("shapes")

    def __len__(self) -> int:
        return self.n_updates

    def series(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return numbers of the updates from `start` to `stop`, `(updates, chains)` or `(updates, chains, proposals)`.

        Args:
            name: `action`, `acceptance`, `proposals/log_w`, `proposals/action` or `proposals/accepted`.

        Raises:
            InvalidInput: the file has no such numbers.
        """

        def read(file: h5py.File) -> np.ndarray:
            if name not in (known := names_of_numbers(file)):
                raise InvalidInput(f"unknown numbers {name!r}; there are {', '.join(known)} ({self.path})")
            begin, end, _ = slice(start, stop).indices(self.n_updates)
            return file[name][begin:end]

        return self._get(name, read)

    def rows(self, chain: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of chain k in order, and their multiplicities.

        Raises:
            InvalidInput: there is no such chain.
        """
        if not 0 <= chain < self.chains:
            raise InvalidInput(f"chain must be from 0 to {self.chains - 1}, got {chain} ({self.path})")
        chains, updates = self._places
        rows = np.flatnonzero(chains == chain)
        return rows, multiplicities(chains[rows], updates[rows], self.n_updates, self.every)

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the chains of rows, and the updates at which these had reached them."""
        chains, updates = self._places
        return chains[rows], updates[rows]

    @property
    def config(self) -> str:
        """The config of the run that made the ensemble, in TOML.

        Raises:
            InvalidInput: there is none.
        """
        if not isinstance(found := self.attributes.get("config"), str):
            raise InvalidInput(
                "an ensemble that lattice-flows sample made is expected, this one has no config: measure --improved "
                f"takes it with --action, which says its action ({self.path})"
            )
        return found

    def thinned(self, step: int) -> "ChainFile":
        """Return the same chains with every `step`-th configuration alone; others have multiplicity 0."""
        own = copy.copy(self)
        own.every *= step
        return own

    def configurations(self) -> Iterator[Tensor]:
        """Yield the distinct configurations of all chains in order, in blocks of 64 MiB."""
        return map(self.read, self.parts())

    def parts(self) -> list[np.ndarray]:
        """Return all rows, in parts of 64 MiB of configurations."""
        size = max(1, BLOCK // self.row_bytes)
        return [np.arange(start, min(start + size, self.n_distinct)) for start in range(0, self.n_distinct, size)]

    def read(self, rows: np.ndarray) -> Tensor:
        """Return the configurations `(len(rows), *shape)` in rows that rise."""
        return torch.from_numpy(self._get(self.dataset, lambda file: file[self.dataset][rows]))

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
        names = (*STATE, *(EXCHANGED if self.pairs else ()), "streams")
        stored = self._get("end", lambda file: {name: torch.from_numpy(file["end"][name][:]) for name in names})
        streams = stored.pop("streams")
        return ChainState(**{name: value for name, value in stored.items() if len(value)}), streams

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The `places` of all rows, which every series of every chain needs."""
        n = self.n_distinct
        return self._get("update", lambda file: (file["chain"][:n], file["update"][:n]))

    def _get(self, part: str, read: Callable[[h5py.File], T]) -> T:
        """Return what is read from one state of the file, however often a writer changes it meanwhile."""
        read_bytes(self.path, "ensemble", 0)  # because errors of HDF5 do not give the reason of the system
        while True:
            with TransactionFile(self.path, writable=False) as disk:
                if disk.identity != (self._identity or disk.identity):
                    raise InvalidInput(f"another ensemble took the place of this one: read it again ({self.path})")
                self._identity, self.checked = disk.identity, disk.state is not None
                try:
                    with h5py.File(disk, "r") as file:
                        found = read(file)
                    if disk.error is None:  # HDF5 takes some errors for the absence of a name
                        return found
                except (InvalidInput, MemoryError):
                    if disk.error is None:
                        raise
                except Exception as error:  # h5py raises half a dozen kinds
                    if disk.error is None:
                        raise broken("truncated or something else", self.path) from error
                if not disk.changed():
                    raise InvalidInput(f"{disk.error} (in /{part})")
