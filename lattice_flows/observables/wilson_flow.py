"""The Wilson flow: the gradient flow of Wilson's action, which smooths the links over a radius sqrt(2 dim t)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lattice_flows.actions import Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.link_flow import available, check_times, give_up, link_flow
from lattice_flows.kernels.link_flow.reference import flow
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable
from lattice_flows.observables.field_strength import (
    FlowDensity,
    action_density,
    clover_charge,
    geometric_charge,
    plaquette_density,
)

TOLERANCE = 1e-4
"""That of each step, by default."""
# times the step, of the fastest mode, which decays at 4 dim: where the method is stable, and the largest by default
_STABLE, _LARGEST = 4.6, 2.4


def wilson_flow(
    links: Tensor, space: GaugeField, time: float, step: float | None = None, *, tolerance: float = TOLERANCE
) -> Tensor:
    """The links V_t at flow time t = `time`, with V_0 = `links` and dV_t/dt = -g^2 {d S_W(V_t)} V_t.

    S_W is the Wilson action; the coupling g cancels. Each configuration has steps of its own, of fourth order, as large
    as `tolerance` allows; see `lattice_flows.kernels.link_flow`. Gradients do not pass.

    Shapes: links `(*batch, dim, *sites, *element)` -> the same.

    Args:
        time: t >= 0, in lattice units.
        step: the largest step; 0.6 / dim by default.
        tolerance: the largest distance of a link from that of a step of second order, in Frobenius' norm / N^2; with
            `math.inf` steps are equal, as large as `step` allows. Errors in the end are smaller: of SU(3) on 8^4 at
            beta = 6 and t = 3 they are 4e-6, 4e-7 and 8e-8 for 1e-3, 1e-4 and 1e-5; single precision leaves 4e-7. It
            is absolute: fields that differ little from 1 need one that is less.

    Raises:
        InvalidInput: a negative time, a step that is <= 0 or unstable, a tolerance that is <= 0 or below rounding, or
            links that do not fit the space.

    Source: M. Luscher, 1006.4518, eq. 1.4; A. Bazavov, T. Chuna, 2101.05320; P. Fritzsch, A. Ramos, 1301.4388, appendix
    D, for the step.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import average_plaquette
        >>> space = GaugeField(SU(2), (4, 4, 4))
        >>> links = space.prior(1, torch.Generator().manual_seed(0))
        >>> print(f"{average_plaquette(space)(wilson_flow(links, space, time=1.0)).item():.2f}")
        0.95
    """
    ((smooth, _),) = _smoothed(links, space, [[float(time)]], step, tolerance)
    return smooth


def flow_history(
    space: GaugeField,
    observables: Mapping[str, Observable],
    times: Sequence[float],
    step: float | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Observables along the `wilson_flow`, by one integration.

    `action_density`, `plaquette_density` and `clover_charge` cost least: the kernel measures them.

    Shapes: links `(*batch, dim, *sites, *element)` -> for each observable `(*batch, n_times)`.

    Args:
        times: increasing flow times >= 0.
        step, tolerance: as for `wilson_flow`.

    Raises:
        InvalidInput: no times, or times that do not increase; and as `wilson_flow`.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import action_density, clover_charge
        >>> space = GaugeField(SU(2), (4, 4, 4, 4))
        >>> observables = {"E": action_density(space), "Q": clover_charge(space)}
        >>> measure = flow_history(space, observables, times=[0.0, 0.1, 0.2])
        >>> history = measure(space.prior(5, torch.Generator().manual_seed(0)))
        >>> history["E"].shape, history["Q"].shape
        (torch.Size([5, 3]), torch.Size([5, 3]))
    """
    times = [float(t) for t in times]
    columns = {name: _column(observable, space) for name, observable in observables.items()}

    def measure(links: Tensor) -> dict[str, Tensor]:
        values: dict[str, list[Tensor]] = {name: [] for name in observables}
        together = None not in columns.values() and times and _has_kernel(links, space)
        parts = [times] if together else [[t] for t in times]
        for smooth, densities in _smoothed(links, space, parts, step, tolerance):
            for name, observable in observables.items():
                column = columns[name]
                known = None if densities is None or column is None else densities[..., column]
                values[name].append(observable(smooth).unsqueeze(-1) if known is None else known)
        return {name: torch.cat(series, dim=-1) for name, series in values.items()}

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


def _column(observable: Observable, space: GaugeField) -> int | None:
    """The place of an observable among the densities of `link_flow`."""
    if isinstance(observable, FlowDensity) and observable.space == space:
        return observable.column
    return None


def _has_kernel(links: Tensor, space: GaugeField) -> bool:
    return space.group.swept and available(space.lattice.extents, space.group.n, links)


def _smoothed(
    links: Tensor, space: GaugeField, parts: Sequence[Sequence[float]], step: float | None, tolerance: float
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The links at the last time of each part, and where the kernel ran the densities `(*batch, n_times, :)`."""
    dim = gauge_field(space).dim
    if step is not None and not 0 < step * 4 * dim < _STABLE:
        limit = _STABLE / (4 * dim)
        raise InvalidInput(f"the step of the flow must be > 0 and < {limit:.3f} in {dim} dimensions, got {step}")
    if not tolerance > 0:
        raise InvalidInput(f"the tolerance of the flow must be > 0, got {tolerance}")
    check_times([time for part in parts for time in part])
    largest = _LARGEST / (4 * dim) if step is None else step
    u = space.check(links).detach().reshape(-1, *space.shape)  # nothing else checks them at time 0
    steps = torch.full((len(u),), largest * min(1.0, tolerance) ** (1 / 3), dtype=torch.float64, device=u.device)
    run, now = _with_kernel if _has_kernel(links, space) else _without_kernel, 0.0
    for part in parts:
        densities = None
        if part != [0.0]:
            u, densities, steps = run(u, space, [time - now for time in part], tolerance, largest, steps)
        now = part[-1]
        if densities is not None:
            densities = densities.reshape(*space.batch(links), *densities.shape[1:])
        yield u.reshape(links.shape), densities


def _with_kernel(
    u: Tensor, space: GaugeField, times: list[float], tolerance: float, largest: float, steps: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    flowed = link_flow(u, space.lattice.extents, times, tolerance, largest, steps)
    return flowed.links, flowed.densities.to(u.real.dtype), flowed.steps


@torch.no_grad()
def _without_kernel(
    u: Tensor, space: GaugeField, times: list[float], tolerance: float, largest: float, steps: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The same steps, on any lattice and device."""
    n, action = space.group.n, Wilson(space, space.group.bare_coupling)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        entries = (a - b).abs() if a.is_complex() else 2 * ((a - b) / 2).sin()
        squares = space.flatten(entries.square())
        return squares.reshape(*squares.shape[:2], -1).sum(-1).amax(-1).sqrt().double() / n**2

    *_, (u, steps) = flow(u, times, tolerance, largest, steps, action.force, space.move, distance)
    give_up(u, tolerance, steps)
    return u, None, steps
