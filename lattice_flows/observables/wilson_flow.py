"""The Wilson flow: the gradient flow of Wilson's action, which smooths the links over a radius sqrt(2 dim t)."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lattice_flows.actions import Action, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable
from lattice_flows.observables.field_strength import action_density, clover_charge, geometric_charge, plaquette_density

# the third-order Runge-Kutta method is stable for decay rates below 2.51 / step; the fastest mode decays at 4 dim
_STABLE = 2.51


def wilson_flow(links: Tensor, space: GaugeField, time: float, step: float) -> Tensor:
    """The links V_t at flow time t = `time`, with V_0 = `links` and dV_t/dt = -g^2 {d S_W(V_t)} V_t.

    S_W is the Wilson action; the coupling g cancels. Luscher's Runge-Kutta method of third order takes equal steps of
    at most `step`. Gradients do not pass. A step needs memory for about seven fields of the size of the links.

    Shapes: links `(*batch, dim, *sites, *element)` -> the same.

    Args:
        time: t >= 0, in lattice units.
        step: the largest step, > 0; errors are of order step^3, and 0.02 is small.

    Raises:
        InvalidInput: a negative time, a step that is <= 0 or unstable, or links that do not fit the space.

    Source: M. Luscher, 1006.4518, eq. 1.4 and appendix C.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import average_plaquette
        >>> space = GaugeField(SU(2), (4, 4, 4))
        >>> links = space.prior(1, torch.Generator().manual_seed(0))
        >>> print(f"{average_plaquette(space)(wilson_flow(links, space, time=1.0, step=0.05)).item():.2f}")
        0.95
    """
    return next(_smoothed(links, space, [time], step))


def flow_history(
    space: GaugeField, observables: Mapping[str, Observable], times: Sequence[float], step: float
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Observables along the `wilson_flow`, by one integration.

    Shapes: links `(*batch, dim, *sites, *element)` -> for each observable `(*batch, n_times)`.

    Args:
        times: increasing flow times >= 0.
        step: the largest step, as for `wilson_flow`.

    Raises:
        InvalidInput: no times, or times that do not increase; and as `wilson_flow`.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import action_density, clover_charge
        >>> space = GaugeField(SU(2), (4, 4, 4, 4))
        >>> observables = {"E": action_density(space), "Q": clover_charge(space)}
        >>> measure = flow_history(space, observables, times=[0.0, 0.1, 0.2], step=0.05)
        >>> history = measure(space.prior(5, torch.Generator().manual_seed(0)))
        >>> history["E"].shape, history["Q"].shape
        (torch.Size([5, 3]), torch.Size([5, 3]))
    """
    times = [float(t) for t in times]

    def measure(links: Tensor) -> dict[str, Tensor]:
        values: dict[str, list[Tensor]] = {name: [] for name in observables}
        for smooth in _smoothed(links, space, times, step):
            for name, observable in observables.items():
                values[name].append(observable(smooth))
        return {name: torch.stack(series, dim=-1) for name, series in values.items()}

    return measure


def flow_observables(space: GaugeField) -> dict[str, Observable]:
    """The usual observables along the Wilson flow, by name, for `flow_history`.

    They are `action_density`, `plaquette_density`, and the charge: the geometric one of U(1) in two dimensions, that of
    the clover in four. Errors: as `average_plaquette`.

    Example:
        >>> from lattice_flows import SU
        >>> list(flow_observables(GaugeField(SU(3), (8, 8, 8, 8))))
        ['action_density', 'plaquette_density', 'topological_charge']
    """
    observables = {"action_density": action_density(space), "plaquette_density": plaquette_density(space)}
    charge = clover_charge(space) if space.dim == 4 else geometric_charge(space)
    return observables if charge is None else {**observables, "topological_charge": charge}


def _smoothed(links: Tensor, space: GaugeField, times: Sequence[float], step: float) -> Iterator[Tensor]:
    """The links at each of the times."""
    dim = gauge_field(space).dim
    if not 0 < step * 4 * dim < _STABLE:
        limit = _STABLE / (4 * dim)
        raise InvalidInput(f"the step of the flow must be > 0 and < {limit:.3f} in {dim} dimensions, got {step}")
    if not times or not all(0 <= a < b for a, b in itertools.pairwise((*times, math.inf))):
        raise InvalidInput(f"flow times must be finite, >= 0 and increasing, got {list(times)}")
    action = Wilson(space, space.group.bare_coupling)
    space.check(links)  # nothing else checks them at time 0
    now = 0.0
    for time in times:
        # rounding must not add a step
        steps = math.ceil((time - now) / step - 1e-9)
        for _ in range(steps):
            links = _runge_kutta(links, action, (time - now) / steps)
        yield links
        now = time


@torch.no_grad()
def _runge_kutta(links: Tensor, action: Action, step: float) -> Tensor:
    """One step of W_1 = exp(Z_0 / 4) V, W_2 = exp(8/9 Z_1 - 17/36 Z_0) W_1, exp(3/4 Z_2 - 8/9 Z_1 + 17/36 Z_0) W_2.

    Here Z_i = -step F(W_i), and F is the force.
    """
    move = action.space.move
    algebra = action.force(links).mul_(-step / 4)
    links = move(links, algebra)
    algebra = algebra.mul_(-17 / 9).sub_(action.force(links), alpha=8 / 9 * step)
    links = move(links, algebra)
    algebra = algebra.neg_().sub_(action.force(links), alpha=3 / 4 * step)
    return move(links, algebra)
