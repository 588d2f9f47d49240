"""link_flow in plain PyTorch: the definition of the op."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.link_sweeps.reference import Field
from lattice_flows.kernels.matrices import adjoint, project

SMALLEST_STEP = 1e-6
FORGET = (
    0.0, -567301805773 / 1357537059087, -2404267990393 / 2016746695238, -3550918686646 / 2091501179385,
    -1275806237668 / 842570457699,
)  # fmt: skip
MOVE = (
    1432997174477 / 9575080441755, 5161836677717 / 13612068292357, 1720146321549 / 2090206949498,
    3134564353537 / 4481467310338, 2277821191437 / 14882151754819,
)  # fmt: skip
WEIGHT = 0.741310609038955  # the stages in the middle are at .1497 and .6223 of a step
WEIGHTS = (0.0, 1 - WEIGHT, 0.0, WEIGHT, 0.0)


def link_flow(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], times: Sequence[float], tolerance: float,
    largest: float, steps: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Links `(chains, dim * V, N, N)` of the last time, densities `(chains, n_times, 2 or 3)`, and the next steps.

    See `lattice_flows.kernels.link_flow`. Angles have N = 1.
    """
    dim, n = len(extents), links.shape[-1]
    field = Field(links, extents, torch.full((dim, dim), 1.0 if n == 1 else 2.0, dtype=torch.float64))
    everywhere = field.grid.flatten()

    def force(u: Tensor) -> Tensor:
        field.u = u
        loops = u @ torch.cat([field.staples(mu, everywhere) for mu in range(dim)], 1)
        return (loops - adjoint(loops)) / 2 if n == 1 else project(loops) / 2

    def move(u: Tensor, algebra: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(algebra) @ u

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(a - b).double().amax(1) / n**2

    found = []
    for u, following in flow(field.u, times, tolerance, largest, steps, force, move, distance):
        field.u, steps = u, following
        found.append(_densities(field))
    return field.links(), torch.stack(found, 1), steps


def flow(
    u: Tensor,
    times: Sequence[float],
    tolerance: float,
    largest: float,
    steps: Tensor,
    force: Callable[[Tensor], Tensor],
    move: Callable[[Tensor, Tensor], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[tuple[Tensor, Tensor]]:
    """The solution of du/dt = -force(u) u at increasing times, with the next steps, all chains at once.

    A step of size h goes through the stages Z <- a_i Z - h force(u), u <- exp(b_i Z) u. It is of fourth order. Its
    error is the distance d from exp((1 - w) K_2 + w K_4) of where it began, which is of second order, where
    K_i = -h force(u) at stage i. If it is above the tolerance, the step is made again. The next step is
    .95 (tolerance / d)^(1/3) of the last one, and `largest` at most. The steps to a time are shares of what is left. A
    chain whose step falls below SMALLEST_STEP gives up.

    Args:
        u: `(chains, ...)`.
        steps: `(chains,)`, float64.
        move: exp(Z) u for a given Z.
        distance: `(chains,)`, float64, as `steps`.

    Source: M. H. Carpenter, C. A. Kennedy, NASA TM 109112 (1994); A. Bazavov, T. Chuna, 2101.05320; P. Fritzsch,
    A. Ramos, 1301.4388, appendix D, for the step.
    """
    for begin, end in itertools.pairwise((0.0, *times)):
        left = torch.full_like(steps, end - begin)
        while bool((moving := (left > 0) & (steps >= SMALLEST_STEP)).any()):
            share = torch.where(moving, left / (left / steps - 1e-9).ceil().clamp(min=1), 0.0)
            h = share.to(u.real.dtype).reshape(-1, *[1] * (u.ndim - 1))
            end_of_step, exponent, estimate = u, torch.zeros_like(u), torch.zeros_like(u)
            for forget, by, weight in zip(FORGET, MOVE, WEIGHTS, strict=True):
                kick = -h * force(end_of_step)
                exponent, estimate = forget * exponent + kick, estimate + weight * kick
                end_of_step = move(end_of_step, by * exponent)
            error = distance(end_of_step, move(u, estimate))
            following = 0.95 * share * (tolerance / error) ** (1 / 3)
            steps = torch.where(moving, torch.where(following < largest, following, largest), steps)
            # an error that is not a number is no reason to try again
            counts = moving & ~(error > tolerance)
            u = torch.where(counts.reshape(h.shape), end_of_step, u)
            left = torch.where(counts, torch.where(share < left, left - share, 0.0), left)
        yield u, steps


def _densities(field: Field) -> Tensor:
    """The densities of the plaquettes and of the clovers, and in four dimensions the charge."""
    dim, n, volume = len(field.up), field.u.shape[-1], field.grid.numel()
    missing, energies, strengths = [], [], {}
    for mu, nu in itertools.combinations(range(dim), 2):
        leaves = [_loops(field, *path) for path in ((mu, nu), (nu, ~mu), (~mu, ~nu), (~nu, mu))]
        missing.append((n - leaves[0].diagonal(dim1=-2, dim2=-1).real.sum(-1)).double().sum(1))
        total = leaves[0] + leaves[1] + leaves[2] + leaves[3]
        strengths[mu, nu] = (total - adjoint(total)) / 8 if n == 1 else project(total) / 4
        energies.append(_half_inner(strengths[mu, nu], strengths[mu, nu]))
    densities = [(1 if n == 1 else 2) * torch.stack(missing).sum(0) / volume, torch.stack(energies).sum(0) / volume]
    if dim == 4:
        pairs = ((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1)
        dual = torch.stack([sign * _half_inner(strengths[one], strengths[two]) for one, two, sign in pairs]).sum(0)
        densities.append(dual / ((2 if n == 1 else 4) * math.pi**2))
    return torch.stack(densities, -1)


def _loops(field: Field, first: int, second: int) -> Tensor:
    """Plaquettes that leave each site along the first direction and then the second; ~mu is against mu."""
    sites, steps = field.grid.flatten(), []
    for direction in (first, second, ~first, ~second):
        mu = direction if direction >= 0 else ~direction
        before, sites = sites, (field.up if direction >= 0 else field.down)[mu][sites]
        steps.append(field.at(mu, before) if direction >= 0 else adjoint(field.at(mu, sites)))
    return steps[0] @ steps[1] @ steps[2] @ steps[3]


def _half_inner(a: Tensor, b: Tensor) -> Tensor:
    """Half of the sum over sites of inner(A, B)."""
    share = 0.5 if a.shape[-1] == 1 else 1.0
    return share * (torch.view_as_real(a) * torch.view_as_real(b)).double().sum((1, 2, 3, 4))
