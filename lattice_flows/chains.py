"""From the settings of ``[sampling]`` to Markov chains: their samplers, where they begin, and how they are tuned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config import Config
from lattice_flows.distributed import SERIAL, World
from lattice_flows.errors import InvalidInput
from lattice_flows.flows import Flow
from lattice_flows.io import read_configuration
from lattice_flows.models import dtype
from lattice_flows.sampling import (
    HMC,
    ChainState,
    Cycle,
    CycleInfo,
    HeatBath,
    IndependenceInfo,
    IndependenceMetropolis,
    Metropolis,
    OverRelaxation,
    Sampler,
    Streams,
    SweepInfo,
    start,
)
from lattice_flows.sampling.maps import mapped
from lattice_flows.sampling.shared import SharedProposals
from lattice_flows.sampling.transformed import Transformed

Tuned = dict[str, int | float]
"""``hmc_steps``, ``transformed_steps`` and ``metropolis_spread``, where the updates have them."""

FIRST_STEPS = 10  # of HMC, before it is tuned


class Chains:
    """The chains of a run.

    Args:
        flow: the trained one, where ``sampling.updates`` need it.
        tuned: of chains that go on; new ones are tuned by `thermalise`.
        world: over whose ranks the chains are spread.

    Attributes:
        sampler: makes one update, the whole cycle.
        tuned: what the steps of the samplers are.
        proposals: how many proposals of the flow each chain meets in an update.

    Raises:
        InvalidInput: updates that the action does not have, or more ranks than can have a part.

    Example:
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.config import ActionConfig, LatticeConfig, SamplingConfig
        >>> from lattice_flows.groups import SU
        >>> sampling = SamplingConfig(updates=("heatbath", "overrelaxation*4"), chains=2, thermalise=5)
        >>> lattice = LatticeConfig(group="SU(2)", sites=(4, 4, 4))
        >>> config = Config(lattice=lattice, action=ActionConfig(beta=2.0), sampling=sampling)
        >>> chains, streams = Chains(config, Wilson(SU(2), 2.0, dim=3)), Streams(sampling.seed, sampling.chains)
        >>> for state in chains.thermalise(chains.begin(streams, Path()), streams):
        ...     pass
        >>> state, info = chains.sampler.step(state, streams)
        >>> state.links.shape, chains.tuned
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
        n, size, names = config.sampling.chains, self.world.size, {name for name, _ in config.sampling.cycle}
        self.shared = n < size and names == {"flow"}
        if n < size and not self.shared:
            raise InvalidInput(
                f"{n} chains cannot be spread over {size} ranks: set sampling.chains={size} or more, or take fewer "
                'ranks; only where updates = ["flow"] do all ranks make the proposals of fewer chains'
            )
        self.proposals = sum(count for name, count in config.sampling.cycle if name == "flow")
        self._use(tuned or {})

    def begin(self, streams: Streams, folder: Path) -> ChainState:
        """Where the chains begin, before they are thermalised.

        Args:
            folder: of the run, in which a file to start from is looked for first.

        Raises:
            InvalidInput: such a file cannot be read, or holds a configuration of another theory.
        """
        flow: Any = self.samplers.get("flow")
        if self.config.sampling.start is not None or self.flow is None:
            return (flow or self.sampler).init(self._first_links(streams, folder))
        if flow is not None:
            return flow.begin(streams)
        # of Haar links the latent ones are so improbable that no trajectory is accepted
        return self.sampler.init(IndependenceMetropolis(self.flow, self.action, batch=1).begin(streams).links)

    def thermalise(self, state: ChainState, streams: Streams, done: int = 0) -> Iterator[ChainState]:
        """Tunes the samplers, and makes the updates that are dropped: the state after each of them.

        Args:
            done: how many of these updates there were before.
        """
        dropped = self.config.sampling.dropped
        # links that are far from equilibrium may need other steps: tuned before, and once more half way
        moments = {0, dropped // 2}
        for update in range(done, max(dropped, 1)):
            if update in moments:
                self._use(self._tune(state, streams))
            if update < dropped:
                state, _ = self.sampler.step(state, streams)
                yield state

    def serve(self, streams: Streams, offered: int, updates: int) -> None:
        """Makes proposals for the chains of rank 0, until that dismisses this rank.

        Args:
            streams: of all chains.
            offered: how many proposals each chain has met before.
            updates: how many of them are to be made.
        """
        batch = self.config.sampling.batch
        last = offered + 1 + updates * self.proposals
        self.samplers["flow"].serve(streams, offered // batch, -(-last // batch))

    def dismiss(self) -> float:
        """Lets the ranks go that make proposals; the CPU-seconds that they took."""
        return self.samplers["flow"].dismiss()

    def _use(self, tuned: Tuned) -> None:
        self.tuned = tuned
        self.samplers: dict[str, Any] = {name: self._make(name) for name, _ in self.config.sampling.cycle}
        cycle = [(self.samplers[name], count) for name, count in self.config.sampling.cycle]
        self.sampler: Sampler = cycle[0][0] if cycle[0][1] == len(cycle) == 1 else Cycle(cycle)

    def _make(self, name: str) -> Sampler:
        settings, action, flow = self.config.sampling, self.action, self.flow
        steps = int(self.tuned.get(f"{name}_steps", settings.hmc_steps or FIRST_STEPS))
        if name == "hmc":
            return HMC(action, settings.trajectory, steps)
        if name == "metropolis":
            return Metropolis(action, self.tuned.get("metropolis_spread", 0.5))  # type: ignore[arg-type]
        if name in ("flow", "transformed"):
            if flow is None:
                raise InvalidInput(f"the update {name} needs a trained flow")
            if name == "flow":
                if self.shared:
                    return SharedProposals(flow, action, settings.batch, self.world)
                return IndependenceMetropolis(flow, action, settings.batch)
            return Transformed(flow, action, lambda latent: HMC(latent, settings.trajectory, steps))
        return {"heatbath": HeatBath, "overrelaxation": OverRelaxation}[name](action)  # type: ignore[arg-type]

    def _tune(self, state: ChainState, streams: Streams) -> Tuned:
        tuned: Tuned = {}
        fixed = self.config.sampling.hmc_steps > 0
        if "hmc" in self.samplers and not fixed:
            tuned["hmc_steps"] = self.samplers["hmc"].tune(state, streams, mean=self._mean).steps
        if "transformed" in self.samplers and not fixed:
            latent, logdet = mapped(self.samplers["transformed"].transform.inverse, state.links, streams)
            inner = self.samplers["transformed"].latent
            tuned["transformed_steps"] = inner.tune(
                ChainState(latent, state.action + logdet), streams, mean=self._mean
            ).steps
        if "metropolis" in self.samplers:
            tuned["metropolis_spread"] = self.samplers["metropolis"].tune(state, streams, mean=self._mean).spread
        return tuned

    def _mean(self, values: Tensor) -> float:
        """Over the chains of all ranks."""
        return float(values.mean() if self.shared else self.world.all_gather(values).mean())

    def _first_links(self, streams: Streams, folder: Path) -> Tensor:
        group, sites = self.action.group, self.config.lattice.sites
        precision, how = group.element_dtype(dtype(self.config)), self.config.sampling.start or "hot"
        if how in ("hot", "cold"):
            return start(group, sites, streams, "cold" if how == "cold" else "hot", dtype=precision)
        path = next((path for path in (folder / how, Path(how)) if path.is_file()), Path(how))
        links, facts = read_configuration(path)
        if (facts["group"], facts["sites"]) != (str(group), sites):
            raise InvalidInput(
                f"the run is of {group} on {sites}, the configuration to start from of {facts['group']} on "
                f"{facts['sites']} ({path})"
            )
        return torch.stack([links.to(streams.device, precision)] * len(streams))


def outcome(info: Any) -> tuple[Tensor, dict[str, Tensor] | None]:
    """The acceptance of an update `(chains,)`, and what the flow proposed in it, each `(chains, proposals)`.

    The acceptance is the mean over those steps of a cycle that can reject.
    """
    steps = info.steps if isinstance(info, CycleInfo) else (info,)
    shares = [step.acceptance for step in steps if not isinstance(step, SweepInfo)] or [steps[0].acceptance]
    proposed = [step for step in steps if isinstance(step, IndependenceInfo)]
    acceptance = shares[0] if len(shares) == 1 else torch.stack([share.double() for share in shares]).mean(0)
    if not proposed:
        return acceptance, None
    # columns of what each step proposed
    log_q, action, accepted = (
        parts[0].unsqueeze(1) if len(parts) == 1 else torch.stack(parts, 1)
        for parts in zip(*((step.log_q, step.action, step.accepted) for step in proposed), strict=True)
    )
    return acceptance, {"log_q": log_q, "action": action, "accepted": accepted}
