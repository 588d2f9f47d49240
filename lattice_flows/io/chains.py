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
import copy
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.config.text import read_bytes
from lattice_flows.errors import InvalidInput
from lattice_flows.io import files
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

FORMAT = "lattice_flows ensemble"
VERSION = 3
# the bytes of configurations that are read at a time, and those that wait to be compared and written in one go
BLOCK, WAITING = 2**26, 2**24
# the dataset of configurations by the attribute `field`; for any other field it has the field's name
DATASETS = {"gauge": "links", "scalar": "scalars"}
# datasets with a row for each stored configuration, and for each update
ROWS = ("chain", "update")
NUMBERS = ("action", "acceptance")
PROPOSALS = ("log_w", "action", "accepted")


def create_chains(
    path: str | Path,
    state: ChainState,
    streams: Tensor,
    attributes: Mapping[str, Any],
    *,
    every: int = 1,
    proposals: int = 0,
) -> Path:
    """Make an ensemble without updates, durably, all or nothing; return its path.

    Args:
        state: of the chains at the start.
        streams: the state `(chains, k)` of their random streams: `Streams.get_state`.
        attributes: of the run: numbers, strings and lists of them. `field`, by default `gauge`, names the dataset of
            configurations.
        every: configurations are stored at updates that are multiples of it.
        proposals: the number of proposals of a flow that each chain meets in an update.

    Raises:
        InvalidInput: the file exists, or `every` or `proposals` is too small, or `field` is another dataset's name.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    path = Path(path)
    if every < 1 or proposals < 0:
        raise InvalidInput(f"every must be >= 1 and proposals >= 0, got {every} and {proposals}")
    if path.exists():
        raise InvalidInput(f"a new file is expected, this one exists: append to it, or move it away ({path})")
    attributes = {"field": "gauge", **attributes}
    configurations = DATASETS.get(attributes["field"], attributes["field"])
    if configurations in (*NUMBERS, *ROWS, "proposals", "end"):
        raise InvalidInput(f"the field of an ensemble must not be called {configurations!r}, as other data are")
    chains = len(state.x)
    # first the data that change with each commit: they lie in the first page, which is put in place last
    data: dict[str, np.ndarray] = {name: np.empty((0, chains)) for name in NUMBERS}
    data |= {name: np.empty(0, np.int64) for name in ROWS}
    for name in PROPOSALS if proposals else ():
        data[f"proposals/{name}"] = np.empty((0, chains, proposals), bool if name == "accepted" else float)
    data[configurations] = state.x[:0].cpu().numpy()
    data |= {f"end/{name}": value for name, value in _end(state, streams).items()}
    # through memory, because HDF5 crashes on a full disk; superblock of version 2: see `TransactionFile`
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v108", "v108")) as file:
        for name, rows in data.items():
            # about 16 KiB, or one row: a chunk that is not full is written again with the next commit
            chunk = max(1, min(1024, 2**14 // _row_bytes(rows)))
            shape = rows.shape[1:]
            file.create_dataset(name, data=rows, maxshape=(None, *shape), chunks=(chunk, *shape))
        file.attrs.update({**attributes, "format": FORMAT, "version": VERSION, "every": every})
    files.write(path, buffer.getvalue())
    return path


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
        with self._open() as file:
            self.attributes: dict[str, Any] = dict(file.attrs)
            found = self.attributes.pop("format", None), self.attributes.pop("version", None)
            files.check_format("an ensemble", found, (FORMAT, VERSION), path, "is another HDF5 file")
            self.every = int(self.attributes["every"])
            field = self.attributes.get("field", "gauge")
            self.dataset = DATASETS.get(field, field)
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
        with self._open() as file:
            if name not in (known := _numbers(file)):
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
        with self._open() as file:
            rows = np.flatnonzero(file["chain"][: self.n_distinct] == chain)
            reached = file["update"][: self.n_distinct][rows]
        # the number of multiples of `every` before the next row
        return rows, np.diff((np.append(reached, self.n_updates + 1) - 1) // self.every)

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the chain of each row, and the update at which it had reached the configuration, `(n_distinct,)`."""
        with self._open() as file:
            return file["chain"][: self.n_distinct], file["update"][: self.n_distinct]

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
        with self._open() as file:
            size = max(1, BLOCK // _row_bytes(file[self.dataset]))
        return [np.arange(start, min(start + size, self.n_distinct)) for start in range(0, self.n_distinct, size)]

    def read(self, rows: np.ndarray) -> Tensor:
        """Return the configurations `(len(rows), *shape)` in rows that rise."""
        with self._open() as file:
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
        with self._open() as file:
            stored = {name: torch.from_numpy(file["end"][name][:]) for name in (*ChainState._fields, "streams")}
        log_w, offered = (stored[name] if len(stored[name]) else None for name in ("log_w", "offered"))
        return ChainState(stored["x"], stored["action"], log_w, offered), stored["streams"]

    @contextlib.contextmanager
    def _open(self) -> Iterator[h5py.File]:
        read_bytes(self.path, "ensemble", 0)  # because errors of HDF5 do not give the reason of the system
        with contextlib.ExitStack() as stack:
            try:
                disk = stack.enter_context(TransactionFile(self.path, writable=False))
                file = stack.enter_context(h5py.File(disk, "r"))
            except OSError as error:
                raise InvalidInput(
                    "an ensemble of lattice_flows is expected, this file is truncated or something else: "
                    f"restore it from a copy, or remove it to sample from the start ({self.path})"
                ) from error
            yield file


class ChainWriter:
    """An ensemble of `create_chains` that updates are appended to; the file holds the committed ones at every moment.

    A kill, a full disk or an exception leaves it as the last `commit` did, and a later writer goes on from there.
    Writers of one file must exclude each other.

    Raises:
        InvalidInput: the file is no ensemble of this version.
        LatticeFlowsError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        stored = ChainFile(path)
        with files.writing(Path(path)):
            self._disk = TransactionFile(path, writable=True)
        self._file = h5py.File(self._disk, "r+")
        self._every, self._updates = stored.every, stored.n_updates
        self._configurations = self._file[stored.dataset]
        last = {chain: row for row, chain in enumerate(self._file["chain"][:].tolist())}
        self._last = {chain: torch.from_numpy(self._configurations[row]) for chain, row in last.items()}
        self._state = stored.end()[0]
        self._columns = {name: self._file[name].shape[1:] for name in _numbers(self._file)}
        self._ends = {name: torch.from_numpy(self._file["end"][name][:0]) for name in ChainState._fields}
        self._waiting: list[tuple[ChainState, dict[str, Tensor]]] = []
        self._most = max(1, WAITING // (stored.chains * _row_bytes(self._configurations)))

    def append(self, state: ChainState, acceptance: Tensor, proposals: Mapping[str, Tensor] | None = None) -> None:
        """Add one update of all chains; its tensors must not change before the next commit.

        Args:
            state: of the chains after the update.
            acceptance: `(chains,)`, the share of accepted changes.
            proposals: log_w, action and accepted `(chains, proposals)` of the proposals of a flow in this update.

        Raises:
            InvalidInput: shapes or dtypes differ from those in the file, or proposals are missing or unexpected.
        """
        offers = {f"proposals/{name}": value for name, value in (proposals or {}).items()}
        row = {"action": state.action, "acceptance": acceptance, **offers}
        if row.keys() != self._columns.keys():
            raise InvalidInput(f"an update of this ensemble has {sorted(self._columns)}, got {sorted(row)}")
        for name, value in row.items():
            if tuple(value.shape) != self._columns[name]:
                raise InvalidInput(
                    f"{name} of an update must have the shape {self._columns[name]}, got {tuple(value.shape)}"
                )
        for name, value in state._asdict().items():
            dtype, shape = self._ends[name].dtype, self._ends[name].shape[1:]
            if value is not None and (value.dtype, value.shape[1:]) != (dtype, shape):
                raise InvalidInput(
                    f"{name} must be {dtype} {tuple(shape)} for each chain, got {value.dtype} {value.shape}"
                )
        self._waiting.append((state, row))
        if len(self._waiting) >= self._most:
            self._flush()
        self._state = state

    def commit(self, streams: Tensor) -> None:
        """Make all updates so far, and `Streams.get_state` of all chains, the content of the file: durably.

        Raises:
            LatticeFlowsError: the disk is full or failed; the file is then as the last commit left it.
        """
        self._flush()
        for name, value in _end(self._state, streams).items():
            stored = self._file["end"][name]
            stored.resize(len(value), axis=0)
            stored[:] = value
        self._file.flush()
        self._disk.commit()

    def close(self) -> None:
        """Close the file, and drop updates that were not committed."""
        self._file.close()
        self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _flush(self) -> None:
        """Write the updates that wait."""
        if not self._waiting:
            return
        moved = []
        for state, _ in self._waiting:
            self._updates += 1
            if self._updates % self._every == 0:
                for k, now in enumerate(state.x.detach().cpu()):
                    if k not in self._last or not torch.equal(self._last[k], now):
                        self._last[k] = now
                        moved.append((now, k, self._updates))
        if moved:
            configurations, chain, update = zip(*moved, strict=True)
            _extend(self._configurations, torch.stack(configurations).numpy())
            _extend(self._file["chain"], chain)
            _extend(self._file["update"], update)
            # copies, because parts would keep whole blocks of configurations in memory
            self._last = {k: last.clone() for k, last in self._last.items()}
        for name in self._columns:
            rows = torch.stack([row[name] for _, row in self._waiting])
            _extend(self._file[name], rows.detach().cpu().numpy())
        self._waiting.clear()


def _end(state: ChainState, streams: Tensor) -> dict[str, np.ndarray]:
    """Return the content of /end; fields that the state lacks have length 0."""
    absent = {"log_w": state.action[:0], "offered": torch.empty(0, dtype=torch.long)}
    end = {name: absent[name] if value is None else value for name, value in state._asdict().items()}
    return {name: value.detach().cpu().numpy() for name, value in (end | {"streams": streams}).items()}


def _numbers(file: h5py.File) -> list[str]:
    """Return the names of the datasets that hold numbers of each update."""
    return [*NUMBERS, *(f"proposals/{name}" for name in PROPOSALS if "proposals" in file)]


def _row_bytes(data: h5py.Dataset | np.ndarray) -> int:
    return data.dtype.itemsize * math.prod(data.shape[1:])


def _extend(stored: h5py.Dataset, rows: Sequence[int] | np.ndarray) -> None:
    stored.resize(len(stored) + len(rows), axis=0)
    stored[-len(rows) :] = rows
