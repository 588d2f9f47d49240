"""Independence Metropolis: flow samples as proposals of an exact Markov chain."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.sampling.base import ChainState


class Proposals(NamedTuple):
    """A batch of proposals, in the order in which the chain met them."""

    links: Tensor
    """`(batch, dim, *sites, *element)`."""
    log_q: Tensor
    """`(batch,)`."""
    action: Tensor
    """`(batch,)`."""
    accepted: Tensor
    """`(batch,)` bool."""


class IndependenceMetropolis:
    """The chain that moves to a flow sample with probability min(1, w' / w), log w = -S - log q.

    It is exact for every flow: the quality of the flow decides how often it moves. The first state is the first
    proposal, which has nothing to be compared with.

    Args:
        flow: draws the proposals.
        action: links -> `(*batch,)`.
        batch: how many proposals are drawn at a time, and how many updates one step makes.

    Source: L. Tierney, Ann. Statist. 22 (1994) 1701; M. S. Albergo et al., 1904.12072.

    Example:
        >>> import torch
        >>> from lattice_flows import U1, flows
        >>> from lattice_flows.actions import Wilson
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, hidden=(4,), seed=0)
        >>> sampler = IndependenceMetropolis(flow, Wilson(U1(), beta=0.5), batch=100)
        >>> generator = torch.Generator().manual_seed(0)
        >>> state = sampler.init(generator)
        >>> state, proposals = sampler.step(state, generator)
        >>> state.links.shape, proposals.accepted.shape
        (torch.Size([2, 4, 4]), torch.Size([100]))
    """

    def __init__(self, flow: Flow, action: ActionLike, batch: int):
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise InvalidInput(f"batch must be an integer >= 1, got {batch!r}")
        self.flow = flow
        self.action = action
        self.batch = batch

    def init(self, generator: torch.Generator) -> ChainState:
        """The first state of a chain: one sample of the flow."""
        links, log_q = self.flow.sample(1, generator=generator)
        return ChainState(links[0], log_q[0], self.action(links)[0])

    @torch.no_grad()
    def step(self, state: ChainState, generator: torch.Generator) -> tuple[ChainState, Proposals]:
        """`batch` updates. A proposal whose weight is not finite is never accepted."""
        links, log_q = self.flow.sample(self.batch, generator=generator)
        action = self.action(links)
        accepted = accept(
            (-state.action - state.log_q).item(),
            -action - log_q,
            torch.rand(self.batch, generator=generator, dtype=torch.float64, device=generator.device),
        )
        last = accepted.nonzero()
        if len(last):
            index = int(last[-1])
            state = ChainState(links[index], log_q[index], action[index])
        return state, Proposals(links, log_q, action, accepted)


def accept(current: float, log_w: Tensor, uniform: Tensor) -> Tensor:
    """Run the Metropolis test through proposals in order: which of them, bool `(n,)`, the chain moves to.

    Args:
        current: log w of the state before the first proposal; if it is not finite, any proposal wins.
        log_w: `(n,)`.
        uniform: `(n,)` independent numbers in [0, 1).

    Example:
        >>> accept(0.0, torch.tensor([1.0, -5.0, 2.0]), torch.tensor([0.9, 0.5, 0.9])).tolist()
        [True, False, True]
    """
    if not math.isfinite(current):
        current = -math.inf
    accepted = []
    thresholds = uniform.double().log().tolist()
    for proposed, threshold in zip(log_w.double().tolist(), thresholds, strict=True):
        accepted.append(math.isfinite(proposed) and threshold < proposed - current)
        if accepted[-1]:
            current = proposed
    return torch.tensor(accepted, dtype=torch.bool, device=log_w.device)
