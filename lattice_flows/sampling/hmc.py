"""Hybrid Monte Carlo, for any action that has a force."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import Positive, Settings, Steps
from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.sampling.base import ChainState, Context, Sampler, SamplerEntry, choose, count, own_mean, positive
from lattice_flows.sampling.batching import evaluated
from lattice_flows.streams import Streams

LAMBDA = 0.1931833275037836
RUNS = 10  # trajectories of a short run
MOST_STEPS = 4096  # that tuning tries
FIRST_STEPS = 10  # before HMC is tuned


class HMCInfo(NamedTuple):
    """The outcome of a trajectory for each chain, all `(chains,)`.

    `accepted` is bool, and `acceptance` 1 or 0; `delta_h` is the change of H = inner(P, P) / 2 + S, float64.
    """

    acceptance: Tensor
    delta_h: Tensor
    accepted: Tensor


class Reversibility(NamedTuple):
    """The deviation of each chain `(chains,)` after a trajectory there and back: `Space.distance` and |H - H'|."""

    distance: Tensor
    energy: Tensor


class HMC(Sampler):
    """Molecular dynamics of H = inner(P, P) / 2 + S(x), dx/dt = P, dP/dt = -F, with an accept step at the end.

    For links dx/dt = P stands for dU/dt = P U. Each trajectory begins with `action.refreshed`, which draws auxiliary
    fields where the action has them.

    Args:
        action: S and its force.
        trajectory: the length of a trajectory; each component of P has variance 1.
        steps: the number of steps of a trajectory.
        integrator: `omelyan`, the minimum-norm scheme of second order with two forces a step, or `leapfrog`.
        fixed: whether `tune` leaves the steps as they are.

    Raises:
        InvalidInput: the length is not > 0, steps < 1, or another integrator.

    Source: S. Duane et al., Phys. Lett. B 195 (1987) 216; I. P. Omelyan, I. M. Mryglod, R. Folk, Comput. Phys. Commun.
    151 (2003) 272.

    Example:
        >>> from lattice_flows import SU, GaugeField, actions, sampling
        >>> action, streams = actions.Wilson(GaugeField(SU(2), (4, 4)), beta=2.0), sampling.Streams(seed=1, chains=2)
        >>> sampler = HMC(action, steps=10)
        >>> state, info = sampler.step(sampler.init(sampling.start(action.space, streams)), streams)
        >>> bool((info.delta_h.abs() < 0.5).all())
        True
    """

    def __init__(
        self,
        action: Action,
        trajectory: float = 1.0,
        steps: int = 10,
        integrator: Literal["omelyan", "leapfrog"] = "omelyan",
        *,
        fixed: bool = False,
    ):
        if integrator not in ("omelyan", "leapfrog"):
            raise InvalidInput(f"integrator must be omelyan or leapfrog, got {integrator!r}")
        self.trajectory, self.steps = positive("trajectory", trajectory), count("steps", steps)
        self.action, self.integrator, self.fixed = action, integrator, fixed
        leapfrog = integrator == "leapfrog"
        ends, kicks = (0.5, [1.0]) if leapfrog else (LAMBDA, [1 - 2 * LAMBDA, 2 * LAMBDA])
        step = self.trajectory / steps
        self.drift = step / len(kicks)
        self.kicks = [step * kick for kick in (ends, *(kicks * steps)[:-1], ends)]

    @property
    def tuned(self) -> dict[str, float | int]:
        """The steps, unless they are fixed."""
        return {} if self.fixed else {"steps": self.steps}

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, HMCInfo]:
        """Make one trajectory. A change of H that is not finite is never accepted."""
        action, before, momenta = self._begin(state, streams)
        x, end = self._integrate(action, state.x, momenta, streams)
        x = action.space.restore(x)
        after = evaluated(action, action, x, streams)
        delta = self._kinetic(end) - self._kinetic(momenta) + (after.double() - before.double())
        accepted = torch.isfinite(delta) & (streams.rand(dtype=torch.float64).log() < -delta)
        new = ChainState(choose(accepted, x, state.x), choose(accepted, after, before), None, state.offered)
        return new, HMCInfo(accepted.to(after.dtype), delta, accepted)

    @torch.no_grad()
    def reversibility(self, state: ChainState, streams: Streams) -> Reversibility:
        """The deviation after a trajectory there and, with turned momenta, back; it should be rounding."""
        action, before, momenta = self._begin(state, streams)
        x, end = self._integrate(action, state.x, momenta, streams)
        x, end = self._integrate(action, x, -end, streams)
        after = evaluated(action, action, x, streams)
        energy = self._kinetic(end) - self._kinetic(momenta) + (after.double() - before.double())
        return Reversibility(action.space.distance(x, state.x), energy.abs())

    def tune(
        self, state: ChainState, streams: Streams, target: float = 0.8, mean: Callable[[Tensor], float] = own_mean
    ) -> "HMC":
        """The same trajectories in the fewest steps that reach an acceptance of `target`, by short runs.

        Args:
            state: of chains in equilibrium, which stay where they are.
            mean: the mean of numbers `(chains,)` over all chains, also those elsewhere.

        Raises:
            InvalidInput: the target is not between 0 and 1.
            NumericalFailure: no number of steps reaches it.
        """
        if not 0 < target < 1:
            raise InvalidInput(f"target must be an acceptance between 0 and 1, got {target}")
        if self.fixed:
            return self

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

    def _begin(self, state: ChainState, streams: Streams) -> tuple[Action, Tensor, Tensor]:
        """The action of this trajectory, its value, and new momenta."""
        x, action = state.x, self.action.refreshed(state.x, streams)
        value = state.action if action is self.action else evaluated(action, action, x, streams)
        return action, value, streams.draw(lambda g: action.space.momenta(g, dtype=x.dtype, device=x.device))

    def _kinetic(self, momenta: Tensor) -> Tensor:
        return self.action.space.inner(momenta, momenta) / 2

    def _integrate(self, action: Action, x: Tensor, momenta: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        for kick in self.kicks[:-1]:
            momenta = momenta - kick * evaluated(action, action.force, x, streams)
            x = action.space.move(x, self.drift * momenta)
        return x, momenta - self.kicks[-1] * evaluated(action, action.force, x, streams)


@dataclass(frozen=True, kw_only=True)
class HMCSettings(Settings):
    """Trajectories of HMC, also in latent fields: their length, and their steps (0: tuned)."""

    trajectory: Positive = 1.0
    hmc_steps: Steps = 0


def hmc_of(action: Action, settings: HMCSettings, context: Context) -> HMC:
    """The HMC of settings, with the tuned steps of an earlier run if there are any."""
    steps = settings.hmc_steps or int(context.tuned.get("steps", FIRST_STEPS))
    return HMC(action, settings.trajectory, steps, fixed=settings.hmc_steps > 0)


HMC_ENTRY = SamplerEntry("HMC", HMCSettings, hmc_of)
