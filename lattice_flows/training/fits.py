"""Fits of gradient flows to a path of densities, without derivatives of the flow."""

from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.layers.gradient_flow import GradientFlow
from lattice_flows.observables.schwinger_dyson import schwinger_dyson
from lattice_flows.sampling import HeatBath, OverRelaxation, Streams, start


class Fit(NamedTuple):
    """The outcome of a fit at each knot."""

    coefficients: Tensor
    """`(knots, n_operators)`."""
    left: Tensor
    """`(knots,)`: the share of the variance of dS/dt that the operators leave, 1 - R^2."""


@torch.no_grad()
def least_squares(
    layer: GradientFlow, begin: Action, end: Action, streams: Streams, thermalise: int = 20
) -> Fit:
    """Fit the coefficients of a flow from exp(-S_0) to exp(-S_1) at its knots, and set them.

    Along S_t = S_0 + t (S_1 - S_0), the field V carries exp(-S_t) where div V - dS_t.V - dS/dt does not depend on the
    configuration. The fit minimises its variance over chains at each knot.
    """
    space, knots = layer.space, torch.linspace(0, 1, len(layer.coefficients), dtype=torch.float64).tolist()
    x = start(space, streams, dtype=torch.float64)
    found, left = [], []
    for t in knots:
        action = begin.at(begin.beta + t * (end.beta - begin.beta))
        for sampler in (HeatBath(action), OverRelaxation(action)) * thermalise:
            x = sampler.step(sampler.init(x), streams)[0].x
        zeros = torch.cat([schwinger_dyson(action, layer.operators)(part) for part in x.split(16)])
        change = end(x) - begin(x)
        zeros, change = zeros - zeros.mean(0), (change - change.mean()).double()
        scale = zeros.std(0)
        c = torch.linalg.lstsq(zeros / scale, change.unsqueeze(1), rcond=1e-5, driver="gelsd").solution.squeeze(1) / scale
        found.append(c)
        left.append((change - zeros @ c).square().mean() / change.square().mean())
    fit = Fit(torch.stack(found), torch.stack(left))
    layer.coefficients.copy_(fit.coefficients)
    return fit
