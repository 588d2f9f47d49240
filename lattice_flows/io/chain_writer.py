"""Appending to an ensemble: many chains, in transactions that neither a kill nor a full disk breaks."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import checksums, files
from lattice_flows.io.chain_layout import (
    COLUMNS,
    DATASETS,
    DESCRIPTIONS,
    EXCHANGED,
    FORMAT,
    NUMBERS,
    ROWS,
    STATE,
    VERSION,
    multiplicities,
    names_of_numbers,
    row_bytes,
)
from lattice_flows.io.chains import ChainFile
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

# the bytes of configurations that wait to be compared and written in one go
WAITING = 2**24


def create_chains(
    path: str | Path,
    state: ChainState,
    streams: Tensor,
    attributes: Mapping[str, Any],
    *,
    every: int = 1,
    proposals: int = 0,
    pairs: int = 0,
) -> Path:
    """Make an ensemble without updates, durably, all or nothing; return its path.

    Args:
        state: of the chains at the start.
        streams: the state `(chains,)` of their random streams: `Streams.get_state`.
        attributes: of the run: numbers, strings and lists of them. `field`, by default `gauge`, names the dataset of
            configurations.
        every: configurations are stored at updates that are multiples of it.
        proposals: the number of proposals of a flow that each chain meets in an update.
        pairs: the number of pairs of couplings that swap in an update.

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
    if configurations in (*NUMBERS, *ROWS, *COLUMNS, "end"):
        raise InvalidInput(f"the field of an ensemble must not be called {configurations!r}, as other data are")
    chains = len(state.x)
    # first the data that change with each commit: they lie in the first page, which is put in place last
    data: dict[str, np.ndarray] = {name: np.empty((0, chains)) for name in NUMBERS}
    data |= {name: np.empty(0, np.int64) for name in ROWS}
    for group, last in (("proposals", proposals), ("swaps", pairs)):
        for name in COLUMNS[group] if last else ():
            data[f"{group}/{name}"] = np.empty((0, chains, last), bool if name == "accepted" else float)
    data[configurations] = state.x[:0].cpu().numpy()
    data |= {f"end/{name}": value for name, value in _end(state, streams).items()}
    # through memory, because HDF5 crashes on a full disk; a superblock of version 2, because later ones mark an open
    # file, and other programs would not read what a killed writer leaves
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("v108", "v108"), userblock_size=checksums.USER_BLOCK) as file:
        for name, rows in data.items():
            # about 16 KiB, or one row: a chunk that is not full is written again with the next commit
            chunk = max(1, min(1024, 2**14 // row_bytes(rows)))
            shape = rows.shape[1:]
            file.create_dataset(name, data=rows, maxshape=(None, *shape), chunks=(chunk, *shape))
        for name in data:  # behind all shapes, which so lie in the first page
            file[name].attrs["description"] = DESCRIPTIONS["x" if name == configurations else name]
        file.attrs.update({**attributes, "format": FORMAT, "version": VERSION, "every": every})
        place = checksums.enlarge(file, file.id.get_filesize())
    files.write(path, checksums.sealed(buffer.getvalue(), place))
    return path


class ChainWriter:
    """An ensemble of `create_chains` that updates are appended to; the file holds the committed ones at every moment.

    A kill, a full disk or an exception leaves it as the last `commit` did, and a later writer goes on from there.
    Writers of one file must exclude each other.

    Raises:
        InvalidInput: the file is damaged, or no ensemble of this version.
        LatticeFlowsError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        stored = ChainFile(path)
        if stored.version != VERSION:
            raise InvalidInput(
                f"chains of version {stored.version} can be read, and not go on: use the lattice_flows that wrote them "
                f"({path})"
            )
        with files.writing(Path(path)):
            self._disk = TransactionFile(path, writable=True)
        self._file = h5py.File(self._disk, "r+")
        self._every, self._updates = stored.every, stored.n_updates
        self._configurations = self._file[stored.dataset]
        # the last row of each chain, and its configuration
        self._rows = {chain: row for row, chain in enumerate(self._file["chain"][:].tolist())}
        self._last = {chain: torch.from_numpy(self._configurations[row]) for chain, row in self._rows.items()}
        self._state = stored.end()[0]
        self._columns = {name: self._file[name].shape[1:] for name in names_of_numbers(self._file)}
        names = (*STATE, *(EXCHANGED if stored.pairs else ()))
        self._ends = {name: torch.from_numpy(self._file["end"][name][:0]) for name in names}
        self._waiting: list[tuple[ChainState, dict[str, Tensor]]] = []
        self._most = max(1, WAITING // (stored.chains * row_bytes(self._configurations)))

    def append(
        self,
        state: ChainState,
        acceptance: Tensor,
        proposals: Mapping[str, Tensor] | None = None,
        swaps: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add one update of all chains; its tensors must not change before the next commit.

        Args:
            state: of the chains after the update.
            acceptance: `(chains,)`, the share of accepted changes.
            proposals: log_w, action and accepted `(chains, proposals)` of the proposals of a flow in this update.
            swaps: accepted and probability `(chains, pairs)` of the swaps of a replica exchange.

        Raises:
            InvalidInput: shapes or dtypes differ from those in the file, or columns are missing or unexpected.
        """
        groups = {"proposals": proposals or {}, "swaps": swaps or {}}
        columns = {f"{group}/{name}": value for group, own in groups.items() for name, value in own.items()}
        row = {"action": state.action, "acceptance": acceptance, **columns}
        if row.keys() != self._columns.keys():
            raise InvalidInput(f"an update of this ensemble has {sorted(self._columns)}, got {sorted(row)}")
        for name, value in row.items():
            if tuple(value.shape) != self._columns[name]:
                raise InvalidInput(
                    f"{name} of an update must have the shape {self._columns[name]}, got {tuple(value.shape)}"
                )
        for name, stored in self._ends.items():
            value, dtype, shape = getattr(state, name), stored.dtype, stored.shape[1:]
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
            InvalidInput: a part of the file that has to change is damaged.
        """
        self._flush()
        for name, value in _end(self._state, streams).items():
            stored = self._file["end"][name]
            stored.resize(len(value), axis=0)
            stored[:] = value
        self._file.flush()
        while self._disk.full():
            self._disk.enlarge(checksums.enlarge(self._file, self._file.id.get_filesize()))
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
            for name, column in (("chain", chain), ("update", update), ("multiplicity", [0] * len(chain))):
                _extend(self._file[name], column)
            # copies, because parts would keep whole blocks of configurations in memory
            self._last = {k: last.clone() for k, last in self._last.items()}
        self._count(len(moved))
        for name in self._columns:
            rows = torch.stack([row[name] for _, row in self._waiting])
            _extend(self._file[name], rows.detach().cpu().numpy())
        self._waiting.clear()

    def _count(self, new: int) -> None:
        """Write the multiplicities of new rows, and of rows that stood for chains until now."""
        chain, update, counts = (self._file[name] for name in ROWS)
        first = min(self._rows.values(), default=0)
        counts[first:] = multiplicities(chain[first:], update[first:], self._updates, self._every)
        total = len(chain)
        self._rows |= dict(zip(chain[total - new :].tolist(), range(total - new, total), strict=True))


def _end(state: ChainState, streams: Tensor) -> dict[str, np.ndarray]:
    """Return the content of /end; `log_w` and `offered` have length 0 where the state lacks them."""
    absent = {"log_w": state.action[:0], "offered": torch.empty(0, dtype=torch.long)}
    end = absent | {name: value for name, value in state._asdict().items() if value is not None}
    return {name: value.detach().cpu().numpy() for name, value in (end | {"streams": streams}).items()}


def _extend(stored: h5py.Dataset, rows: Sequence[int] | np.ndarray) -> None:
    stored.resize(len(stored) + len(rows), axis=0)
    stored[-len(rows) :] = rows
