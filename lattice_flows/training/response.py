"""The linear response of thermalised chains to their coupling: it fits stochastic flows, and predicts their weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.operators import WeightedSum
from lattice_flows.sampling import Sampler, Streams
from lattice_flows.sampling.stochastic_flow import check_rising
from lattice_flows.statistics.series import Array
from lattice_flows.training.transport import WINDOW, TransportFit, transport_fit

KNOTS, SWEEPS, STAGES = 5, 20, 4 * WINDOW
"""The couplings of the fits; the updates from one to the next; and the updates that each of them measures."""
GRID = 1000
"""The number of intervals of integrals over the coupling."""


@dataclass(frozen=True)
class Response:
    """What carries chains from a coupling to a near one, and what it dissipates, at some couplings between two ends.

    A stage from beta to beta + d dissipates d^2 w(beta), so that n stages of equal work dissipate
    (integral of sqrt(w) d beta)^2 / n together. The effective sample size is then exp(-2 W), as log w is nearly normal.

    Source: G. E. Crooks, Phys. Rev. Lett. 99 (2007) 100602, for schedules of equal work; J. Hermans, J. Chem. Phys. 95
    (1991) 9029, for the work of linear response.

    Example:
        >>> flat = Response(torch.tensor([1.0, 2.0]), torch.zeros(2, 1), torch.ones(2, 3))
        >>> flat.schedule(4).tolist(), flat.work(4), flat.parts[:, 0].tolist()
        ([1.0, 1.25, 1.5, 1.75, 2.0], 0.25, [1.0, 1.0])
    """

    betas: Tensor
    """`(knots,)` float64, rising."""
    velocities: Tensor
    """`(knots, n)` float64: the coefficients of operators in a stage, by the change of beta."""
    parts: Tensor
    """`(knots, 3)` float64: the variance of dS/dbeta; the share that is left; its autocorrelation time in stages."""

    @classmethod
    def of(cls, betas: Sequence[float], fits: Sequence[TransportFit]) -> "Response":
        """The response from fits of stages from each coupling to one that is larger by `increase(betas)`."""
        change = increase(betas)
        return cls(
            torch.tensor(betas, dtype=torch.float64),
            torch.stack([fit.coefficients.cpu() / change for fit in fits]),
            torch.tensor([(fit.variance / change**2, fit.left, fit.tau_int) for fit in fits], dtype=torch.float64),
        )

    def scaled(self, factor: float) -> "Response":
        """The response of a lattice whose volume is larger by this factor: the variance grows with it."""
        return replace(self, parts=self.parts * torch.tensor([factor, 1.0, 1.0], dtype=torch.float64))

    def schedule(self, stages: int) -> Tensor:
        """The couplings `(stages + 1,)` from the first to the last one, between which stages dissipate the same."""
        grid, length = self._lengths()
        found = torch.from_numpy(np.interp(np.linspace(0, length[-1], stages + 1), length, grid))
        found[0], found[-1] = self.betas[0], self.betas[-1]  # exactly
        return found

    def coefficients(self, betas: Tensor) -> Tensor:
        """The coefficients `(stages, n)` of layers between couplings `(stages + 1,)`, from the middle of each stage."""
        middle = ((betas[1:] + betas[:-1]) / 2).numpy()
        own = [np.interp(middle, self.betas.numpy(), column) for column in self.velocities.T.numpy()]
        columns = torch.from_numpy(np.array(own).reshape(len(own), len(middle)).T)
        return betas.diff().unsqueeze(-1) * columns

    def work(self, stages: int) -> float:
        """The dissipated work W of all stages."""
        return float(self._lengths()[1][-1] ** 2 / stages)

    def _lengths(self) -> tuple[Array, Array]:
        """Couplings, and the integral of sqrt(w) up to each of them."""
        betas = self.betas.numpy()
        grid = np.linspace(betas[0], betas[-1], GRID + 1)
        roots = np.interp(grid, betas, self.parts.prod(1).sqrt().numpy())
        steps = (roots[1:] + roots[:-1]) / 2 * np.diff(grid)
        return grid, np.concatenate([[0.0], np.cumsum(steps)])


def increase(betas: Sequence[float]) -> float:
    """The change of beta in the stages of the fits at these couplings."""
    return (betas[-1] - betas[0]) / max(1, len(betas) - 1)


def fit_couplings(first: float, action: Action, knots: int = KNOTS) -> list[float]:
    """The couplings of fits, at equal distances from the first one to that of the action; errors as `check_rising`."""
    last = check_rising(action, [first])
    return [*np.linspace(first, last, knots)[:-1].tolist(), last]


@torch.no_grad()
def fits_along(
    action: Action,
    betas: Sequence[float],
    sampler: Callable[[Action], Sampler],
    operators: Sequence[WeightedSum],
    x: Tensor,
    streams: Streams,
    *,
    sweeps: int = SWEEPS,
    stages: int = STAGES,
) -> Iterator[TransportFit]:
    """Carry chains through some couplings, and yield a fit at each, for `Response.of`.

    Shapes: x `(chains, *shape)`, thermalised at the first coupling.

    Args:
        sampler: makes the updates at a coupling, from the action there.
        sweeps: the updates at each coupling but the first, before those that are measured.
        stages: the number of these.

    Raises:
        InvalidInput: as `transport_fit`.
    """
    for k, beta in enumerate(betas):
        own = sampler(action.at(beta))
        state = own.init(x)
        for _ in range(sweeps if k else 0):
            state, _ = own.step(state, streams)
        x = state.x
        yield transport_fit(operators, own, action.at(beta + increase(betas)), x, streams, stages=stages)
