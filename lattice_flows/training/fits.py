"""Fits of gradient flows to a path of densities: linear, without a derivative of the flow."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.layers.gradient_flow import GradientFlow
from lattice_flows.operators.production import WeightedSum, derivatives
from lattice_flows.sampling import HeatBath, OverRelaxation, Streams, start
from lattice_flows.statistics.control_variates import LEAST, fitted

STEPS = (1e-4, 1e-3, 1e-2, 1e-1)
"""`least` of the fits that a step of Gauss and Newton tries: where little varies, a linear fit goes too far."""
SHIFT = 1e-3
"""The change of a coefficient for a derivative by it."""
BATCH = 32
"""The number of configurations that are evaluated at a time."""


class Fit(NamedTuple):
    """The solution of a linear fit."""

    coefficients: Tensor
    """`(n,)`, float64."""
    left: float
    """The share of the variance that the fit leaves, 1 - R^2."""


def regression(x: Tensor, y: Tensor, least: float = LEAST) -> Fit:
    """Find c that minimises the variance of y - x c, as `fitted` of control variates does.

    Shapes: x `(samples, n)`, y `(samples,)`, float64.
    """
    c = torch.from_numpy(fitted(y.cpu().numpy(), x.cpu().numpy(), least)).to(x.device)
    return Fit(c, float((y - x @ c).var() / y.var()))


@torch.no_grad()
def zeros_along_path(
    operators: Sequence[WeightedSum], path: Callable[[float], Action], t: float, streams: Streams, sweeps: int
) -> tuple[Tensor, Tensor]:
    """Lap W_i - dS_t.dW_i and dS/dt in chains of exp(-S_t), where S_t = S_0 + t (S_1 - S_0).

    The field of sum_i c_i W_i carries these densities if sum_i c_i (Lap W_i - dS_t.dW_i) - dS/dt does not depend on the
    configuration: fit the second result by the first. Chains begin hot, and make sweeps of heat bath and
    over-relaxation; at S_t = 0 they need none.

    Shapes: `(chains, n)` and `(chains,)`, float64.

    Args:
        path: t -> S_t.

    Source: M. Luscher, 0907.5491, section 2, for the condition.
    """
    action = path(t)
    heat_bath, over_relaxation = HeatBath(action), OverRelaxation(action)
    state = heat_bath.init(start(action.space, streams, dtype=torch.float64))
    for _ in range(sweeps if action.beta else 0):
        state, _ = heat_bath.step(state, streams)
        state, _ = over_relaxation.step(state, streams)
    zeros = []
    for x in state.x.split(BATCH):
        laplacians, slopes = derivatives(operators, x, action.force(x))
        zeros.append(laplacians - slopes)
    return torch.cat(zeros), (path(1.0)(state.x) - path(0.0)(state.x)).double()


@torch.no_grad()
def gauss_newton(
    layer: GradientFlow, begin: Action, end: Action, x: Tensor, gather: Callable[[Tensor], Tensor] = lambda rows: rows
) -> None:
    """Lower the variance of log w by a linear fit to its derivatives by all coefficients.

    The derivatives are differences for the same x, configurations of exp(-S_0). Of fits that leave out more or less,
    the one with the least variance is kept, if it is below that before.

    Shapes: x `(samples, *shape)`.

    Args:
        gather: makes one tensor of those of all ranks, each of which has its own x.
    """
    own = layer.coefficients.data.view(-1)
    log_w, found = log_weights(layer, begin, end, x), []
    for i in range(len(own)):
        kept = own[i].clone()
        own[i] += SHIFT
        found.append((log_weights(layer, begin, end, x) - log_w) / SHIFT)
        own[i] = kept
    log_w, slopes, before = gather(log_w), gather(torch.stack(found, 1)), own.clone()
    best, least = before, log_w.var()
    for cut in STEPS:
        own.copy_(before - regression(slopes, log_w, cut).coefficients)
        variance = gather(log_weights(layer, begin, end, x)).var()
        if variance < least:
            best, least = own.clone(), variance
    own.copy_(best)


def log_weights(layer: GradientFlow, begin: Action, end: Action, x: Tensor) -> Tensor:
    """log w = S_0(x) - S_1(y) + log|dy/dx| `(samples,)`, float64."""
    found = []
    for part in x.split(BATCH):
        y, logdet = layer(part)
        found.append(begin(part).double() - end(y).double() + logdet)
    return torch.cat(found)
