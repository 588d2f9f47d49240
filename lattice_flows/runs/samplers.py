"""From the settings of ``[sampling]`` to Markov chains: their samplers, their start, and their tuning."""

from collections.abc import Iterator
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
from lattice_flows.reports.words import space_in_words
from lattice_flows.sampling import ChainState, Cycle, CycleInfo, Streams, start
from lattice_flows.sampling.base import Context
from lattice_flows.sampling.independence import IndependenceInfo, IndependenceMetropolis

Tuned = dict[str, dict[str, int | float]]
"""Tuned steps by the name of the update, such as ``{"hmc": {"steps": 12}}``."""


class Chains:
    """The chains of a run.

    Args:
        flow: the trained one, where ``sampling.updates`` need it.
        tuned: of chains that go on; `thermalise` tunes new ones.
        world: the ranks that share the chains.

    Attributes:
        sampler: makes one update, the whole cycle.
        samplers: the parts of the cycle, by the names of the updates.
        tuned: the tuned steps of the samplers.
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
    ):
        self.config, self.action, self.flow, self.world = config, action, flow, world
        cycle, n, size = config.sampling.cycle, config.sampling.chains, world.size
        self.shared = n < size and config.sampling.names == ("flow",)
        if n < size and not self.shared:
            raise InvalidInput(
                f"{n} chains cannot be spread over {size} ranks: set sampling.chains={size} or more, or take fewer "
                'ranks; only where updates = ["flow"] do all ranks make the proposals of fewer chains'
            )
        self._rejects = [SAMPLERS[name].rejects for name, count in cycle for _ in range(count)]
        self._use(tuned or {})
        self.proposals = sum(count for name, count in cycle if isinstance(self.samplers[name], IndependenceMetropolis))

    def begin(self, streams: Streams, folder: Path) -> ChainState:
        """Return the chains before their thermalisation; a file to start from is looked for in `folder` first.

        Raises:
            InvalidInput: the file cannot be read, or holds a configuration of another space.
        """
        proposing = next((own for own in self.samplers.values() if isinstance(own, IndependenceMetropolis)), None)
        if self.config.sampling.start is not None or self.flow is None:
            return (proposing or self.sampler).init(self._first(streams, folder))
        if proposing is not None:
            return proposing.begin(streams)
        # hot fields would have latent fields so improbable that no trajectory is accepted
        return self.sampler.init(IndependenceMetropolis(self.flow, self.action, batch=1).begin(streams).x)

    def thermalise(self, state: ChainState, streams: Streams, done: int = 0) -> Iterator[ChainState]:
        """Tune the samplers and make the dropped updates, but the first `done`; yield the state after each of them."""
        dropped = self.config.sampling.dropped
        # fields far from equilibrium may need other steps: tuned before, and once more half way
        moments = {0, dropped // 2}
        for update in range(done, max(dropped, 1)):
            if update in moments:
                self._use(self._tune(state, streams))
            if update < dropped:
                state, _ = self.sampler.step(state, streams)
                yield state

    def outcome(self, info: Any) -> dict[str, Tensor]:
        """Return the `acceptance` of an update `(chains,)`, and its `proposals/...` of the flow `(chains, proposals)`.

        The acceptance is the mean over those steps of a cycle that can reject; `info` is of `sampler.step`.
        """
        steps = info.steps if isinstance(info, CycleInfo) else (info,)
        shares = [step.acceptance for step, rejects in zip(steps, self._rejects, strict=True) if rejects]
        shares = shares or [steps[0].acceptance]
        acceptance = shares[0] if len(shares) == 1 else torch.stack([share.double() for share in shares]).mean(0)
        proposed = [step for step in steps if isinstance(step, IndependenceInfo)]
        # a column for each step
        columns = {
            f"proposals/{name}": torch.stack([getattr(step, name) for step in proposed], 1)
            for name in (PROPOSALS if proposed else ())
        }
        return {"acceptance": acceptance, **columns}

    def serve(self, streams: Streams, offered: int, updates: int) -> None:
        """Make proposals for the chains of rank 0, until rank 0 dismisses this rank.

        Args:
            offered: the number of proposals that each chain has met before.
            updates: the number of missing updates.
        """
        proposing, last = self.samplers["flow"], offered + 1 + updates * self.proposals
        proposing.serve(streams, offered // proposing.batch, -(-last // proposing.batch))

    def _use(self, tuned: Tuned) -> None:
        self.tuned, settings = tuned, self.config.sampling
        parts = {name: Context(self.flow, tuned.get(name, {}), self.world, self.shared) for name in settings.names}
        self.samplers: dict[str, Any] = {
            name: SAMPLERS[name].build(self.action, settings, context) for name, context in parts.items()
        }
        cycle = [(self.samplers[name], count) for name, count in settings.cycle]
        self.sampler: Any = cycle[0][0] if cycle[0][1] == len(cycle) == 1 else Cycle(cycle)

    def _tune(self, state: ChainState, streams: Streams) -> Tuned:
        """Tune the samplers that can be tuned."""
        able = {name: sampler for name, sampler in self.samplers.items() if hasattr(sampler, "tune")}
        found = {name: dict(own.tune(state, streams, mean=self._mean).tuned) for name, own in able.items()}
        return {name: own for name, own in found.items() if own}

    def _mean(self, values: Tensor) -> float:
        """Average over the chains of all ranks."""
        return float(values.mean() if self.shared else self.world.all_gather(values).mean())

    def _first(self, streams: Streams, folder: Path) -> Tensor:
        """Return the fields at the start of chains that do not start from proposals."""
        space, precision = self.action.space, dtype(self.config)
        how: Any = self.config.sampling.start or "hot"
        if how in ("hot", "cold"):
            return start(space, streams, how, dtype=precision)
        path = next((path for path in (folder / how, Path(how)) if path.is_file()), Path(how))
        links, facts = read_configuration(path)
        stored = space_of(facts)
        if stored != space:
            own, other = space_in_words(space), space_in_words(stored)
            raise InvalidInput(f"the run is of {own}, the configuration to start from of {other} ({path})")
        return torch.stack([links.to(streams.device, space.dtype(precision))] * len(streams))
