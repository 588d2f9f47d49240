"""Hybrid Monte Carlo, for any action that has a force."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.config.rules import Positive, Settings, Steps
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_trajectories import available, link_trajectories
from lattice_flows.sampling.base import ChainState, Context, SamplerEntry, choose, count, positive, weights_for
from lattice_flows.sampling.batching import evaluated
from lattice_flows.sampling.tuning import Tunable, gained
from lattice_flows.streams import Streams

LAMBDA = 0.1931833275037836
FIRST_STEPS, LENGTH = 10, 1.0  # before HMC is tuned
LATE = 0.35  # a gain of the windows of tuning that have none or few after them


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


class HMC(Tunable):
    """Molecular dynamics of H = inner(P, P) / 2 + S(x), dx/dt = P, dP/dt = -F, with an accept step at the end.

    For links dx/dt = P stands for dU/dt = P U. Each trajectory begins with `action.refreshed`, which draws auxiliary
    fields where the action has them.

    Args:
        action: S and its force.
        trajectory: the length of a trajectory; each component of P has variance 1.
        steps: the number of steps of a trajectory.
        integrator: `omelyan`, the minimum-norm scheme of second order with two forces a step, or `leapfrog`.
        fixed: whether tuning leaves the steps as they are.
        about: a length from which tuning may move the trajectory, to between 2/3 and 2 of it, because a whole number of
            steps seldom gives the acceptance that is asked for; by default tuning keeps the trajectory.

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
        about: float | None = None,
    ):
        if integrator not in ("omelyan", "leapfrog"):
            raise InvalidInput(f"integrator must be omelyan or leapfrog, got {integrator!r}")
        self.trajectory, self.steps = positive("trajectory", trajectory), count("steps", steps)
        self.action, self.integrator, self.fixed, self.about = action, integrator, fixed, about
        leapfrog = integrator == "leapfrog"
        ends, kicks = (0.5, [1.0]) if leapfrog else (LAMBDA, [1 - 2 * LAMBDA, 2 * LAMBDA])
        step = self.trajectory / steps
        self.drift = step / len(kicks)
        self.kicks = [step * kick for kick in (ends, *(kicks * steps)[:-1], ends)]

    target = 0.8

    @property
    def tuned(self) -> dict[str, float | int]:
        """The steps, unless they are fixed, and the trajectory, if that is tuned, too."""
        if self.fixed:
            return {}
        return {"steps": self.steps} if self.about is None else {"steps": self.steps, "trajectory": self.trajectory}

    @torch.no_grad()
    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, HMCInfo]:
        """Make one trajectory. A change of H that is not finite is never accepted."""
        action, before = self._refreshed(state, streams)
        x, delta, after = self._moved(action, state.x, before, streams)
        accepted = torch.isfinite(delta) & (streams.rand(dtype=torch.float64).log() < -delta)
        new = ChainState(choose(accepted, x, state.x), choose(accepted, after, before), None, state.offered)
        return new, HMCInfo(accepted.to(after.dtype), delta, accepted)

    @torch.no_grad()
    def reversibility(self, state: ChainState, streams: Streams) -> Reversibility:
        """The deviation after a trajectory there and, with turned momenta, back; it should be rounding."""
        action, before = self._refreshed(state, streams)
        momenta = self._momenta(action, state.x, streams)
        x, end = self._integrate(action, state.x, momenta, streams)
        x, end = self._integrate(action, x, -end, streams)
        after = evaluated(action, action, x, streams)
        energy = self._kinetic(end) - self._kinetic(momenta) + (after.double() - before.double())
        return Reversibility(action.space.distance(x, state.x), energy.abs())

    def rate(self, info: HMCInfo) -> Tensor:
        """The probability min(1, exp(-dH))."""
        return info.delta_h.neg().exp().clamp(max=1).where(info.delta_h.isfinite(), 0.0)

    def adapted(self, rate: float, target: float, gain: float) -> "HMC":
        """The fewest steps that should reach the target; with `about`, the nearest number, and their size as well.

        A step of size h has <dH> ~ h^4 and an acceptance of erfc(sqrt(<dH>) / 2), but beyond the edge of stability of
        0. So late windows, with a small gain, take no fewer steps than those that reached the target.

        Source: S. Gupta, A. Irbäck, F. Karsch, B. Petersson, Phys. Lett. B 242 (1990) 437.
        """
        change = (erfc_inv(target) / erfc_inv(rate)) ** 0.5
        if self.about is None:
            most = max(1, int(gain**1.5 * self.steps))  # that the number may change: in the end 1 of 8
            # near the edge of stability the acceptance falls faster, and too few steps are worse than too many
            wanted = math.ceil(self.steps / gained(change, 1 if change < 1 else max(gain, 0.5), 3) - 1e-6)
            if gain < LATE:  # fewer can be unstable, and no window would show it
                wanted = max(wanted, self.steps)
            steps, length = max(1, self.steps - most, min(self.steps + most, wanted)), self.trajectory
        else:
            size = self.trajectory / self.steps * gained(change, gain, 3)
            steps = max(1, round(self.about / size))
            length = min(steps * size, 2 * self.about)
        return HMC(self.action, length, steps, self.integrator, about=self.about)

    def _refreshed(self, state: ChainState, streams: Streams) -> tuple[Action, Tensor]:
        """The action of this trajectory, and its value."""
        action = self.action.refreshed(state.x, streams)
        return action, state.action if action is self.action else evaluated(action, action, state.x, streams)

    def _moved(self, action: Action, x: Tensor, before: Tensor, streams: Streams) -> tuple[Tensor, Tensor, Tensor]:
        """The end of a trajectory, the change of H, and the action of the end."""
        space = action.space
        if (weights := weights_for(available, action, x)) is not None:
            links, extents, calls = space.check(x), space.lattice.extents, streams.advance()
            moved = link_trajectories(links, extents, weights, self.kicks, self.drift, streams.names, calls)
            return moved.links, moved.delta_h, moved.action.to(before.dtype)
        momenta = self._momenta(action, x, streams)
        x, end = self._integrate(action, x, momenta, streams)
        x = space.restore(x)
        after = evaluated(action, action, x, streams)
        return x, self._kinetic(end) - self._kinetic(momenta) + (after.double() - before.double()), after

    def _momenta(self, action: Action, x: Tensor, streams: Streams) -> Tensor:
        return streams.draw(lambda g: action.space.momenta(g, dtype=x.dtype, device=x.device))

    def _kinetic(self, momenta: Tensor) -> Tensor:
        return self.action.space.inner(momenta, momenta) / 2

    def _integrate(self, action: Action, x: Tensor, momenta: Tensor, streams: Streams) -> tuple[Tensor, Tensor]:
        for kick in self.kicks[:-1]:
            momenta = momenta - kick * evaluated(action, action.force, x, streams)
            x = action.space.move(x, self.drift * momenta)
        return x, momenta - self.kicks[-1] * evaluated(action, action.force, x, streams)


def erfc_inv(p: float) -> float:
    """The x of erfc(x) = p, for p cut to .001 ... .999."""
    return -NormalDist().inv_cdf(min(max(p, 1e-3), 0.999) / 2) / 2**0.5


@dataclass(frozen=True, kw_only=True)
class HMCSettings(Settings):
    """Trajectories of HMC, also in latent fields: their length (None: about 1), and their steps (0: tuned)."""

    trajectory: Positive | None = None
    hmc_steps: Steps = 0


def hmc_of(action: Action, settings: HMCSettings, context: Context) -> HMC:
    """The HMC of settings, with the tuned numbers of an earlier run if there are any."""
    if settings.hmc_steps:
        return HMC(action, settings.trajectory or LENGTH, settings.hmc_steps, fixed=True)
    steps, length = int(context.tuned.get("steps", FIRST_STEPS)), context.tuned.get("trajectory", LENGTH)
    about = LENGTH if settings.trajectory is None else None
    return HMC(action, settings.trajectory or length, steps, about=about)


HMC_ENTRY = SamplerEntry("HMC", HMCSettings, hmc_of)
