"""Fits of gradient flows to a path of densities: linear, without a derivative of the flow."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.layers.gradient_flow import GradientFlow
from lattice_flows.operators import ForceFields
from lattice_flows.sampling import HeatBath, OverRelaxation, Streams, start

LEAST = 1e-5
"""Combinations of operators that vary less, relative to others, are left out: they are rounding errors."""


class Fit(NamedTuple):
    """The solution of a linear fit."""

    coefficients: Tensor
    """`(n,)`, float64."""
    left: float
    """The share of the variance that the fit leaves, 1 - R^2."""


def regression(x: Tensor, y: Tensor) -> Fit:
    """Find c that minimises the variance of y - x c.

    Shapes: x `(samples, n)`, y `(samples,)`, float64.
    """
    x, y = x - x.mean(0), y - y.mean()
    scale = torch.where((own := x.std(0)) > 0, own, math.inf)
    c = torch.linalg.lstsq(x / scale, y.unsqueeze(1), rcond=LEAST, driver="gelsd").solution.squeeze(1) / scale
    return Fit(c, float((y - x @ c).square().mean() / y.square().mean()))


@torch.no_grad()
def along_path(fields: ForceFields, begin: Action, end: Action, t: float, streams: Streams, sweeps: int = 30) -> Fit:
    """Fit the field V = sum_i c_i F_i that carries exp(-S_t) along S_t = S_0 + t (S_1 - S_0), with S_1 - S_0 = dS/dt.

    It does where div V - dS_t.V - dS/dt is constant. The fit minimises its variance over independent chains that have
    begun hot, with `sweeps` of heat bath and over-relaxation each.

    Args:
        begin, end: S_0 and S_1, one action at two couplings.

    Source: M. Luscher, 0907.5491, equation 2.15, for the condition.
    """
    action = begin.at(begin.beta + t * (end.beta - begin.beta))
    heat_bath, over_relaxation = HeatBath(action), OverRelaxation(action)
    state = heat_bath.init(start(action.space, streams, dtype=torch.float64))
    if action.beta:
        for _ in range(sweeps):
            state, _ = heat_bath.step(state, streams)
            state, _ = over_relaxation.step(state, streams)
    zeros = []
    for x in state.x.split(16):
        laplacians, slopes = fields.derivatives(x, action.force(x))
        zeros.append(laplacians - slopes)
    return regression(torch.cat(zeros), (end(state.x) - begin(state.x)).double())


@torch.no_grad()
def gauss_newton(layer: GradientFlow, begin: Action, end: Action, x: Tensor, shift: float = 1e-3) -> Fit:
    """Fit all coefficients of a flow to the least variance of log w, to first order around those that it has.

    Shapes: x `(samples, *shape)`, configurations of exp(-S_0), the same for all shifts of the coefficients.
    """
    own = layer.coefficients.data
    found = [log_weights(layer, begin, end, x)]
    for i in range(own.numel()):
        kept = own.flatten()[i].clone()
        own.view(-1)[i] += shift
        found.append((log_weights(layer, begin, end, x) - found[0]) / shift)
        own.view(-1)[i] = kept
    fit = regression(torch.stack(found[1:], 1), found[0])
    return fit._replace(coefficients=own.flatten() - fit.coefficients)


def log_weights(layer: GradientFlow, begin: Action, end: Action, x: Tensor) -> Tensor:
    """log w = S_0(x) - S_1(y) + log|dy/dx| `(samples,)`, float64."""
    y, logdet = layer(x)
    return begin(x).double() - end(y).double() + logdet
