"""Hybrid Monte Carlo, for any action that has a force."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action, LoopAction
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.sampling.base import ChainState, choose, own_mean, restore, stand_at
from lattice_flows.sampling.maps import mapped
from lattice_flows.streams import Streams

LAMBDA = 0.1931833275037836
RUNS = 10  # trajectories of a short run
MOST_STEPS = 4096  # that tuning tries


class HMCInfo(NamedTuple):
    """What happened on a trajectory, for each chain `(chains,)`."""

    acceptance: Tensor
    """1 where the end was accepted, 0 elsewhere."""
    delta_h: Tensor
    """The change of H = inner(P, P) / 2 + S, float64."""
    accepted: Tensor
    """bool."""


class Reversibility(NamedTuple):
    """How far, for each chain `(chains,)`, a trajectory there and back ends from where it began."""

    links: Tensor
    """The largest deviation of an element of a link."""
    energy: Tensor
    """|H - H'|."""


class HMC:
    """Molecular dynamics of H = inner(P, P) / 2 + S(U), dU/dt = P U, dP/dt = -F, with an accept step at the end.

    Args:
        action: S and its force.
        trajectory: the length of a trajectory, in units in which inner(P, P) has mean 1 for each generator.
        steps: how many steps a trajectory has.
        integrator: `omelyan`, the minimum-norm scheme of second order with two forces a step, or `leapfrog`.

    Raises:
        InvalidInput: a length that is not > 0, fewer than one step, or another integrator.

    Source: S. Duane et al., Phys. Lett. B 195 (1987) 216; I. P. Omelyan, I. M. Mryglod, R. Folk, Comput. Phys. Commun.
    151 (2003) 272.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.sampling import Streams, start
        >>> streams, sampler = Streams(seed=1, chains=2), HMC(Wilson(SU(2), beta=2.0), steps=10)
        >>> state = sampler.init(start(SU(2), (4, 4), streams))
        >>> state, info = sampler.step(state, streams)
        >>> bool((info.delta_h.abs() < 0.5).all())
        True
    """

    def __init__(
        self,
        action: Action,
        trajectory: float = 1.0,
        steps: int = 10,
        integrator: Literal["omelyan", "leapfrog"] = "omelyan",
    ):
        if not (math.isfinite(trajectory) and trajectory > 0):
            raise InvalidInput(f"trajectory must be a finite length > 0, got {trajectory}")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise InvalidInput(f"steps must be an integer >= 1, got {steps!r}")
        if integrator not in ("omelyan", "leapfrog"):
            raise InvalidInput(f"integrator must be omelyan or leapfrog, got {integrator!r}")
        self.action, self.trajectory, self.steps, self.integrator = action, float(trajectory), steps, integrator
        step = self.trajectory / steps
        if integrator == "leapfrog":
            self.drift, kicks = step, [1.0]
            ends = 0.5
        else:
            self.drift, kicks = step / 2, [1 - 2 * LAMBDA, 2 * LAMBDA]
            ends = LAMBDA
        self.kicks = [step * kick for kick in (ends, *(kicks * steps)[:-1], ends)]

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`."""
        return stand_at(links, self.action)

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, HMCInfo]:
        """One trajectory. A change of H that is not finite is never accepted."""
        momenta = self._momenta(state.links, streams)
        links, end = self._integrate(state.links, momenta, streams)
        links = restore(links, self.action.group)
        action = self._evaluate(self.action, links, streams)
        delta = self._kinetic(end) - self._kinetic(momenta) + (action.double() - state.action.double())
        accepted = torch.isfinite(delta) & (streams.rand(dtype=torch.float64).log() < -delta)
        new = ChainState(
            choose(accepted, links, state.links), choose(accepted, action, state.action), None, state.offered
        )
        return new, HMCInfo(accepted.to(action.dtype), delta, accepted)

    @torch.no_grad()
    def reversibility(self, state: ChainState, streams: Streams) -> Reversibility:
        """A trajectory, momenta turned round, and the same trajectory back: what is left is rounding."""
        group = self.action.group
        momenta = self._momenta(state.links, streams)
        links, end = self._integrate(state.links, momenta, streams)
        links, end = self._integrate(links, -end, streams)
        away = links - state.links if group.element_shape else group.compose(links, group.inverse(state.links))
        action = self._evaluate(self.action, links, streams)
        energy = self._kinetic(end) - self._kinetic(momenta) + (action.double() - state.action.double())
        return Reversibility(away.abs().flatten(1).amax(1), energy.abs())

    def tune(
        self, state: ChainState, streams: Streams, target: float = 0.8, mean: Callable[[Tensor], float] = own_mean
    ) -> "HMC":
        """The same trajectories in the fewest steps with which an acceptance of `target` is reached, by short runs.

        Args:
            state: of chains in equilibrium; they are left where they are.
            mean: over all chains of numbers `(chains,)`, where these are only some of them.

        Raises:
            InvalidInput: the target is not between 0 and 1.
            NumericalFailure: no number of steps reaches it.
        """
        if not 0 < target < 1:
            raise InvalidInput(f"target must be an acceptance between 0 and 1, got {target}")

        def reaches(steps: int) -> bool:
            sampler, rate, now = HMC(self.action, self.trajectory, steps, self.integrator), 0.0, state
            for _ in range(RUNS):
                now, info = sampler.step(now, streams)
                rate += mean(info.delta_h.neg().exp().clamp(max=1).nan_to_num(0)) / RUNS
            return rate >= target

        too_few, enough = 0, self.steps
        while not reaches(enough):
            too_few, enough = enough, 2 * enough
            if enough > MOST_STEPS:
                raise NumericalFailure(
                    f"HMC: no acceptance of {target} in {too_few} steps a trajectory: is the force that of the action?"
                )
        while enough - too_few > 1:
            steps = (too_few + enough) // 2
            too_few, enough = (too_few, steps) if reaches(steps) else (steps, enough)
        return HMC(self.action, self.trajectory, enough, self.integrator)

    def _momenta(self, links: Tensor, streams: Streams) -> Tensor:
        group = self.action.group
        shape = links.shape[1 : links.ndim - len(group.element_shape)]
        return streams.draw(lambda g: group.random_algebra(*shape, generator=g, dtype=links.dtype, device=links.device))

    def _kinetic(self, momenta: Tensor) -> Tensor:
        return self.action.group.inner(momenta, momenta).double().flatten(1).sum(1) / 2

    def _integrate(self, links: Tensor, momenta: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        group = self.action.group
        for kick in self.kicks[:-1]:
            momenta = momenta - kick * self._evaluate(self.action.force, links, streams)
            links = group.compose(group.exp(self.drift * momenta), links)
        return links, momenta - self.kicks[-1] * self._evaluate(self.action.force, links, streams)

    def _evaluate(self, function, links: Tensor, streams: Streams) -> Tensor:
        """A function of the action for all chains: at once where no digit depends on neighbours, else in blocks."""
        if isinstance(self.action, LoopAction):
            return function(links)
        return mapped(function, links, streams)
