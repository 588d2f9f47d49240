"""Markov chains in the latent links of a flow: field-transformed HMC."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.sampling.base import ChainState, Sampler, choose, stand_at
from lattice_flows.sampling.hmc import HMC
from lattice_flows.sampling.maps import Map, mapped
from lattice_flows.streams import Streams


class TransformedAction(Action):
    """The action of latent links z whose images f(z) have the density exp(-S): S(f(z)) - log|df/dz|.

    Source: M. Lüscher, 0907.5491.

    Args:
        transform: f, any transform or flow.
        action: S.

    Example:
        >>> from lattice_flows import U1, flows
        >>> from lattice_flows.actions import Wilson
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, seed=0)
        >>> latent = TransformedAction(flow, Wilson(U1(), beta=2.0))
        >>> latent.force(U1().identity(3, 2, 4, 4)).shape
        torch.Size([3, 2, 4, 4])
    """

    def __init__(self, transform: Map, action: Action):
        super().__init__(action.group, action.beta)
        self.transform, self.action = transform, action

    def forward(self, links: Tensor) -> Tensor:
        image, logdet = self.transform(links)
        return self.action(image) - logdet


class Transformed:
    """A step of another sampler, by default HMC, taken by the latent links z = f^-1(U) of the links U.

    The chain stands at links, as others do, and leaves exp(-S) invariant for every f. Where f is a good flow, its
    latent links hardly interact, and HMC decorrelates them fast.

    Args:
        transform: f, any transform or flow.
        action: S.
        sampler: makes the sampler of the latent links from their action.

    Source: M. Lüscher, 0907.5491; S. Foreman et al., 2112.01582.

    Example:
        >>> from lattice_flows import U1, flows
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.sampling import start
        >>> flow, streams = flows.stripes(U1(), (4, 4), layers=4, seed=0), Streams(seed=0, chains=2)
        >>> sampler = Transformed(flow, Wilson(U1(), beta=2.0), lambda action: HMC(action, steps=6))
        >>> state, info = sampler.step(sampler.init(start(U1(), (4, 4), streams)), streams)
        >>> bool((info.delta_h.abs() < 0.5).all())
        True
    """

    def __init__(self, transform: Map, action: Action, sampler: Callable[[Action], Sampler] = HMC):
        self.transform, self.action = transform, action
        self.latent = sampler(TransformedAction(transform, action))

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`."""
        return stand_at(links, self.action)

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, Any]:
        """One step of the latent links, with what their sampler says of it. Where they rest, links keep every digit."""
        z, logdet = mapped(self.transform.inverse, state.links, streams)
        latent, info = self.latent.step(ChainState(z, state.action + logdet), streams)
        moved = (latent.links != z).flatten(1).any(1)
        links, _ = mapped(self.transform, latent.links, streams)
        links = choose(moved, links, state.links)
        return ChainState(links, stand_at(links, self.action).action, None, state.offered), info
