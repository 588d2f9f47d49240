"""Markov chains in the folder of a run: made by all ranks, gathered and written by rank 0."""

import functools
import logging
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lattice_flows import training
from lattice_flows.config import Config, import_modules, loads
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import Interrupted
from lattice_flows.io import ChainFile
from lattice_flows.models import build_action, build_run
from lattice_flows.models.store import check_weights
from lattice_flows.reports.tempering import swap_warnings
from lattice_flows.reports.tuning import tuning_in_words, tuning_of, tuning_warnings
from lattice_flows.runs.folder import CONFIG, ENSEMBLE, MODEL, THERMALISATION, load_run, trained_model
from lattice_flows.runs.keeper import Keeper, Place, named
from lattice_flows.runs.samplers import Chains
from lattice_flows.runs.stochastic import stochastic_flow
from lattice_flows.runs.trained import unfinished
from lattice_flows.sampling import ChainState, Streams
from lattice_flows.signals import Stop

log = logging.getLogger(__name__)

COMMIT_SECONDS = 30.0
"""The time between two commits; a kill during sampling costs no more."""
GATHERED_BYTES, GATHERED_ROWS = 2**24, 1024
"""The bytes of fields of all chains, and the updates, that wait on the ranks before rank 0 gets them."""


def sample_run(
    folder: str | Path,
    overrides: Iterable[str] = (),
    config: Config | None = None,
    source: str = "config",
    world: World = SERIAL,
    stop: Stop | None = None,
    anew: bool = False,
) -> int:
    """Make the Markov chains of a run, or go on with them; return the number of configurations of each chain.

    Chains that go on, after a kill too, equal chains made at once, and so do chains of any number of ranks: bit for
    bit, on the same machine with the same number of threads.

    Args:
        overrides: of ``[sampling]`` and of ``training.device``, such as ``sampling.n=50000``.
        config: of a new run, whose updates need no training; or of the run in the folder, with the same settings.
        source: names the config in errors.
        world: the ranks that share the chains, each of them calling this. They share the proposals where the flow
            alone proposes and there are more ranks than chains.
        stop: asked after every update, on every rank.
        anew: keep chains that are there under other names, such as ensemble.1.h5, and make new ones.

    Raises:
        InvalidInput: nothing is trained, settings that contradict the run, a broken file, or too many ranks.
        Interrupted: it was asked to stop, and has written the chains.
        LatticeFlowsError: the folder is in use, or cannot be written to.
    """
    folder, stop = Path(folder), stop or Stop()
    found = load_run(folder, overrides) if config is None and world.first else config
    # the classes of a config's sections may stand in modules that it imports
    import_modules(world.broadcast(found.imports if found else ()), str(folder / CONFIG))
    settings = world.broadcast(found)
    settings, action = build_action(settings, source if config else str(folder / CONFIG))
    device = world.device(training.select_device(settings.training.device))
    action.to(device)
    # before anything is written, so that wrong settings leave no trace
    model = trained_model(folder, settings, device) if settings.sampling.uses_flow and world.first else None
    if model is not None and model.facts.planned is not None:
        log.warning("warning: %s", unfinished(folder, model.facts.step, model.facts.planned))
    flow = None if model is None else model.flow
    if flow is not None and world.size > 1:
        check_weights(flow, settings, folder / MODEL)
    weights = world.broadcast(None if flow is None else flow.state_dict())
    if flow is None and weights is not None:
        _, flow, _ = build_run(settings, "config")
        flow.load_state_dict(weights)
        flow.to(device).eval()
    annealed = "annealing" in settings.sampling.names
    annealing = stochastic_flow(folder, settings, action, world) if annealed else None
    chains = Chains(settings, action, flow, world=world, annealing=annealing)
    if anew or not any((folder / name).exists() for name in (ENSEMBLE, THERMALISATION)):
        chains.read_start(folder)
    keeping = functools.partial(Keeper, folder, settings, config is not None, anew, model, device)
    with keeping() if world.first else nullcontext() as keeper:
        place = world.broadcast(None if keeper is None else keeper.place)
        if place is not None:
            chains.use(place.tuned)
        # where proposals are shared, rank 0 alone has chains
        team = _Team(chains, keeper, SERIAL if chains.shared else world, stop, device, anew)
        if not chains.shared:
            return team.run(folder, place)
        if keeper is None:
            done = place or Place()
            missing = settings.sampling.dropped - done.dropped + settings.sampling.n * settings.sampling.every
            chains.serve(team.streams, done.offered, missing - (done.updates or 0))
            return settings.sampling.n
        try:
            return team.run(folder, place)
        finally:
            stored = len(ChainFile(keeper.path)) if keeper.path.exists() else 0
            keeper.spent(stored, 0, chains.proposing.dismiss())


def sampled_in_words(folder: str | Path) -> str:
    """Describe the tuning of the samplers of a run's chains, with warnings where they have not reached what was asked.

    Couplings that hardly swap are named, too.
    """
    chains = ChainFile(Path(folder) / ENSEMBLE)
    config = loads(chains.config, str(chains.path))
    tuned, betas = tuning_of(config, chains), config.tempering.betas
    rates = chains.series("swaps/probability").mean((0, 1)) if betas else ()
    lines = (*tuning_in_words(tuned), *tuning_warnings(tuned), *(swap_warnings(betas, rates) if betas else ()))
    return "".join(f"{line}\n" for line in lines)


class _Team:
    """The ranks that have chains, seen from one of them; rank 0 has the keeper."""

    def __init__(
        self,
        chains: Chains,
        keeper: Keeper | None,
        world: World,
        stop: Stop,
        device: torch.device,
        anew: bool,
    ):
        self.again = "the same command without --new" if anew else "the same command"
        self.chains, self.keeper, self.world, self.stop = chains, keeper, world, stop
        self.settings = chains.config.sampling
        self.streams = Streams(self.settings.seed, world.share(self.settings.chains), device)
        self._restart()

    def run(self, folder: Path, place: Place | None) -> int:
        """Make all missing updates, of new chains where `place` is None; return the configurations of each chain."""
        if place is None:
            state, place = self.chains.begin(self.streams, folder), Place()
        else:
            state = self._scatter(self.keeper.state if self.keeper else None)
        if place.updates is None:
            state = self._thermalise(state, place.dropped)
        return self._sample(state, place.updates or 0) // self.settings.every

    def _thermalise(self, begin: ChainState, done: int) -> ChainState:
        total, state = self.settings.dropped, begin
        with self._bar(total, done, "thermalising") as bar:
            for state in self.chains.thermalise(begin, self.streams, done):
                done += 1
                self._made += 1
                bar.update()
                if self._time_to_write() and done < total:
                    whole = self._gather(state)
                    if self.keeper and whole:
                        self.keeper.save_thermalisation(*whole, self.chains.tuned, done)
                    self._spent(0)
                    self._stop_if_asked(f"{done} of {total} updates of the thermalisation are written")
        whole = self._gather(state)
        if self.keeper and whole:
            self.keeper.create(*whole, self.chains.tuned, self.chains.proposals)
            for warning in tuning_warnings(self.chains.tuned):
                log.warning("%s", warning)
        self._spent(0)
        return state

    def _sample(self, state: ChainState, n: int) -> int:
        total, rows = self.settings.n * self.settings.every, list[dict[str, Tensor]]()
        if n >= total and self.keeper:
            log.info("%s holds %d configurations of each chain already", self.keeper.path, n // self.settings.every)
        row = sum(value[0].nbytes for value in named(state).values())
        most = max(1, min(GATHERED_ROWS, GATHERED_BYTES // (row * self.settings.chains)))
        with self._bar(total, n, "sampling") as bar:
            while n < total:
                state, info = self.chains.sampler.step(state, self.streams)
                rows.append(named(state) | self.chains.outcome(info))
                n += 1
                self._made += 1
                writing = self._time_to_write() or n == total
                if writing or len(rows) == most:
                    gathered = self._gather_rows(rows)
                    if self.keeper:
                        self.keeper.append(gathered)
                    bar.update(len(rows))
                    rows = []
                if writing:
                    streams = self.world.gather(self.streams.get_state())
                    if self.keeper and streams is not None:
                        self.keeper.commit(streams)
                    self._spent(n)
                    if n < total:
                        self._stop_if_asked(f"{n} of {total} updates are written")
        return n

    def _gather_rows(self, rows: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Return the same updates of the chains of all ranks on rank 0, none elsewhere."""
        if self.world.size == 1:
            return rows
        whole = {name: self.world.gather(torch.stack([row[name] for row in rows]), axis=1) for name in rows[0]}
        values = zip(*whole.values(), strict=True) if self.world.first else ()
        return [dict(zip(whole, own, strict=True)) for own in values]

    def _gather(self, state: ChainState) -> tuple[ChainState, Tensor] | None:
        """Return the states of the chains of all ranks and of their streams on rank 0, None elsewhere."""
        fields: dict[str, Any] = {name: self.world.gather(value) for name, value in named(state).items()}
        streams = self.world.gather(self.streams.get_state())
        return None if streams is None else (ChainState(**fields), streams)

    def _scatter(self, whole: tuple[ChainState, Tensor] | None) -> ChainState:
        """Return the state of the chains of this rank, and set its streams."""
        fields, streams = ({}, None) if whole is None else (named(whole[0]), whole[1])
        parts = {name: self.world.scatter(fields.get(name)) for name in self.world.broadcast(list(fields))}
        self.streams.set_state(self.world.scatter(streams))
        # the numbers of proposals are counted on the CPU
        device = self.streams.device
        return ChainState(**{name: part if name == "offered" else part.to(device) for name, part in parts.items()})

    def _bar(self, total: int, initial: int, title: str) -> tqdm:
        hidden = True if self.keeper is None or initial >= total else None
        return tqdm(total=total, initial=initial, desc=title, unit="up", disable=hidden)

    def _time_to_write(self) -> bool:
        """Return whether some rank is past the deadline, or was asked to stop."""
        return self.world.any(self.stop.asked or time.monotonic() >= self._deadline)

    def _stop_if_asked(self, done: str) -> None:
        if self.world.any(self.stop.asked):
            self.world.barrier()  # no rank leaves before all is written
            raise Interrupted(f"asked to stop: {done}; {self.again} goes on")

    def _spent(self, updates: int) -> None:
        """Record the time since the last call, on all ranks."""
        seconds = self.world.total(time.process_time() - self._since)
        if self.keeper:
            self.keeper.spent(updates, self._made, seconds)
        self._restart()

    def _restart(self) -> None:
        self._made, self._since, self._deadline = 0, time.process_time(), time.monotonic() + COMMIT_SECONDS
