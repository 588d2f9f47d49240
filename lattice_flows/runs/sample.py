"""Markov chains in the folder of a run: made by all ranks, gathered and written by rank 0."""

import logging
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
from tqdm import tqdm

from lattice_flows import training
from lattice_flows.config import Config, import_modules
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import Interrupted
from lattice_flows.flows import Flow
from lattice_flows.models import Model, build_action, build_run
from lattice_flows.runs.folder import CONFIG, load_run, trained_model
from lattice_flows.runs.gather import Row, gather_rows, gather_state, most_rows, scatter_state
from lattice_flows.runs.keeper import Keeper, Place
from lattice_flows.runs.samplers import Chains
from lattice_flows.sampling import ChainState, Streams
from lattice_flows.signals import Stop

log = logging.getLogger(__name__)

COMMIT_SECONDS = 30.0
"""The time between two commits; a kill during sampling costs no more."""


def sample_run(
    folder: str | Path,
    overrides: Iterable[str] = (),
    config: Config | None = None,
    source: str = "config",
    world: World = SERIAL,
    stop: Stop | None = None,
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
    flow = _flow(settings, model, device, world)
    Chains(settings, action, flow, world=world)
    with Keeper(folder, settings, config is not None, model, device) if world.first else nullcontext() as keeper:
        place = world.broadcast(None if keeper is None else keeper.place)
        chains = Chains(settings, action, flow, None if place is None else place.tuned, world)
        # where proposals are shared, rank 0 alone has chains
        team = _Team(chains, keeper, SERIAL if chains.shared else world, stop, device)
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
            keeper.spent(keeper.updates, 0, chains.dismiss())


def _flow(settings: Config, model: Model | None, device: torch.device, world: World) -> Flow | None:
    """Give every rank the trained flow of rank 0."""
    weights = world.broadcast(None if model is None else model.flow.state_dict())
    if weights is None or model is not None:
        return None if model is None else model.flow
    _, flow, _ = build_run(settings, "config")
    flow.load_state_dict(weights)
    return flow.to(device).eval()


class _Team:
    """The ranks that have chains, seen from one of them; rank 0 has the keeper."""

    def __init__(self, chains: Chains, keeper: Keeper | None, world: World, stop: Stop, device: torch.device):
        self.chains, self.keeper, self.world, self.stop = chains, keeper, world, stop
        self.settings = chains.config.sampling
        self.streams = Streams(self.settings.seed, world.share(self.settings.chains), device)
        self._restart()

    def run(self, folder: Path, place: Place | None) -> int:
        """Make all missing updates, of new chains where `place` is None; return the configurations of each chain."""
        if place is None:
            state, place = self.chains.begin(self.streams, folder), Place()
        else:
            state = scatter_state(self.world, self.keeper.state if self.keeper else None, self.streams)
        if place.updates is None:
            state = self._thermalise(state, place.dropped)
        return self._sample(state, place.updates or 0) // self.settings.every

    def _thermalise(self, begin: ChainState, done: int) -> ChainState:
        total, made, state = self.settings.dropped, 0, begin
        with self._bar(total, done, "thermalising") as bar:
            for state in self.chains.thermalise(begin, self.streams, done):
                made += 1
                bar.update()
                if self._time_to_write() and done + made < total:
                    whole = gather_state(self.world, state, self.streams)
                    if self.keeper and whole:
                        self.keeper.save_thermalisation(*whole, Place(self.chains.tuned, done + made))
                    self._spent(0, made)
                    self._stop_if_asked(f"{done + made} of {total} updates of the thermalisation are written")
                    done, made = done + made, 0
        whole = gather_state(self.world, state, self.streams)
        if self.keeper and whole:
            self.keeper.create(*whole, self.chains.tuned, self.chains.proposals)
        self._spent(0, made)
        return state

    def _sample(self, state: ChainState, n: int) -> int:
        total = self.settings.n * self.settings.every
        if n >= total and self.keeper:
            log.info("%s holds %d configurations of each chain already", self.keeper.path, n // self.settings.every)
        most = most_rows(state, self.settings.chains)
        made, rows = 0, list[Row]()
        with self._bar(total, n, "sampling") as bar:
            while n < total:
                state, info = self.chains.sampler.step(state, self.streams)
                rows.append(Row(state, *self.chains.outcome(info)))
                n, made = n + 1, made + 1
                writing = self._time_to_write() or n == total
                if writing or len(rows) == most:
                    gathered = gather_rows(self.world, rows)
                    if self.keeper:
                        self.keeper.append(gathered)
                    bar.update(len(rows))
                    rows = []
                if writing:
                    whole = gather_state(self.world, state, self.streams)
                    if self.keeper and whole:
                        self.keeper.commit(whole[1])
                    self._spent(n, made)
                    made = 0
                    if n < total:
                        self._stop_if_asked(f"{n} of {total} updates are written")
        return n

    def _bar(self, total: int, initial: int, title: str) -> tqdm:
        hidden = True if self.keeper is None or initial >= total else None
        return tqdm(total=total, initial=initial, desc=title, unit="up", disable=hidden)

    def _time_to_write(self) -> bool:
        """Return whether some rank is past the deadline, or was asked to stop."""
        return self.world.any(self.stop.asked or time.monotonic() >= self._deadline)

    def _stop_if_asked(self, done: str) -> None:
        if self.world.any(self.stop.asked):
            self.world.barrier()  # no rank leaves before all is written
            raise Interrupted(f"asked to stop: {done}; the same command goes on")

    def _spent(self, updates: int, made: int) -> None:
        """Record the time since the last call, on all ranks."""
        seconds = self.world.total(time.process_time() - self._since)
        if self.keeper:
            self.keeper.spent(updates, made, seconds)
        self._restart()

    def _restart(self) -> None:
        self._since, self._deadline = time.process_time(), time.monotonic() + COMMIT_SECONDS
