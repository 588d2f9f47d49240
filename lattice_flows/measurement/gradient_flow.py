"""The gradient flow of the Wilson action, which smooths the links over a radius sqrt(2 dim t)."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lattice_flows.actions import Action, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites, infer_dim
from lattice_flows.groups import U1, Group
from lattice_flows.measurement.charge import clover_charge
from lattice_flows.measurement.field_strength import action_density, bare_coupling, plaquette_density
from lattice_flows.measurement.observables import Observable, topological_charge

# the third-order Runge-Kutta method is stable for decay rates below 2.51 / step; the fastest mode has 4 dim
_STABLE = 2.51


def gradient_flow(links: Tensor, group: Group, time: float, step: float, *, dim: int | None = None) -> Tensor:
    """The links V_t at flow time t = `time`, V_0 = `links`, with

        dV_t/dt = -g^2 {d S_W(V_t)} V_t,

    S_W the Wilson action: the coupling cancels. By Luscher's Runge-Kutta method of third order in equal steps of at
    most `step`. Gradients do not pass. Within a step about seven fields of the size of the links are alive: batches
    that fit the memory are flowed one after another.

    Shapes: links `(*batch, dim, *sites, *element)` -> the same.

    Args:
        time: t >= 0, in lattice units.
        step: the largest step, > 0; errors are of order step^3, and 0.02 is small.
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: a negative time, or a step that is not positive or too large to be stable.

    Source: M. Luscher, 1006.4518, eq. 1.4 and appendix C.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.measurement import average_plaquette
        >>> links = SU(2).haar(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> print(f"{average_plaquette(SU(2))(gradient_flow(links, SU(2), time=1.0, step=0.05)):.2f}")
        0.95
    """
    return next(_flow(links, group, [time], step, dim))


def flow_history(
    group: Group, observables: Mapping[str, Observable], times: Sequence[float], step: float, *, dim: int | None = None
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Observables along the `gradient_flow`, all of them on one integration.

    Shapes: links `(*batch, dim, *sites, *element)` -> for each observable `(*batch, n_times)`.

    Args:
        observables: by name, functions of the links.
        times: increasing flow times >= 0.
        step: the largest step, as for `gradient_flow`.

    Raises:
        InvalidInput: no times, or times that do not increase; and as `gradient_flow`.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.measurement import action_density, clover_charge
        >>> observables = {"E": action_density(SU(2)), "Q": clover_charge(SU(2))}
        >>> measure = flow_history(SU(2), observables, times=[0.0, 0.1, 0.2], step=0.05)
        >>> history = measure(SU(2).haar(5, 4, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0)))
        >>> history["E"].shape, history["Q"].shape
        (torch.Size([5, 3]), torch.Size([5, 3]))
    """
    times = [float(t) for t in times]

    def measure(links: Tensor) -> dict[str, Tensor]:
        values: dict[str, list[Tensor]] = {name: [] for name in observables}
        for flowed in _flow(links, group, times, step, dim):
            for name, observable in observables.items():
                values[name].append(observable(flowed))
        return {name: torch.stack(series, dim=-1) for name, series in values.items()}

    return measure


def flow_observables(group: Group, sites: Sequence[int]) -> dict[str, Observable]:
    """What is worth measuring along the flow, by name, for `flow_history`.

    `action_density` and `plaquette_density`, whose difference tells how smooth the links are, and `topological_charge`
    where there is one: the geometric one of U(1) in two dimensions, that of the clover in four.

    Raises:
        InvalidInput: sites are not 2 to 4 integer extents >= 2.

    Example:
        >>> from lattice_flows import SU
        >>> list(flow_observables(SU(3), sites=(8, 8, 8, 8)))
        ['action_density', 'plaquette_density', 'topological_charge']
    """
    d = len(check_sites(sites))
    observables = {
        "action_density": action_density(group, dim=d),
        "plaquette_density": plaquette_density(group, dim=d),
    }
    if d == 4:
        observables["topological_charge"] = clover_charge(group)
    elif d == 2 and group == U1():
        observables["topological_charge"] = topological_charge(group)
    return observables


def _flow(links: Tensor, group: Group, times: Sequence[float], step: float, dim: int | None) -> Iterator[Tensor]:
    """The links at each of the times."""
    dim = infer_dim(links, group, dim)
    if not 0 < step * 4 * dim < _STABLE:
        limit = _STABLE / (4 * dim)
        raise InvalidInput(f"the step of the flow must be > 0 and < {limit:.3f} in {dim} dimensions, got {step}")
    if not times or not all(0 <= a < b for a, b in itertools.pairwise((*times, math.inf))):
        raise InvalidInput(f"flow times must be finite, >= 0 and increasing, got {list(times)}")
    action = Wilson(group, bare_coupling(group), dim=dim)
    now = 0.0
    for time in times:
        # a whole number of steps that rounding has not made one more
        steps = math.ceil((time - now) / step - 1e-9)
        for _ in range(steps):
            links = _runge_kutta(links, action, (time - now) / steps)
        yield links
        now = time


@torch.no_grad()
def _runge_kutta(links: Tensor, action: Action, step: float) -> Tensor:
    """W_1 = exp(Z_0 / 4) V, W_2 = exp(8/9 Z_1 - 17/36 Z_0) W_1 and exp(3/4 Z_2 - 8/9 Z_1 + 17/36 Z_0) W_2, with
    Z_i = -step F(W_i)."""
    group = action.group

    def moved(links: Tensor, algebra: Tensor) -> Tensor:
        return group.compose(group.exp(algebra), links)

    algebra = action.force(links).mul_(-step / 4)
    links = moved(links, algebra)
    algebra = algebra.mul_(-17 / 9).sub_(action.force(links), alpha=8 / 9 * step)
    links = moved(links, algebra)
    algebra = algebra.neg_().sub_(action.force(links), alpha=3 / 4 * step)
    return moved(links, algebra)
