"""Ensembles of many chains, written in transactions; `lattice_flows.io.chains` describes their layout."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import files
from lattice_flows.io.chains import FORMAT, NUMBERS, PROPOSALS, VERSION, ChainFile, dataset_of, numbers
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

# the size of configurations that wait in memory, to be compared and written in one go
WAITING_BYTES = 2**24

# datasets with one number for each stored configuration
ROWS = ("chain", "update")
RESERVED = (*ROWS, "proposals", "end")


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
        attributes: of the run, stored beside the data: numbers, strings and lists of them. `field`, by default
            `gauge`, names the dataset of configurations.
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
    configurations = dataset_of(attributes)
    if configurations in (*NUMBERS, *RESERVED):
        raise InvalidInput(f"the field of an ensemble must not be called {configurations!r}, as other data are")
    chains = len(state.x)
    # through memory, because HDF5 crashes on a full disk; superblock of version 2: see `TransactionFile`
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v108", "v108")) as file:
        # first the data that change with each commit: they lie in the first page, which is put in place last
        for name in NUMBERS:
            _growing(file, name, (chains,), np.float64)
        for name in ROWS:
            _growing(file, name, (), np.int64)
        for name in PROPOSALS if proposals else ():
            _growing(file, f"proposals/{name}", (chains, proposals), bool if name == "accepted" else np.float64)
        x = state.x.cpu().numpy()
        _growing(file, configurations, x.shape[1:], x.dtype)
        for name, value in _end(state, streams).items():
            _growing(file, f"end/{name}", value.shape[1:], value.dtype)
            _extend(file[f"end/{name}"], value)
        file.attrs.update({**attributes, "format": FORMAT, "version": VERSION, "every": every})
    files.write(path, buffer.getvalue())
    return path


class ChainWriter:
    """An ensemble that updates are appended to; the file holds the committed ones at every moment.

    A kill, a full disk or an exception leaves it as the last `commit` did, and a later writer goes on from there.
    Nothing is copied. Writers of one file must exclude each other.

    Args:
        path: a file that `create_chains` made.

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
        chain, self._dataset = self._file["chain"][:], stored.dataset
        configurations = self._file[self._dataset]
        last = [np.flatnonzero(chain == k)[-1:] for k in range(stored.chains)]
        self._last = [torch.from_numpy(configurations[int(row[0])]) if len(row) else None for row in last]
        self._state = stored.end()[0]
        self._columns = {name: self._file[name].shape[1:] for name in numbers(self._file)}
        ends = {name: torch.from_numpy(self._file["end"][name][:0]) for name in ChainState._fields}
        self._kinds = {name: (end.dtype, end.shape[1:]) for name, end in ends.items()}
        self._waiting: list[tuple[ChainState, dict[str, Tensor]]] = []
        row = configurations.dtype.itemsize * int(np.prod(configurations.shape[1:])) * stored.chains
        self._most = max(1, WAITING_BYTES // row)

    def append(self, state: ChainState, acceptance: Tensor, proposals: Mapping[str, Tensor] | None = None) -> None:
        """Add one update of all chains; its tensors must not change before the next commit.

        Args:
            state: of the chains after the update.
            acceptance: `(chains,)`, the share of accepted changes.
            proposals: log_w, action and accepted `(chains, proposals)` of the proposals of a flow in this update.

        Raises:
            InvalidInput: shapes or dtypes differ from those in the file, or proposals are missing or unexpected.
        """
        row = {"action": state.action, "acceptance": acceptance}
        row |= {f"proposals/{name}": value for name, value in (proposals or {}).items()}
        if row.keys() != self._columns.keys():
            raise InvalidInput(f"an update of this ensemble has {sorted(self._columns)}, got {sorted(row)}")
        for name, value in row.items():
            if tuple(value.shape) != self._columns[name]:
                raise InvalidInput(
                    f"{name} of an update must have the shape {self._columns[name]}, got {tuple(value.shape)}"
                )
        for name, value in state._asdict().items():
            dtype, shape = self._kinds[name]
            if value is not None and (value.dtype, value.shape[1:]) != (dtype, shape):
                raise InvalidInput(
                    f"{name} must be {dtype} {tuple(shape)} for each chain, got {value.dtype} {value.shape}"
                )
        self._waiting.append((state, row))
        if len(self._waiting) >= self._most:
            self._flush()
        self._state = state

    def commit(self, streams: Tensor) -> None:
        """Make all updates so far, and the state of the streams, the content of the file: durably.

        Args:
            streams: `Streams.get_state`, of all chains.

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
        moved, chain, update = [], [], []
        for state, _ in self._waiting:
            self._updates += 1
            if self._updates % self._every:
                continue
            for k, now in enumerate(state.x.detach().cpu()):
                last = self._last[k]
                if last is None or not torch.equal(last, now):
                    self._last[k] = now
                    moved.append(now)
                    chain.append(k)
                    update.append(self._updates)
        if moved:
            _extend(self._file[self._dataset], torch.stack(moved).numpy())
            _extend(self._file["chain"], np.array(chain))
            _extend(self._file["update"], np.array(update))
            # copies, because parts would keep whole blocks of configurations in memory
            self._last = [None if last is None else last.clone() for last in self._last]
        if self._waiting:
            for name in self._columns:
                rows = torch.stack([row[name] for _, row in self._waiting])
                _extend(self._file[name], rows.detach().cpu().numpy())
        self._waiting.clear()


def _end(state: ChainState, streams: Tensor) -> dict[str, np.ndarray]:
    """Return the content of /end; fields that the state lacks have length 0."""
    absent = {"log_w": state.action[:0], "offered": torch.empty(0, dtype=torch.long)}
    end = {name: absent[name] if value is None else value for name, value in state._asdict().items()}
    return {name: value.detach().cpu().numpy() for name, value in (end | {"streams": streams}).items()}


def _growing(file: h5py.File, name: str, row: tuple[int, ...], dtype) -> None:
    # chunks of about 16 KiB, or one row: a chunk that is not full is written again with the next commit
    size = np.dtype(dtype).itemsize * int(np.prod(row))
    chunk = (max(1, min(1024, 2**14 // size)), *row)
    file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=chunk)


def _extend(stored: h5py.Dataset, rows: np.ndarray) -> None:
    stored.resize(len(stored) + len(rows), axis=0)
    if len(rows):
        stored[-len(rows) :] = rows
