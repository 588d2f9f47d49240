"""From the settings of ``[sampling]`` to Markov chains: their samplers, their start, and their tuning."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.config.registry import SAMPLERS
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.io import read_configuration
from lattice_flows.io.chain_layout import PROPOSALS
from lattice_flows.models import dtype
from lattice_flows.reports.configurations import space_of
from lattice_flows.reports.tuning import Tuned
from lattice_flows.reports.words import space_in_words
from lattice_flows.sampling import (
    Annealing,
    ChainState,
    Cycle,
    CycleInfo,
    ExchangeInfo,
    ReplicaExchange,
    Sampler,
    Streams,
    Tempered,
    Tunable,
    start,
)
from lattice_flows.sampling.base import Context
from lattice_flows.sampling.independence import IndependenceInfo, IndependenceMetropolis
from lattice_flows.sampling.metropolis import local_updates
from lattice_flows.sampling.tuning import windows


class Chains:
    """The chains of a run.

    Args:
        flow: the trained one, where ``sampling.updates`` need it.
        tuned: of chains that go on; `thermalise` tunes new ones.
        world: the ranks that share the chains.
        annealing: the stochastic flow, where ``sampling.updates`` need it.

    Attributes:
        sampler: makes one update, the whole cycle.
        samplers: the parts of the cycle, by the names of the updates; with tempering those of the measured coupling.
        tuned: the tuned numbers of the samplers that tune themselves.
        proposals: the number of proposals of the flow that each chain meets in an update.
        shared: whether all ranks make the proposals of the chains of rank 0.

    Raises:
        InvalidInput: updates that the action does not have, or too many ranks.

    Example:
        >>> from lattice_flows.models import build_action
        >>> sampling = {"updates": ("heatbath", "overrelaxation*4"), "chains": 2, "thermalise": 5}
        >>> lattice, action = {"group": "SU(2)", "extents": (4, 4, 4)}, {"beta": 2.0}
        >>> config, action = build_action(Config.of(lattice=lattice, action=action, sampling=sampling), "example")
        >>> chains, streams = Chains(config, action), Streams(config.sampling.seed, config.sampling.chains)
        >>> *_, state = chains.thermalise(chains.begin(streams, Path()), streams)
        >>> state, info = chains.sampler.step(state, streams)
        >>> state.x.shape, chains.tuned
        (torch.Size([2, 3, 4, 4, 4, 2, 2]), {})
    """

    def __init__(
        self,
        config: Config,
        action: Action,
        flow: Flow | None = None,
        tuned: Tuned | None = None,
        world: World = SERIAL,
        annealing: Annealing | None = None,
    ):
        self.config, self.action, self.flow, self.world = config, action, flow, world
        self.annealing = annealing
        cycle, n, size = config.sampling.cycle, config.sampling.chains, world.size
        self.shared = n < size and config.sampling.independent
        if n < size and not self.shared:
            raise InvalidInput(
                f"{n} chains cannot be spread over {size} ranks: set sampling.chains={size} or more, or take fewer "
                'ranks; only where updates = ["flow"] do all ranks make the proposals of fewer chains'
            )
        self._steps = [name for name, count in cycle for _ in range(count)]
        self._start: Tensor | None = None
        self.use(tuned or {})
        self.proposals = sum(count for name, count in cycle if isinstance(self.samplers[name], IndependenceMetropolis))

    def begin(self, streams: Streams, folder: Path) -> ChainState:
        """Return the chains before their thermalisation; a file to start from is looked for in `folder` first.

        Raises:
            InvalidInput: the file cannot be read, or holds a configuration of another space.
        """
        proposing = next((own for own in self.samplers.values() if isinstance(own, IndependenceMetropolis)), None)
        if self.config.sampling.start is None and proposing is not None:
            return proposing.begin(streams)
        if self.config.sampling.start is not None or self.flow is None:
            return (proposing or self.sampler).init(self._first(streams, folder))
        # hot fields would have latent fields so improbable that no trajectory is accepted
        return self.sampler.init(IndependenceMetropolis(self.flow, self.action, batch=1).begin(streams).x)

    def thermalise(self, state: ChainState, streams: Streams, done: int = 0) -> Iterator[ChainState]:
        """Make the dropped updates, but the first `done`, and tune the samplers; yield the state after each of them.

        Where samplers tune themselves, the first quarter is local updates, if the action has them: far from equilibrium
        an acceptance says nothing. Then the samplers are adapted in windows, and in the last quarter they stay as they
        are. Its acceptance is the one that is `reached`.
        """
        dropped = self.config.sampling.dropped
        if not done:
            self.tuned = {
                name: {**own.tuned, "asked": own.target}
                for name, own in self.samplers.items()
                if isinstance(own, Tunable) and own.tuned
            }
        local = self._tempered(local_updates) if self.tuned and local_updates(self.action) is not None else None
        first, last = 0 if local is None else dropped // 4, dropped - -(-dropped // 4)
        adapting = {window.end: window for window in windows(first, last)} if self.tuned else {}
        for update in range(done, dropped):
            if local is not None and update < first:
                state, _ = local.step(state, streams)
            else:
                state, info = self.sampler.step(state, streams)
                self._watch(info, update - max(end for end in (first, *adapting) if end <= update))
                if update + 1 in adapting:
                    self._adapt(adapting[update + 1].gain)
            yield state

    def outcome(self, info: Any) -> dict[str, Tensor]:
        """Return the `acceptance` of an update `(chains,)`, its `proposals/...` of the flow `(chains, proposals)`, and
        the `swaps/...` of a replica exchange `(chains, pairs)`.

        The acceptance is the mean over those steps of a cycle that can reject; `info` is of `sampler.step`.
        """
        steps = self._infos(info)
        shares = [step.acceptance for name, step in zip(self._steps, steps, strict=True) if SAMPLERS[name].rejects]
        shares = shares or [steps[0].acceptance]
        acceptance = shares[0] if len(shares) == 1 else torch.stack([share.double() for share in shares]).mean(0)
        proposed = [step for step in steps if isinstance(step, IndependenceInfo)]
        # a column for each step
        columns = {
            f"proposals/{name}": torch.stack([getattr(step, name) for step in proposed], 1)
            for name in (PROPOSALS if proposed else ())
        }
        if isinstance(info, ExchangeInfo):
            columns |= {"swaps/accepted": info.swapped, "swaps/probability": info.probability}
        return {"acceptance": acceptance, **columns}

    @property
    def proposing(self) -> Any:
        """The sampler whose proposals are shared."""
        return self.samplers[self._steps[0]]

    def serve(self, streams: Streams, offered: int, updates: int) -> None:
        """Make proposals for the chains of rank 0, until rank 0 dismisses this rank.

        Args:
            offered: the number of proposals that each chain has met before.
            updates: the number of missing updates.
        """
        proposing, last = self.proposing, offered + 1 + updates * self.proposals
        proposing.serve(streams, offered // proposing.batch, -(-last // proposing.batch))

    def use(self, tuned: Tuned) -> None:
        """Make the samplers with tuned numbers."""
        self.tuned = tuned
        self.samplers: dict[str, Any] = self._samplers(self.action)
        self.sampler: Any = self._tempered(self._cycle)

    def _samplers(self, action: Action) -> dict[str, Any]:
        """Make the samplers of an action."""
        settings = self.config.sampling
        parts = {
            name: Context(self.flow, self.tuned.get(name, {}), self.world, self.shared, self.annealing)
            for name in settings.names
        }
        return {name: SAMPLERS[name].build(action, settings, context) for name, context in parts.items()}

    def _cycle(self, action: Action) -> Sampler:
        """Make an update of an action."""
        samplers = self.samplers if action is self.action else self._samplers(action)
        cycle = [(samplers[name], count) for name, count in self.config.sampling.cycle]
        return cycle[0][0] if cycle[0][1] == len(cycle) == 1 else Cycle(cycle)

    def _tempered(self, sampler: Callable[[Action], Any]) -> Any:
        """Make the sampler of the action, with replica exchange where there are couplings for it."""
        if not (betas := self.config.tempering.betas):
            return sampler(self.action)
        own = self.config.action.beta
        samplers = [sampler(self.action if beta == own else self.action.at(beta)) for beta in betas]
        return Tempered(ReplicaExchange(samplers), betas.index(own))

    def _infos(self, info: Any) -> tuple[Any, ...]:
        """Return the infos of the steps of an update, of a replica exchange at the measured coupling."""
        if isinstance(info, ExchangeInfo):
            info = info.updates[self.sampler.measured]
        return info.steps if isinstance(info, CycleInfo) else (info,)

    def _watch(self, info: Any, before: int) -> None:
        """Add an update to the acceptance that is reached in a window, after `before` others."""
        infos = self._infos(info)
        for name, own in self.tuned.items():
            rates = [
                self.samplers[name].rate(one) for step, one in zip(self._steps, infos, strict=True) if step == name
            ]
            mean = float(self.world.all_gather(torch.stack(rates, 1)).mean())
            self.tuned[name] = {**own, "reached": (before * own.get("reached", 0.0) + mean) / (before + 1)}

    def _adapt(self, gain: float) -> None:
        """Adapt the samplers to the acceptance that is reached."""
        found = {}
        for name, own in self.tuned.items():
            found[name] = own | self.samplers[name].adapted(own["reached"], own["asked"], gain).tuned
        self.use(found)

    def read_start(self, folder: Path) -> None:
        """Read the file that the chains start from, if there is one; errors as of `begin`."""
        how, space = self.config.sampling.start, self.action.space
        if how in (None, "hot", "cold"):
            return
        path = next((path for path in (folder / how, Path(how)) if path.is_file()), Path(how))
        links, facts = read_configuration(path)
        stored = space_of(facts)
        if stored != space:
            own, other = space_in_words(space), space_in_words(stored)
            raise InvalidInput(f"the run is of {own}, the configuration to start from of {other} ({path})")
        self._start = links.to(space.dtype(dtype(self.config)))

    def _first(self, streams: Streams, folder: Path) -> Tensor:
        """Return the fields at the start of chains that do not start from proposals."""
        if self._start is None:
            self.read_start(folder)
        if self._start is not None:
            return torch.stack([self._start.to(streams.device)] * len(streams))
        how: Any = self.config.sampling.start or "hot"
        return start(self.action.space, streams, how, dtype=dtype(self.config))
