"""Ensembles: the Markov chain of an independence sampler in one HDF5 file, ``ensemble.h5``.

    /links            (n_distinct, dim, *sites, *element)   the accepted configurations, each stored once, in order
    /log_q            (n,) float64                          of every proposal, in order
    /action           (n,) float64                          of every proposal, in order
    /accepted         (n,) bool                             of every proposal; the first is the start of the chain: True
    /generator_state  (k,) uint8                            torch generator at the end of the chain
    attributes        format, version, n_proposals, and what the writer says of the run: group, sites, beta, ...

Configuration t of the chain is ``links[cumsum(accepted)[t] - 1]``. The last row of /links and the generator state are
the end state of the chain, from which it goes on bit for bit.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.io import files

FORMAT = "lattice_flows ensemble"
VERSION = 1


class Ensemble:
    """A stored chain, read lazily: the numbers of every proposal at once, the configurations in batches.

    Attributes:
        attributes: what the writer said about the run.
        log_q, action, accepted: (n,) arrays of every proposal.
        generator_state: state of the torch generator at the end of the chain.

    Raises:
        InvalidInput: there is no such file, or it is truncated, something else, or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._open() as file:
            self.attributes: dict[str, Any] = dict(file.attrs)
            self.log_q: np.ndarray = file["log_q"][:]
            self.action: np.ndarray = file["action"][:]
            self.accepted: np.ndarray = file["accepted"][:]
            self.generator_state = torch.from_numpy(file["generator_state"][:])

    def __len__(self) -> int:
        return len(self.accepted)

    @property
    def log_weights(self) -> np.ndarray:
        """log w = -S - log q of every proposal, up to the constant log Z."""
        return -self.action - self.log_q

    @property
    def chain_index(self) -> np.ndarray:
        """(n,) the row of /links that is configuration t of the chain."""
        return np.cumsum(self.accepted) - 1

    @property
    def multiplicity(self) -> np.ndarray:
        """(n_distinct,) how often each row of /links stands in the chain, one after the other."""
        return np.bincount(self.chain_index)

    @property
    def n_distinct(self) -> int:
        """The number of distinct configurations, rows of /links."""
        return int(self.accepted.sum())

    def links(self, batch: int | None = None) -> Iterator[Tensor]:
        """The distinct configurations in order, `batch` at a time, by default as many as 64 MiB hold."""
        with self._open() as file:
            stored = file["links"]
            batch = batch or max(1, 2**26 // (stored.dtype.itemsize * int(np.prod(stored.shape[1:]))))
            for start in range(0, len(stored), batch):
                yield torch.from_numpy(stored[start : start + batch])

    def end(self) -> tuple[Tensor, float, float]:
        """Links, log q and action of the last state of the chain."""
        last = np.flatnonzero(self.accepted)[-1]
        with self._open() as file:
            return torch.from_numpy(file["links"][-1]), float(self.log_q[last]), float(self.action[last])

    @contextlib.contextmanager
    def _open(self) -> Iterator[h5py.File]:
        try:
            file = h5py.File(self.path, "r")
        except FileNotFoundError as error:
            raise InvalidInput(f"cannot read the ensemble: {error.strerror} ({self.path})") from error
        except OSError as error:
            raise InvalidInput(
                "an ensemble of lattice_flows is expected, this file is truncated or something else: "
                f"restore it from a copy, or remove it to sample from the start ({self.path})"
            ) from error
        with file:
            if file.attrs.get("format") != FORMAT:
                raise InvalidInput(f"an ensemble of lattice_flows is expected, this is another HDF5 file ({self.path})")
            if file.attrs["version"] != VERSION:
                raise InvalidInput(
                    f"an ensemble of version {VERSION} is expected, got version {file.attrs['version']}: "
                    f"use the lattice_flows that wrote it ({self.path})"
                )
            yield file


class Appender:
    """The end of an ensemble file that is being written; `appending` makes one."""

    def __init__(self, file: h5py.File, disk: files.ForgivingFile) -> None:
        self._file = file
        self._disk = disk

    def append(self, links: Tensor, log_q: Tensor, action: Tensor, accepted: Tensor) -> None:
        """Adds a batch of proposals: links (batch, dim, *sites, *element), of which the accepted ones are stored."""
        self._extend("links", links[accepted].cpu().numpy())
        self._extend("log_q", log_q.double().cpu().numpy())
        self._extend("action", action.double().cpu().numpy())
        self._extend("accepted", accepted.cpu().numpy())

    def finish(self, generator: torch.Generator) -> None:
        """Stores the state that the chain goes on from."""
        self._file.pop("generator_state", None)
        self._file["generator_state"] = generator.get_state().numpy()
        self._file.attrs["n_proposals"] = len(self._file["accepted"])

    def _extend(self, name: str, rows: np.ndarray) -> None:
        if name not in self._file:
            # Chunks of at most a MiB, the size of HDF5's chunk cache.
            row_bytes = rows.itemsize * int(np.prod(rows.shape[1:]))
            chunk = (max(1, min(max(len(rows), 1024), 2**20 // row_bytes)), *rows.shape[1:])
            empty = (0, *rows.shape[1:])
            self._file.create_dataset(name, empty, rows.dtype, maxshape=(None, *rows.shape[1:]), chunks=chunk)
        stored = self._file[name]
        stored.resize(len(stored) + len(rows), axis=0)
        if len(rows):
            stored[-len(rows) :] = rows
        if self._disk.error is not None:
            raise self._disk.error


@contextlib.contextmanager
def appending(path: str | Path, attributes: Mapping[str, Any]) -> Iterator[Appender]:
    """Starts an ensemble or appends to one; all or nothing, so a kill at any moment leaves the old file as it was.

    The caller appends proposals in the order of the chain and calls `Appender.finish` once.

    Args:
        path: the file, which is copied first when it is there.
        attributes: stored beside the data, numbers and strings only; those of an older part are overwritten.

    Raises:
        LatticeFlowsError: the disk is full or the folder not writable.

    Example:
        >>> import tempfile
        >>> generator = torch.Generator().manual_seed(0)
        >>> links = torch.zeros(3, 2, 4, 4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with appending(Path(folder, "ensemble.h5"), {"beta": 2.0}) as out:
        ...         out.append(links, torch.zeros(3), torch.ones(3), torch.tensor([True, False, True]))
        ...         out.finish(generator)
        ...     ensemble = Ensemble(Path(folder, "ensemble.h5"))
        ...     len(ensemble), ensemble.chain_index.tolist(), [batch.shape[0] for batch in ensemble.links()]
        (3, [0, 0, 1], [2])
    """
    with files.replacing(Path(path)) as partial:
        if Path(path).exists():
            shutil.copyfile(path, partial)
        with files.ForgivingFile(partial) as disk:
            with h5py.File(disk, "a") as file:
                file.attrs.update({**attributes, "format": FORMAT, "version": VERSION})
                yield Appender(file, disk)
            if disk.error is not None:
                raise disk.error
