"""Fits of the velocity that carries thermalised chains from one action to a near one, between Monte Carlo updates."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.operators import WeightedSum, vector_field
from lattice_flows.sampling import Sampler, Streams
from lattice_flows.statistics import estimate
from lattice_flows.statistics.control_variates import PER_COEFFICIENT, fitted, halves_of
from lattice_flows.statistics.series import Array

WINDOW = 8
"""The number of stages over which a fit averages."""


class TransportFit(NamedTuple):
    """The coefficients of a stage, and what they leave of log w."""

    coefficients: Tensor
    """`(n,)` float64: the stage moves links along sum_i c_i F_i from time 0 to 1."""
    left: float
    """1 - R^2: the share of the variance of S_1 - S_0 that is left, of configurations that the fit has not seen."""
    variance: float
    """That of S_1 - S_0."""
    tau_int: float
    """The integrated autocorrelation time, in stages, of what is left."""

    @property
    def work(self) -> float:
        """The dissipated work that the stage adds to a long row of its like, half the variance that it adds to log w.

        Of all stages together it predicts the effective sample size, exp(-2 W).

        Source: J. Hermans, J. Phys. Chem. 95 (1991) 9029, for work and variance near equilibrium.
        """
        return self.variance * self.left * self.tau_int


@torch.no_grad()
def transport_fit(
    operators: Sequence[WeightedSum],
    sampler: Sampler,
    end: Action,
    x: Tensor,
    streams: Streams,
    *,
    stages: int = 64,
    window: int = WINDOW,
) -> TransportFit:
    """Fit a velocity sum_i c_i F_i, of the forces of operators W_i, that carries exp(-S_0) to exp(-S_1).

    It does so to first order if r = S_1 - S_0 - sum_i c_i (Lap W_i - dS_0.dW_i) does not depend on the configuration.
    Stages that follow each other add up their r, so that their mean over a window is to vary little. In a stage with
    another distance between actions that are linear in a coupling the coefficients are in proportion.

    Shapes: x `(chains, *shape)`, thermalised.

    Args:
        operators: such as `production(group, dim)`; none for the work without a flow.
        sampler: the updates of a stage, such as a `Cycle`, with the action S_0.
        end: S_1.
        stages: the number of updates, with a measurement before each.
        window: the number of stages over which the fit averages.

    Raises:
        InvalidInput: fewer stages than two windows, or too few windows for so many coefficients.

    Source: M. Luscher, 0907.5491, section 2, for the condition.

    Example:
        >>> from lattice_flows import SU, GaugeField, actions, sampling
        >>> from lattice_flows.operators import production
        >>> space, streams = GaugeField(SU(2), (8, 8)), Streams(seed=1, chains=8)
        >>> sampler = sampling.HeatBath(actions.Wilson(space, beta=2.0))
        >>> x = sampling.start(space, streams, dtype=torch.float64)
        >>> for _ in range(20):
        ...     x = sampler.step(sampler.init(x), streams)[0].x
        >>> fit = transport_fit(production(SU(2), 2), sampler, sampler.action.at(2.1), x, streams)
        >>> fit.coefficients.shape, fit.left < 0.2
        (torch.Size([2]), True)
    """
    _check_enough(len(operators), len(x), stages, window)
    found = _series(operators, sampler, end, x, streams, stages)
    change, zeros = found[..., 0], found[..., 1:]

    def coefficients(part: slice) -> Array:
        own = found[:, part]
        means = own[:, : own.shape[1] // window * window].reshape(-1, window, own.shape[-1]).mean(1)
        return fitted(means[:, 0], means[:, 1:])

    rest, (first, second) = change.copy(), halves_of(list(change))[0]
    for half, other in ((first, second), (second, first)):
        rest[:, other] -= zeros[:, other] @ coefficients(half)
    return TransportFit(
        coefficients=torch.from_numpy(coefficients(slice(None))).to(x.device),
        left=float(rest.var() / change.var()),
        variance=float(change.var()),
        tau_int=estimate(rest).tau_int,
    )


def _series(
    operators: Sequence[WeightedSum], sampler: Sampler, end: Action, x: Tensor, streams: Streams, stages: int
) -> Array:
    """S_1 - S_0 and Lap W_i - dS_0.dW_i before each update, `(chains, stages, 1 + n)`."""
    space, state, found = sampler.action.space, sampler.init(x), []
    for _ in range(stages):
        x = state.x
        force, own = sampler.action.force(x), [(end(x) - state.action).double()]
        for operator in operators:  # each in a call of its own, as a plaquette needs little time
            field = vector_field((operator,), (1.0,), x)
            own.append(field.divergence - space.inner(force, field.force))
        found.append(torch.stack(own, -1))
        state, _ = sampler.step(state, streams)
    return torch.stack(found, 1).cpu().numpy()


def _check_enough(n: int, chains: int, stages: int, window: int) -> None:
    """Raise InvalidInput if there are too few windows in a half of the chains."""
    if window < 1 or stages < 2 * window:
        raise InvalidInput(f"a fit needs stages >= 2 windows of {window}, for both halves of the chains, got {stages}")
    if (windows := chains * (stages // 2 // window)) < PER_COEFFICIENT * n:
        raise InvalidInput(
            f"{n} coefficients need {PER_COEFFICIENT * n} windows in each half of the chains, got {windows} of "
            f"{window} stages: make more chains or stages"
        )
