"""Time slices: the plaquettes in them, and what improves the correlators of these.

With O' = O + sum_i c_i Z_i, Z_i = div V_i - dS.V_i, the connected correlator of two time slices is

    <O(t) O(t')>_c = <O'(t) O'(t')>_c + <V(t).dO'(t')> + <V(t').dO(t)>,    V(t) = sum_i c_i V_i(t).

The fields V_i of `SliceOperators` live on the spatial links of their slice: the last term is zero for t != t', the one
before for slices that are not next to each other.
"""

import itertools

import torch
from torch import Tensor

from lattice_flows.actions import Action
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.paths import plaquette
from lattice_flows.lattice.space import GaugeField, gauge_field
from lattice_flows.observables.base import Observable
from lattice_flows.operators import SliceOperators

STEP = 1e-3
"""The largest move of a link in differences, whose relative error is of the order of its square."""


def slice_plaquettes(space: GaugeField) -> Observable:
    """O(t): Re tr P / N, averaged over sites and the planes without time in each time slice.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, T)`.

    Raises:
        InvalidInput: the space is not one of links, or has two dimensions.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(2), (4, 4, 5))
        >>> slice_plaquettes(space)(space.cold(1))
        tensor([[1., 1., 1., 1., 1.]])
    """
    planes = list(itertools.combinations(range(gauge_field(space).dim - 1), 2))
    if not planes:
        raise InvalidInput(f"all plaquettes are time-like in two dimensions, got {space}")

    def measure(links: Tensor) -> Tensor:
        loops = [space.group.retrace(plaquette(links, *plane, space)) for plane in planes]
        return torch.stack(loops).mean(0).flatten(-space.dim, -2).mean(-2)

    return measure


def slice_zeros(action: Action) -> Observable:
    """Z_i(t) `(*batch, T, n_operators)`, whose mean is zero, for the fields of `SliceOperators`.

    Raises:
        InvalidInput: as `SliceOperators`.

    Source: T. Bhattacharya, S. Lawrence, J.-S. Yoo, 2307.14950, for such zeros as control variates of correlators.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> action = Wilson(GaugeField(SU(2), (4, 4, 5)), beta=2.0)
        >>> slice_zeros(action)(action.space.cold(1)).shape
        torch.Size([1, 5, 31])
    """
    operators = SliceOperators(gauge_field(action.space))

    def measure(links: Tensor) -> Tensor:
        divergences, slopes = operators.derivatives(links, action.force(links))
        return divergences - slopes

    return measure


def slice_contact(action: Action, coefficients: Tensor) -> Observable:
    """V(t).dO'(t') of slices next to each other `(*batch, n)`, averaged over them, for n sets of coefficients c.

    The derivative along V is a difference of Z at moved links, in 64 bits.

    Shapes: coefficients `(n, n_operators)`, float64.

    Raises:
        InvalidInput: as `SliceOperators`.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> action = Wilson(GaugeField(SU(2), (3, 3, 4)), beta=2.0)
        >>> contact = slice_contact(action, torch.ones(2, 31, dtype=torch.float64))
        >>> contact(action.space.prior(1, torch.Generator().manual_seed(0))).shape
        torch.Size([1, 2])
    """
    operators, zeros, space = SliceOperators(gauge_field(action.space)), slice_zeros(action), action.space
    last = space.lattice.extents[-1]

    def measure(links: Tensor) -> Tensor:
        x = links.to(space.dtype(torch.float64))
        found = []
        for own in coefficients.to(x.device):
            total = torch.zeros(space.batch(x), dtype=torch.float64, device=x.device)
            for colour in range(operators.colours):
                field = operators.field(x, own, colour)
                step = STEP / field.abs().amax().clamp_min(torch.finfo(torch.float64).tiny)
                ahead, back = (zeros(space.move(x, sign * step * field)) @ own for sign in (1, -1))
                others = operators.slices(colour, x.device).logical_not()
                total = total + ((ahead - back) / (2 * step))[..., others].sum(-1)
            found.append(total / (2 * last))
        return torch.stack(found, -1)

    return measure
