"""Ensembles of many Markov chains of any sampler in one HDF5 file, version 2 of ``ensemble.h5``.

    /links         (n_distinct, dim, *sites, *element)   each distinct configuration of each chain once, in order
    /chain         (n_distinct,) int64                   which chain it is of
    /update        (n_distinct,) int64                   the stored update at which the chain had reached it
    /action        (n_updates, chains) float64           after every update: row t - 1 is that of update t = 1, 2, ...
    /acceptance    (n_updates, chains) float64           the share of accepted changes in every update
    /proposals/log_q, action (float64), accepted (bool)  (n_updates, chains, proposals): of a flow, if one proposes
    /end/links, action, log_q, offered                   the state of the chains after the last update, see `ChainState`
    /end/streams   (chains, k) uint8                     of their random streams
    attributes     format, version, every, and what the writer says of the run: group, sites, beta, seed, config, ...

Links are stored at updates that are multiples of `every`, and only if the chain has moved since it was stored last: a
row of /links stands for the chain from its update up to that of the chain's next row, or up to the end. The number of
multiples of `every` in between is its multiplicity. Of /end, log_q and offered are empty where a sampler has none.

Any HDF5 tool reads the file. `ChainWriter` appends to it in transactions (`lattice_flows.io.transactions`). Files of
version 1 are read as one chain whose start is its first update; they have

    /links            (n_distinct, dim, *sites, *element)   the accepted configurations in order
    /log_q, /action   (n,) float64, /accepted (n,) bool     of every proposal, the first being the start of the chain
    /generator_state  (k,) uint8                            of torch at the end of the chain
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io.transactions import TransactionFile
from lattice_flows.sampling import ChainState

FORMAT = "lattice_flows ensemble"
VERSION = 2
SCALARS = ("action", "acceptance")
PROPOSALS = ("log_q", "action", "accepted")


class ChainFile:
    """Stored chains, read lazily: numbers in slices of updates, configurations in blocks.

    Attributes:
        attributes: what the writer said about the run.
        n_updates: how many updates were made and committed.
        chains: the number of chains.
        every: at which updates links are stored.
        n_distinct: the number of distinct configurations, rows of /links.

    Raises:
        InvalidInput: there is no such file, or it is truncated, something else, or of another version.

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
        ...     file.series("action").shape, [multiplicity.tolist() for _, multiplicity in file.distinct(chain=1)]
        ((3, 2), [[3]])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._open() as (file, attributes):
            self.attributes: dict[str, Any] = attributes
            self.every = int(attributes["every"])
            self.n_updates, self.chains = file["action"].shape
            self.n_distinct = len(file["links"])

    def __len__(self) -> int:
        return self.n_updates

    def series(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Numbers of each update from `start` to `stop`, `(updates, chains)`, or `(updates, chains, proposals)`.

        Args:
            name: `action`, `acceptance`, `proposals/log_q`, `proposals/action` or `proposals/accepted`.

        Raises:
            InvalidInput: the file has no such numbers.
        """
        with self._open() as (file, _):
            if name not in [*SCALARS, *(f"proposals/{proposed}" for proposed in PROPOSALS)] or name not in file:
                raise InvalidInput(f"unknown numbers {name!r}; there are {', '.join(_names(file))} ({self.path})")
            return file[name][start:stop]

    def rows(self, chain: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of /links that chain k went through, in order, and how often each stands in it, one after the other.

        Raises:
            InvalidInput: there is no such chain.
        """
        if not 0 <= chain < self.chains:
            raise InvalidInput(f"chain must be from 0 to {self.chains - 1}, got {chain} ({self.path})")
        with self._open() as (file, _):
            rows = np.flatnonzero(file["chain"][:] == chain)
            reached = file["update"][:][rows]
        after = self.n_updates // self.every * self.every + self.every
        return rows, np.diff(reached, append=after) // self.every

    def links(self, batch: int | None = None) -> Iterator[Tensor]:
        """The distinct configurations of all chains in order, `batch` at a time, by default as many as 64 MiB hold."""
        yield from self._blocks(np.arange(self.n_distinct), batch)

    def parts(self) -> list[np.ndarray]:
        """The rows of /links in parts, each of as many as 64 MiB hold."""
        with self._open() as (file, _):
            size = _block_size(file["links"])
        return [np.arange(start, min(start + size, self.n_distinct)) for start in range(0, self.n_distinct, size)]

    def read(self, rows: np.ndarray) -> Tensor:
        """The links `(len(rows), dim, *sites, *element)` in consecutive rows of /links."""
        return next(self._blocks(rows, len(rows)))

    def distinct(self, chain: int, batch: int | None = None) -> Iterator[tuple[Tensor, np.ndarray]]:
        """The distinct configurations of chain k in order, and their multiplicities, `batch` at a time."""
        rows, multiplicity = self.rows(chain)
        start = 0
        for block in self._blocks(rows, batch):
            yield block, multiplicity[start : start + len(block)]
            start += len(block)

    def configuration(self, chain: int, update: int | None = None) -> Tensor:
        """The links `(dim, *sites, *element)` of chain k after an update, by default after the last one stored.

        Raises:
            InvalidInput: there is no such chain, or no links were stored at this update.
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
        """Series `(n_updates // every, chains, ...)` of what was measured on all rows of /links `(n_distinct, ...)`."""
        columns = [np.repeat(values[rows], counts, axis=0) for rows, counts in map(self.rows, range(self.chains))]
        return np.stack(columns, axis=1)

    def end(self) -> tuple[ChainState, Tensor]:
        """Where the chains stand and the state of their streams, from which they go on bit for bit."""
        with self._open() as (file, _):
            stored = {name: torch.from_numpy(file["end"][name][:]) for name in (*ChainState._fields, "streams")}
        log_q, offered = (stored[name] if len(stored[name]) else None for name in ("log_q", "offered"))
        return ChainState(stored["links"], stored["action"], log_q, offered), stored["streams"]

    def _blocks(self, rows: np.ndarray, batch: int | None) -> Iterator[Tensor]:
        with self._open() as (file, _):
            stored = file["links"]
            batch = batch or _block_size(stored)
            for start in range(0, len(rows), batch):
                yield torch.from_numpy(stored[rows[start : start + batch]])

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
            if attributes.pop("format", None) != FORMAT:
                raise InvalidInput(f"an ensemble of lattice_flows is expected, this is another HDF5 file ({self.path})")
            version = attributes.pop("version")
            if version == 1:
                yield _version_1(file), attributes | {"every": 1}
            elif version == VERSION:
                yield file, attributes
            else:
                raise InvalidInput(
                    f"an ensemble of version {VERSION} or 1 is expected, got version {version}: "
                    f"use the lattice_flows that wrote it ({self.path})"
                )


def _block_size(links: h5py.Dataset) -> int:
    return max(1, 2**26 // (links.dtype.itemsize * int(np.prod(links.shape[1:]))))


def _names(file) -> list[str]:
    return [*SCALARS, *(f"proposals/{name}" for name in PROPOSALS if "proposals" in file)]


def _version_1(file: h5py.File) -> dict[str, Any]:
    """The datasets of version 2 that a file of version 1 amounts to."""
    accepted, log_q, action = (file[name][:] for name in ("accepted", "log_q", "action"))
    reached = np.flatnonzero(accepted)
    last, dtype = reached[-1:], file["links"].dtype.type(0).real.dtype
    end = {
        "links": file["links"][-1:],
        "action": action[last].astype(dtype),
        "log_q": log_q[last].astype(dtype),
        "offered": np.array([len(accepted)]),
        "streams": file["generator_state"][:][None],
    }
    proposals = {"log_q": log_q, "action": action, "accepted": accepted}
    return {
        "links": file["links"],
        "chain": np.zeros(len(reached), int),
        "update": reached + 1,
        "action": action[reached[np.cumsum(accepted) - 1]][:, None],
        "acceptance": accepted[:, None].astype(float),
        "proposals": proposals,
        **{f"proposals/{name}": values[:, None, None] for name, values in proposals.items()},
        "end": end,
    }
