"""Observables along stored chains: measured in parts, kept as they are measured, and not measured again."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import Interrupted, InvalidInput
from lattice_flows.io import ChainFile
from lattice_flows.io.measurements import Entries, Measurements
from lattice_flows.lattice import GaugeField
from lattice_flows.models import build_space
from lattice_flows.observables import Observable, Smearing
from lattice_flows.reports.words import space_in_words
from lattice_flows.signals import Stop

log = logging.getLogger(__name__)

PART = 2**20
"""The bytes of configurations that are measured at a time."""
COMMIT_SECONDS, LINE_SECONDS = 30.0, 60.0
"""The time between two commits, and between two lines on the progress where there is no terminal."""


@dataclass
class Session:
    """What measurements share: where they are kept, the ranks that share the work, and whether to stop.

    Args:
        kept: on rank 0; None keeps nothing.
    """

    kept: Measurements | None = None
    world: World = SERIAL
    stop: Stop = field(default_factory=Stop)


def observe(
    chains: ChainFile,
    observables: Mapping[str, Callable[..., Tensor]],
    session: Session | None = None,
    counted: bool = False,
) -> dict[str, np.ndarray]:
    """Measure observables along the chains: name -> series `(chains, n, ...)`.

    Each distinct configuration is measured once, and not again where the session has kept it under this name. Parts do
    not depend on what is missing, so that the digits are those of a measurement in one go.

    Args:
        observables: their names say what is measured, with all settings.
        session: each of its ranks calls this and gets all series.
        counted: observables are functions of configurations and of their multiplicities `(n,)`.

    Raises:
        Interrupted: it was asked to stop, and has kept what is measured.
    """
    return _Pass(chains, observables, session or Session(), counted).run()


class _Pass:
    """One pass along the chains."""

    def __init__(self, chains: ChainFile, observables: Mapping[str, Callable], session: Session, counted: bool):
        self.chains, self.observables, self.counted = chains, dict(observables), counted
        self.kept, self.world, self.stop = session.kept, session.world, session.stop
        self.counts = np.zeros(chains.n_distinct, np.int64)
        for rows, count in map(chains.rows, range(chains.chains)):
            self.counts[rows] = count
        wanted = self.counts > 0
        chain, update = chains.places(np.arange(chains.n_distinct))
        action = chains.series("action")[update - 1, chain]
        # one for each row of the file, with values to come
        self.entries = Entries(chain, update, action, np.empty(chains.n_distinct))
        self.values = {name: self._known(name) for name in observables} if self.world.first else {}
        missing = {name: wanted & ~done for name, (_, done) in self.values.items()}
        self.missing: dict[str, np.ndarray] = self.world.broadcast(missing)
        self.wanted = np.flatnonzero(wanted)
        self.new: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in observables}

    def run(self) -> dict[str, np.ndarray]:
        if not len(self.wanted):
            return {}
        self._check()
        size = max(1, PART // self.chains.read(self.wanted[:1]).nbytes)
        todo = np.flatnonzero(np.any(list(self.missing.values()), 0))
        parts = [part for part in np.split(todo, np.flatnonzero(np.diff(todo // size)) + 1) if len(part)]
        title = next(iter(self.observables)) if len(self.observables) == 1 else "observables"
        progress = _Progress(title, len(self.wanted), len(todo), self.world.first and bool(parts))
        deadline = time.monotonic() + COMMIT_SECONDS
        try:
            # the ranks take turns
            for start in range(0, len(parts), self.world.size):
                turn = parts[start : start + self.world.size]
                if self.world.rank < len(turn):
                    self._measure(turn[self.world.rank])
                progress.add(sum(map(len, turn)))
                asked = self.world.any(self.stop.asked)
                if asked or self.world.any(time.monotonic() >= deadline):
                    self._collect()
                    deadline = time.monotonic() + COMMIT_SECONDS
                if asked and start + self.world.size < len(parts):
                    raise Interrupted(self._interrupted(progress.done))
        except KeyboardInterrupt:
            if self.world.size == 1:
                self._collect()
                raise Interrupted(self._interrupted(progress.done)) from None
            raise
        finally:
            progress.close()
        self._collect()
        whole = self.world.broadcast({name: torch.from_numpy(own) for name, (own, _) in self.values.items()})
        return {name: self.chains.expand(own.numpy()).swapaxes(0, 1) for name, own in whole.items()}

    def _known(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The kept values of all rows, and which rows have one."""
        kept = None if self.kept is None else self.kept.entries.get(name)
        if kept is None:
            return np.zeros(self.chains.n_distinct), np.zeros(self.chains.n_distinct, bool)
        found = kept.find(self.entries)
        values = np.zeros((self.chains.n_distinct, *kept.values.shape[1:]), kept.values.dtype)
        values[found >= 0] = kept.values[found[found >= 0]]
        return values, found >= 0

    def _check(self) -> None:
        """Measure one configuration again, as what a name stands for can change between two versions of a program."""
        row = self.wanted[:1]
        known = [name for name, own in self.missing.items() if not own[row].any()]
        if not known and self.world.size == 1:
            return
        x = self.chains.read(row)
        for name, observable in self.observables.items():
            value = self._value(observable, row, x)
            if self.world.first:
                values, done = self.values[name]
                if name in known and not (
                    values.shape[1:] == value.shape[1:] and np.allclose(values[row], value, 1e-3, 1e-5, equal_nan=True)
                ):
                    log.warning("%s: the kept values are not those of this program: all are measured again", name)
                    self.kept.forget(name)  # type: ignore[union-attr]
                    values, done = np.zeros((self.chains.n_distinct, *value.shape[1:]), value.dtype), done & False
                    self.values[name] = values, done
                    self.missing[name][self.wanted] = True
            self.new[name].append((row[:0], value[:0]))  # the shape, for ranks without a part
        self.missing = self.world.broadcast(self.missing)

    def _measure(self, rows: np.ndarray) -> None:
        x = self.chains.read(rows)
        for name, observable in self.observables.items():
            own = self.missing[name][rows]
            if own.any():
                part = x if own.all() else x[torch.from_numpy(own)]
                self.new[name].append((rows[own], self._value(observable, rows[own], part)))

    def _value(self, observable: Callable[..., Tensor], rows: np.ndarray, x: Tensor) -> np.ndarray:
        """What is measured on the configurations x in some rows."""
        return _numbers(observable(x, torch.from_numpy(self.counts[rows])) if self.counted else observable(x))

    def _collect(self) -> None:
        """Bring what all ranks have measured to rank 0, and keep it."""
        for name, own in self.new.items():
            if not own:
                continue
            joined = [self.world.gather(torch.from_numpy(np.concatenate(part))) for part in zip(*own, strict=True)]
            self.new[name] = [(own[0][0][:0], own[0][1][:0])]
            if not self.world.first:
                continue
            rows, new = (part.numpy() for part in joined if part is not None)
            values, done = self.values[name]
            if not done.any():
                values = np.zeros((len(done), *new.shape[1:]), new.dtype)
            values[rows], done[rows] = new, True
            self.values[name] = values, done
            if self.kept is not None and len(rows):
                self.kept.add(name, self.entries.of(rows)._replace(values=new))
        if self.kept is not None:
            self.kept.commit()

    def _interrupted(self, done: int) -> str:
        where = self.world.broadcast(str(self.kept.path) if self.kept is not None and self.kept.writable else "")
        return f"asked to stop: {done} of {len(self.wanted)} configurations are measured" + (
            f" and kept in {where}; the same command goes on" if where else ", and nothing could be kept"
        )


class _Progress:
    """Bar on a terminal, a line a minute without one."""

    def __init__(self, title: str, total: int, missing: int, shown: bool):
        self.title, self.total, self.done = title, total, total - missing
        self._begin, self._start = self.done, time.monotonic()
        hidden = None if shown else True
        self._bar = tqdm(total=total, initial=self.done, desc=f"measuring {title}", unit="conf", disable=hidden)
        self._next = self._start + LINE_SECONDS if shown and self._bar.disable else math.inf

    def add(self, count: int) -> None:
        self.done += count
        self._bar.update(count)
        now = time.monotonic()
        if now >= self._next:
            left = (now - self._start) / (self.done - self._begin) * (self.total - self.done)
            remaining = tqdm.format_interval(left)
            log.info("%s: %d of %d configurations, %s left", self.title, self.done, self.total, remaining)
            self._next = now + LINE_SECONDS

    def close(self) -> None:
        self._bar.close()


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().to(torch.complex128 if values.is_complex() else torch.float64).numpy()


def links_of(config: Config, purpose: str) -> GaugeField:
    """Return the space of a run of links; raise InvalidInput for another field.

    The error begins with `purpose`, a subject and a verb, such as "Wilson loops are measured on".
    """
    space = build_space(config)
    if not isinstance(space, GaugeField):
        raise InvalidInput(f"{purpose} links, the run is of {space_in_words(space)}: leave them out")
    return space


def smeared(name: str, observable: Observable, smear: Smearing | None, space: GaugeField) -> tuple[str, Observable]:
    """Return an observable of smeared links, and its name with the smearing; both as they are where there is none.

    Raises:
        InvalidInput: the smearing does not fit the space.
    """
    if smear is None:
        return name, observable
    smear(space.cold(1), space)
    return f"{name} after {smear}", lambda links: observable(smear(links, space))
