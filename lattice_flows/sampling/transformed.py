"""Markov chains in the latent fields of a flow: field-transformed HMC."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.sampling.base import ChainState, Context, Sampler, SamplerEntry, choose, own_mean, stand_at
from lattice_flows.sampling.batching import Map, mapped
from lattice_flows.sampling.hmc import HMC, HMCSettings, hmc_of
from lattice_flows.streams import Streams


class TransformedAction(Action):
    """The action of latent z whose images f(z) have the density exp(-S): S(f(z)) - log|df/dz|.

    The map f is any transform or flow. Source: M. Luscher, 0907.5491.

    Example:
        >>> from lattice_flows import U1, actions, flows
        >>> flow = flows.stripes(U1(), (4, 4), layers=4, seed=0)
        >>> latent = TransformedAction(flow, actions.Wilson(flow.space, beta=2.0))
        >>> latent.force(latent.space.cold(3)).shape
        torch.Size([3, 2, 4, 4])
    """

    def __init__(self, transform: Map, action: Action):
        super().__init__(action.space)
        self.transform, self.action, self.beta = transform, action, action.beta

    def forward(self, x: Tensor) -> Tensor:
        image, logdet = self.transform(x)
        return self.action(image) - logdet

    def at(self, beta: float) -> "TransformedAction":
        return TransformedAction(self.transform, self.action.at(beta))

    def on(self, lattice: Any) -> "TransformedAction":
        """The same action on another lattice; the transform is a flow that has an `on`."""
        transform: Any = self.transform
        return TransformedAction(transform.on(lattice), self.action.on(lattice))

    def refreshed(self, x: Tensor, streams: Streams) -> "TransformedAction":
        if type(self.action).refreshed is Action.refreshed:  # without auxiliary fields the image is not needed
            return self
        image, _ = mapped(self.transform, x, streams)
        return TransformedAction(self.transform, self.action.refreshed(image, streams))


class Transformed(Sampler):
    """A step of another sampler, by default HMC, that moves the latent z = f^-1(x).

    The chain stands at x and leaves exp(-S) invariant for every f. The latent fields of a good flow hardly interact:
    HMC decorrelates them fast.

    Args:
        transform: f, any transform or flow.
        action: S.
        sampler: a function from the action of z to its sampler.

    Source: M. Luscher, 0907.5491; S. Foreman et al., 2112.01582.

    Example:
        >>> from lattice_flows import U1, actions, flows, sampling
        >>> flow, streams = flows.stripes(U1(), (4, 4), layers=4, seed=0), sampling.Streams(seed=0, chains=2)
        >>> sampler = Transformed(flow, actions.Wilson(flow.space, beta=2.0), lambda latent: HMC(latent, steps=6))
        >>> state, info = sampler.step(sampler.init(sampling.start(flow.space, streams)), streams)
        >>> bool((info.delta_h.abs() < 0.5).all())
        True
    """

    def __init__(self, transform: Map, action: Action, sampler: Callable[[Action], Sampler] = HMC):
        self.transform, self.action = transform, action
        self.latent: Any = sampler(TransformedAction(transform, action))

    @property
    def tuned(self) -> dict[str, float | int]:
        """The tuned numbers of the sampler of z."""
        return getattr(self.latent, "tuned", {})

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, Any]:
        """Take one step of z, with the info of its sampler; x keeps every digit where z rests."""
        before = self._latent(state, streams)
        latent, info = self.latent.step(before, streams)
        moved = (latent.x != before.x).flatten(1).any(1)
        x, _ = mapped(self.transform, latent.x, streams)
        x = choose(moved, x, state.x)
        return ChainState(x, stand_at(x, self.action).action, None, state.offered), info

    @torch.no_grad()
    def tune(
        self, state: ChainState, streams: Streams, mean: Callable[[Tensor], float] = own_mean, **settings: float
    ) -> "Transformed":
        """The same steps with the sampler of z tuned, if it tunes itself; see `HMC.tune`.

        Its own `tune` takes the settings, such as `target`.
        """
        other = copy.copy(self)
        if hasattr(self.latent, "tune"):
            other.latent = self.latent.tune(self._latent(state, streams), streams, mean=mean, **settings)
        return other

    def _latent(self, state: ChainState, streams: Streams) -> ChainState:
        z, logdet = mapped(self.transform.inverse, state.x, streams)
        return ChainState(z, state.action + logdet)


def _build(action: Action, settings: HMCSettings, context: Context) -> Transformed:
    return Transformed(context.flow_for("transformed"), action, lambda latent: hmc_of(latent, settings, context))


TRANSFORMED = SamplerEntry("field-transformed HMC", HMCSettings, _build, uses_flow=True)
