"""link_flow: the Wilson flow of all links of a lattice, with an adaptive step, through many times in one call."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.kernels.define import define_op, plain, underivable
from lattice_flows.kernels.link_flow import reference
from lattice_flows.kernels.link_flow.reference import SMALLEST_STEP
from lattice_flows.kernels.link_sweeps import (
    LARGEST,
    SMALLEST,
    check_links,
    has_kernel,
    integers,
    no_memory,
    reals,
)

__all__ = ["link_flow"]


class Flowed(NamedTuple):
    """Links of the last time, densities `(chains, n_times, 2 or 3)` and next steps `(chains,)`, both float64."""

    links: Tensor
    densities: Tensor
    steps: Tensor


def link_flow(
    links: Tensor, extents: Sequence[int], times: Sequence[float], tolerance: float, largest: float, steps: Tensor
) -> Flowed:
    """The Wilson flow dV_t/dt = -F(V_t) V_t, V_0 = links, and densities at each of the times.

    F is the force of the action with w = 2 for SU(N) and w = 1 for U(1); see `link_trajectories`. Steps are of fourth
    order and as large as the tolerance allows: that of d = max |V - V'| / N^2 over the links, where V' is the result of
    second order and |.| Frobenius' norm. With a tolerance of infinity they are equal, as large as allowed. Handing over
    the steps that come back, with the links, goes on as one call would.

    The densities are those of `plaquette_density` and `action_density`, and in four dimensions `clover_charge`. A chain
    depends on its own links and step alone. There is no derivative, and asking for one raises.

    Shapes: links `(chains, dim, *extents, N, N)`, N >= 2, complex, or for U(1) angles `(chains, dim, *extents)`, real;
    steps `(chains,)`, float64, the first ones to try.

    Raises:
        InvalidInput: shapes, dtypes or numbers do not fit, or a step is below 1e-6.

    Source: M. Luscher, 1006.4518, eq. 1.4; A. Bazavov, T. Chuna, 2101.05320, for the steps; P. Fritzsch, A. Ramos,
    1301.4388, appendix D, for their size.

    Example:
        >>> import torch
        >>> links = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
        >>> links[0, 0, 0, 0] = 1.0
        >>> steps = torch.full((1,), 0.01, dtype=torch.float64)
        >>> flowed = link_flow(links, (8, 8), [0.0, 0.5], 1e-6, 0.25, steps)
        >>> [f"{density:.5f}" for density in flowed.densities[0, :, 0]]
        ['0.01437', '0.00048']
    """
    nodes, flat = check_links(links, tuple(extents))
    chains = len(links)
    if not (tolerance > 0 and 0 < largest < math.inf) or steps.shape != (chains,) or steps.dtype != torch.float64:
        raise InvalidInput(
            f"tolerance and largest step must be > 0, and steps float64 ({chains},), got {tolerance}, {largest} and "
            f"{steps.dtype} {tuple(steps.shape)}"
        )
    check_times(times)
    new, densities, steps = _flow(
        flat, list(extents), list(nodes), list(times), float(tolerance), float(largest), steps
    )
    if not torch.compiler.is_compiling():  # else there are no numbers to look at
        give_up(links, tolerance, steps)
    return Flowed(new.reshape(links.shape), densities, steps)


def check_times(times: Sequence[float]) -> None:
    """Raises InvalidInput for times that no flow goes through."""
    if not times or not all(0 <= a < b for a, b in itertools.pairwise((*times, math.inf))):
        raise InvalidInput(f"flow times must be finite, >= 0 and increasing, got {list(times)}")


def give_up(links: Tensor, tolerance: float, steps: Tensor) -> None:
    """Raises InvalidInput if a flow could not keep to its tolerance."""
    if bool((steps < SMALLEST_STEP).any()):
        raise InvalidInput(
            f"the Wilson flow does not reach tolerance {tolerance:g} in {links.dtype} with steps >= {SMALLEST_STEP:g}: "
            "give it a larger tolerance, or links that are in the group"
        )


def available(extents: tuple[int, ...], n: int, links: Tensor) -> bool:
    """Whether there is a kernel for links of SU(N), or with n = 1 of U(1), on lattices of these extents."""
    return links.is_cpu and has_kernel(reference, 1, extents, n, links)


def _shapes(links, extents, nodes, times, tolerance, largest, steps):
    densities = steps.new_empty(len(links), len(times), 3 if len(extents) == 4 else 2)
    return torch.empty_like(links, memory_format=torch.contiguous_format), densities, torch.empty_like(steps)


_op = define_op(
    reference.link_flow,
    _shapes,
    lambda links, extents, nodes, times, tolerance, largest, steps, *outputs: (
        plain(links), len(links), len(extents), integers(extents), integers(nodes), reals(times), len(times),
        reals([tolerance]), reals([largest]), steps.contiguous(), *outputs,
    ),
    smallest=SMALLEST,
    largest=LARGEST,
    failed=no_memory,
)  # fmt: skip
_flow = underivable(_op)
