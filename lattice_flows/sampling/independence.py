"""Independence Metropolis: chains that move from one weighted proposal to another."""

import itertools
import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.config.rules import Count, Settings
from lattice_flows.distributed import World
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Space
from lattice_flows.sampling.base import ChainState, Context, Proposal, Sampler, SamplerEntry, choose, count, stand_at
from lattice_flows.sampling.batching import mapped
from lattice_flows.streams import Key, Streams


class IndependenceInfo(NamedTuple):
    """The proposals to each chain, all `(chains,)`: `accepted` is bool, and `acceptance` 1 or 0; `action` is S.

    `log_w` is relative to the measure of the space; log w - S is the log-weight for the target.
    """

    acceptance: Tensor
    log_w: Tensor
    action: Tensor
    accepted: Tensor


class ProposalBlock(NamedTuple):
    """Proposals of a chain, `log_weights` log_w - S, and the logarithms of the uniform numbers of their tests."""

    x: Tensor
    log_w: Tensor
    action: Tensor
    log_weights: list[float]
    log_uniforms: list[float]


class IndependenceMetropolis(Sampler):
    """Chains that move to a proposal with probability min(1, w' / w), log w = log_w - S.

    They are exact for every proposal; a better one moves them more often. Proposal t of chain k is a function of the
    seed of the streams, k and t alone. A proposal whose weight is not finite is never accepted; a state whose weight is
    not finite accepts any other. The parameters of a flow must stay as they are.

    Args:
        proposal: a flow, or any other `Proposal`.
        action: x -> `(*batch,)`.
        batch: the number of proposals that are drawn at a time, and kept for each chain.

    Raises:
        InvalidInput: batch < 1; or action and proposal have different spaces, or none.

    Source: L. Tierney, Ann. Statist. 22 (1994) 1701; M. S. Albergo et al., 1904.12072.

    Example:
        >>> from lattice_flows import U1, actions, flows
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, hidden=(4,), seed=0)
        >>> sampler = IndependenceMetropolis(flow, actions.Wilson(flow.space, beta=0.5), batch=100)
        >>> streams = Streams(seed=1, chains=2)
        >>> state, info = sampler.step(sampler.begin(streams), streams)
        >>> state.x.shape, info.accepted.shape
        (torch.Size([2, 2, 4, 4]), torch.Size([2]))
    """

    def __init__(self, proposal: Proposal, action: ActionLike, batch: int):
        self.proposal, self.action, self.batch = proposal, action, count("batch", batch)
        known = (getattr(part, "space", None) for part in (action, proposal))
        spaces = [space for space in known if isinstance(space, Space)]
        if not spaces or spaces[0] != spaces[-1]:
            raise InvalidInput(
                f"action and proposal must be of one space, got {' and '.join(map(str, spaces)) or None}"
            )
        self.space = spaces[0]
        self._blocks: dict[tuple[tuple[Key, ...], int], ProposalBlock] = {}

    def init(self, x: Tensor) -> ChainState:
        state = stand_at(self.space.check(x), self.action)
        return state._replace(offered=torch.zeros(len(x), dtype=torch.long))

    def begin(self, streams: Streams) -> ChainState:
        """The state of chains at their first proposals."""
        first = [self._block(streams, k, 0)[:3] for k in range(len(streams))]
        x, log_w, action = (torch.stack([part[0] for part in parts]) for parts in zip(*first, strict=True))
        return ChainState(x, action, log_w, torch.ones(len(streams), dtype=torch.long))

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, IndependenceInfo]:
        """Offer one proposal to each chain.

        Raises:
            InvalidInput: chains and proposals differ in precision; or x was not proposed, and the proposal has no
                `log_w`.
        """
        offered = torch.zeros(len(streams), dtype=torch.long) if state.offered is None else state.offered
        places = [(self._block(streams, k, t // self.batch), t % self.batch) for k, t in enumerate(offered.tolist())]
        met = [(block.x[i], block.log_w[i], block.action[i]) for block, i in places]
        x, new_log_w, action = (
            torch.stack(parts) if len(parts) > 1 else parts[0][None] for parts in zip(*met, strict=True)
        )
        if x.dtype != state.x.dtype:  # torch would convert one of them in silence
            raise InvalidInput(
                f"the proposals are in {x.dtype}, the chains in {state.x.dtype}: start them in the former"
            )
        log_w = self._log_w(state, streams)
        # numbers of Python: a step of one chain is mostly the time that tensors of one element take
        now = [w if math.isfinite(w) else -math.inf for w in _log_weights(log_w, state.action)]
        moves = [
            math.isfinite(block.log_weights[i]) and block.log_uniforms[i] < block.log_weights[i] - w
            for (block, i), w in zip(places, now, strict=True)
        ]
        accepted = torch.tensor(moves, device=action.device)
        info = IndependenceInfo(accepted.to(action.dtype), new_log_w, action, accepted)
        if not all(moves):
            x, action = choose(accepted, x, state.x), choose(accepted, action, state.action)
            new_log_w = choose(accepted, new_log_w, log_w)
        return ChainState(x, action, new_log_w, offered + 1), info

    def _log_w(self, state: ChainState, streams: Streams) -> Tensor:
        if state.log_w is not None:
            return state.log_w
        if not hasattr(self.proposal, "log_w"):
            raise InvalidInput(
                f"{type(self.proposal).__name__} gives no weight to a configuration that it did not make: begin chains "
                "at its proposals, and use no other update beside it"
            )
        return mapped(self.proposal.log_w, state.x, streams)

    def _block(self, streams: Streams, k: int, number: int) -> ProposalBlock:
        """Proposals number * batch ... of the k-th chain; the latest of each chain are kept."""
        key = (streams.key(k), number)
        if key not in self._blocks:
            others = {streams.key(j) for j in range(len(streams)) if j != k}
            self._blocks = {kept: block for kept, block in self._blocks.items() if kept[0] in others}
            self._blocks[key] = self._draw(streams, k, number)
        return self._blocks[key]

    @torch.no_grad()
    def _draw(self, streams: Streams, k: int, number: int) -> ProposalBlock:
        child = streams.child(k, "proposals", self.batch, number)
        x, log_w = self.proposal.draw(self.batch, child)
        action = self.action(x)
        uniforms = child.rand(self.batch, dtype=torch.float64)[0]
        return ProposalBlock(x, log_w, action, _log_weights(log_w, action), uniforms.log().tolist())


class SharedProposals(IndependenceMetropolis):
    """Independence Metropolis on rank 0, for which all ranks of a world draw blocks of proposals in turn.

    The chains are those of `IndependenceMetropolis`, bit for bit. Rank 0 steps, and calls `dismiss` at the end; the
    other ranks `serve` meanwhile. Each of them has one block ready, so that no memory grows with their number.
    """

    def __init__(self, proposal: Proposal, action: ActionLike, batch: int, world: World):
        super().__init__(proposal, action, batch)
        self.world = world

    def serve(self, streams: Streams, begin: int, end: int) -> None:
        """Draw this rank's blocks from number `begin` to `end`, until rank 0 dismisses it."""
        spent = time.process_time()
        for number, k in itertools.product(range(begin, end), range(len(streams))):
            if self._rank(streams, k, number) != self.world.rank:
                continue
            block = super()._draw(streams, k, number)
            if not self.world.receive(0):
                break
            self.world.send(block, 0)
        else:
            self.world.receive(0)
        self.world.send(time.process_time() - spent, 0)

    def dismiss(self) -> float:
        """Let the other ranks go; return the CPU-seconds that they took."""
        seconds = 0.0
        for rank in range(1, self.world.size):
            self.world.send(False, rank)
            seconds += self.world.receive(rank)
        return seconds

    def _draw(self, streams: Streams, k: int, number: int) -> ProposalBlock:
        rank = self._rank(streams, k, number)
        if rank == 0:
            return super()._draw(streams, k, number)
        self.world.send(True, rank)
        return self.world.receive(rank)

    def _rank(self, streams: Streams, k: int, number: int) -> int:
        return (number * len(streams) + k) % self.world.size


def _log_weights(log_w: Tensor, action: Tensor) -> list[float]:
    return (log_w - action).double().tolist()


@dataclass(frozen=True, kw_only=True)
class FlowSettings(Settings):
    """The number of proposals that a flow draws at a time."""

    batch: Count = 500


def proposing(proposal: Any, action: Any, batch: int, context: Context) -> IndependenceMetropolis:
    """The chains of a run that move to these proposals."""
    if context.shared:
        return SharedProposals(proposal, action, batch, context.world)
    return IndependenceMetropolis(proposal, action, batch)


FLOW = SamplerEntry(
    "independence Metropolis",
    FlowSettings,
    lambda action, settings, context: proposing(context.flow_for("flow"), action, settings.batch, context),
    uses_flow=True,
    independent=True,
)
