"""Independence Metropolis for many chains: flow samples as proposals, each a function of seed, chain and place."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.sampling.base import ChainState, choose, stand_at
from lattice_flows.sampling.maps import mapped
from lattice_flows.streams import Streams

PROPOSALS = 1  # the key of the fork of a stream that draws them


class IndependenceInfo(NamedTuple):
    """What was proposed to each chain `(chains,)`."""

    acceptance: Tensor
    """1 where the proposal was accepted, 0 elsewhere."""
    log_q: Tensor
    """Of the proposal, as is the action: the weights of the flow, for its effective sample size."""
    action: Tensor
    accepted: Tensor
    """bool."""


class ProposalBlock(NamedTuple):
    """Proposals of a chain, their log-weights, and the logarithms of the uniform numbers that they are tested with."""

    links: Tensor
    log_q: Tensor
    action: Tensor
    log_w: list[float]
    log_uniforms: list[float]


class IndependenceMetropolis:
    """Chains that move to a flow sample with probability min(1, w' / w), log w = -S - log q.

    Exact for every flow: the quality of the flow decides how often a chain moves. Proposal t of chain k is a function
    of the seed of the streams, k and t alone; a proposal whose weight is not finite is never accepted, and where that
    of the state is not finite, any other is. The parameters of the flow must stay as they are.

    Args:
        flow: draws the proposals.
        action: links -> `(*batch,)`.
        batch: how many proposals are drawn at a time; so many configurations are kept for each chain.

    Raises:
        InvalidInput: a batch that is not an integer >= 1.

    Source: L. Tierney, Ann. Statist. 22 (1994) 1701; M. S. Albergo et al., 1904.12072.

    Example:
        >>> from lattice_flows import U1, flows
        >>> from lattice_flows.actions import Wilson
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, hidden=(4,), seed=0)
        >>> sampler = IndependenceMetropolis(flow, Wilson(U1(), beta=0.5), batch=100)
        >>> streams = Streams(seed=1, chains=2)
        >>> state = sampler.begin(streams)
        >>> state, info = sampler.step(state, streams)
        >>> state.links.shape, info.accepted.shape
        (torch.Size([2, 2, 4, 4]), torch.Size([2]))
    """

    def __init__(self, flow: Flow, action: ActionLike, batch: int):
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InvalidInput(f"batch must be an integer >= 1, got {batch!r}")
        self.flow, self.action, self.batch = flow, action, batch
        self._blocks: dict[tuple[int, ...], tuple[int, ProposalBlock]] = {}

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`.

        Raises:
            InvalidInput: the links are not of the shape or precision that the flow makes.
        """
        group, sites = self.flow.group, self.flow.sites
        shape = (len(links), len(sites), *sites, *group.element_shape)
        dtype = group.element_dtype(next(self.flow.parameters()).dtype)
        if links.shape != shape or links.dtype != dtype:
            raise InvalidInput(
                f"the flow proposes links {shape} in {dtype}, got {tuple(links.shape)} in {links.dtype}: "
                "start chains in the shape and precision of the flow"
            )
        return stand_at(links, self.action)._replace(offered=torch.zeros(len(links), dtype=torch.long))

    def begin(self, streams: Streams) -> ChainState:
        """The state of chains that stand at their first proposals."""
        first = [self._block(streams, k, 0)[:3] for k in range(len(streams))]
        links, log_q, action = (torch.stack([part[0] for part in parts]) for parts in zip(*first, strict=True))
        return ChainState(links, action, log_q, torch.ones(len(streams), dtype=torch.long))

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, IndependenceInfo]:
        """One proposal for each chain."""
        offered = torch.zeros(len(streams), dtype=torch.long) if state.offered is None else state.offered
        log_q = state.log_q
        if log_q is None:
            log_q = mapped(self.flow.log_prob, state.links, streams)
        # numbers of Python: a step of one chain is mostly the time that tensors of one element take
        now = [w if math.isfinite(w) else -math.inf for w in _log_weights(state.action, log_q)]
        met, moves = [], []
        for k, t in enumerate(offered.tolist()):
            block, i = self._block(streams, k, t // self.batch), t % self.batch
            moves.append(math.isfinite(block.log_w[i]) and block.log_uniforms[i] < block.log_w[i] - now[k])
            met.append((block.links[i], block.log_q[i], block.action[i]))
        links, new_log_q, action = (
            torch.stack(parts) if len(parts) > 1 else parts[0][None] for parts in zip(*met, strict=True)
        )
        accepted = torch.tensor(moves, device=action.device)
        info = IndependenceInfo(accepted.to(action.dtype), new_log_q, action, accepted)
        if not all(moves):
            links, action = choose(accepted, links, state.links), choose(accepted, action, state.action)
            new_log_q = choose(accepted, new_log_q, log_q)
        return ChainState(links, action, new_log_q, offered + 1), info

    def _block(self, streams: Streams, k: int, number: int) -> ProposalBlock:
        """Proposals number * batch ... of the k-th chain; the latest of each chain are kept."""
        key = streams.key(k)
        kept, block = self._blocks.get(key, (None, None))
        if block is None or kept != number:
            here = {streams.key(j) for j in range(len(streams))}
            self._blocks = {other: value for other, value in self._blocks.items() if other in here}
            block = self._draw(streams, k, number)
            self._blocks[key] = (number, block)
        return block

    @torch.no_grad()
    def _draw(self, streams: Streams, k: int, number: int) -> ProposalBlock:
        generator = streams.fork(k, PROPOSALS, number)
        links, log_q = self.flow.sample(self.batch, generator=generator)
        action = self.action(links)
        uniforms = torch.rand(self.batch, generator=generator, dtype=torch.float64, device=streams.device)
        return ProposalBlock(links, log_q, action, _log_weights(action, log_q), uniforms.log().tolist())


def _log_weights(action: Tensor, log_q: Tensor) -> list[float]:
    return (-action - log_q).double().tolist()
