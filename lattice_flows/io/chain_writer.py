"""Writes ensembles of many chains, whose layout `lattice_flows.io.chains` describes, in transactions."""

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
from lattice_flows.io.chains import FORMAT, PROPOSALS, SCALARS, VERSION, ChainFile
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

# of links that wait in memory to be compared and written in one go
WAITING_BYTES = 2**24


def create_chains(
    path: str | Path,
    state: ChainState,
    streams: Tensor,
    attributes: Mapping[str, Any],
    *,
    every: int = 1,
    proposals: int = 0,
) -> Path:
    """Makes an ensemble without updates, of chains that start from `state`: durably, all or nothing. Returns its path.

    Args:
        streams: `(chains, k)`, where those of all chains stand: `Streams.get_state`.
        attributes: of the run, stored beside the data: numbers, strings and lists of them.
        every: links are stored at updates that are multiples of it.
        proposals: how many proposals of a flow, whose numbers are stored, each chain meets in an update.

    Raises:
        InvalidInput: the file exists, or `every` or `proposals` is too small.
        LatticeFlowsError: the disk is full or the folder not writable.
    """
    path = Path(path)
    if every < 1 or proposals < 0:
        raise InvalidInput(f"every must be >= 1 and proposals >= 0, got {every} and {proposals}")
    if path.exists():
        raise InvalidInput(f"a new file is expected, this one exists: append to it, or move it away ({path})")
    chains = len(state.links)
    # By way of memory, because HDF5 crashes on a full disk. Superblock of version 2: see `TransactionFile`.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v108", "v108")) as file:
        # what changes with each commit first, so that it lies in the first page, which is put in place last
        for name in SCALARS:
            _growing(file, name, (chains,), np.float64)
        for name in ("chain", "update"):
            _growing(file, name, (), np.int64)
        for name in PROPOSALS if proposals else ():
            _growing(file, f"proposals/{name}", (chains, proposals), bool if name == "accepted" else np.float64)
        links = state.links.cpu().numpy()
        _growing(file, "links", links.shape[1:], links.dtype)
        for name, value in _end(state, streams).items():
            _growing(file, f"end/{name}", value.shape[1:], value.dtype)
            _extend(file[f"end/{name}"], value)
        file.attrs.update({**attributes, "format": FORMAT, "version": VERSION, "every": every})
    files.write(path, buffer.getvalue())
    return path


class ChainWriter:
    """Appends updates to an ensemble; whatever happens, the file holds exactly what was committed.

    A kill at any moment, a full disk or an exception leaves it as the last `commit` did, and a later writer goes on
    from there. Nothing is copied. Writers of one file must exclude each other.

    Args:
        path: a file that `create_chains` made.

    Raises:
        InvalidInput: it is no ensemble of version 2.
        LatticeFlowsError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        stored = ChainFile(path)
        with files.writing(Path(path)):
            self._disk = TransactionFile(path, writable=True)
        self._file = h5py.File(self._disk, "r+")
        self._every, self._updates = stored.every, stored.n_updates
        chain, links = self._file["chain"][:], self._file["links"]
        last = [np.flatnonzero(chain == k)[-1:] for k in range(stored.chains)]
        self._last = [torch.from_numpy(links[int(row[0])]) if len(row) else None for row in last]
        self._state = stored.end()[0]
        self._columns = {name: self._file[name].shape[1:] for name in _columns(self._file)}
        ends = {name: torch.from_numpy(self._file["end"][name][:0]) for name in ChainState._fields}
        self._kinds = {name: (end.dtype, end.shape[1:]) for name, end in ends.items()}
        self._waiting: list[tuple[ChainState, dict[str, Tensor]]] = []
        row = links.dtype.itemsize * int(np.prod(links.shape[1:])) * stored.chains
        self._most = max(1, WAITING_BYTES // row)

    def append(self, state: ChainState, acceptance: Tensor, proposals: Mapping[str, Tensor] | None = None) -> None:
        """Adds one update of all chains, whose tensors must stay as they are until the next commit.

        Args:
            state: after the update.
            acceptance: `(chains,)`, the share of accepted changes.
            proposals: log_q, action and accepted of what a flow proposed in this update, each `(chains, proposals)`.

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
        """Makes all updates so far, and where the streams stand now, the durable content of the file.

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
        """Closes the file, without what was not committed."""
        self._file.close()
        self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _flush(self) -> None:
        """Writes the updates that wait."""
        links, chain, update = [], [], []
        for state, _ in self._waiting:
            self._updates += 1
            if self._updates % self._every:
                continue
            for k, now in enumerate(state.links.detach().cpu()):
                last = self._last[k]
                if last is None or not torch.equal(last, now):
                    self._last[k] = now
                    links.append(now)
                    chain.append(k)
                    update.append(self._updates)
        if links:
            _extend(self._file["links"], torch.stack(links).numpy())
            _extend(self._file["chain"], np.array(chain))
            _extend(self._file["update"], np.array(update))
            # copies, where these are parts of many links
            self._last = [None if last is None else last.clone() for last in self._last]
        if self._waiting:
            for name in self._columns:
                rows = torch.stack([row[name] for _, row in self._waiting])
                _extend(self._file[name], rows.detach().cpu().numpy())
        self._waiting.clear()


def _columns(file: h5py.File) -> list[str]:
    proposals = [f"proposals/{name}" for name in PROPOSALS if "proposals" in file]
    return [*SCALARS, *proposals]


def _end(state: ChainState, streams: Tensor) -> dict[str, np.ndarray]:
    """What /end holds; length 0 for what the state has not."""
    absent = {"log_q": state.action[:0], "offered": torch.empty(0, dtype=torch.long)}
    end = {name: absent[name] if value is None else value for name, value in state._asdict().items()}
    return {name: value.detach().cpu().numpy() for name, value in (end | {"streams": streams}).items()}


def _growing(file: h5py.File, name: str, row: tuple[int, ...], dtype) -> None:
    # Chunks of about 16 KiB, or one row: a chunk that is not full is written again with the next commit.
    size = np.dtype(dtype).itemsize * int(np.prod(row))
    chunk = (max(1, min(1024, 2**14 // size)), *row)
    file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=chunk)


def _extend(stored: h5py.Dataset, rows: np.ndarray) -> None:
    stored.resize(len(stored) + len(rows), axis=0)
    if len(rows):
        stored[-len(rows) :] = rows
