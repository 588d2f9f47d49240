"""link_flow in plain PyTorch: the definition of the op."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.link_sweeps.reference import Field
from lattice_flows.kernels.matrices import adjoint, project

SMALLEST_STEP = 1e-6


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

    W_1 = exp(Z_0 / 4) W_0, W_2 = exp(8/9 Z_1 - 17/36 Z_0) W_1, W_3 = exp(3/4 Z_2 - 8/9 Z_1 + 17/36 Z_0) W_2, where
    Z_i = -step force(W_i). The error of W_3 is its distance d from exp(2 Z_1 - Z_0) W_0. If it is above the tolerance,
    the step is made again. The next step is .95 (tolerance / d)^(1/3) of the last one, and `largest` at most. The steps
    to a time are shares of what is left. A chain whose step falls below SMALLEST_STEP gives up.

    Args:
        u: `(chains, ...)`.
        steps: `(chains,)`, float64.
        move: exp(Z) u for a given Z.
        distance: `(chains,)`, float64, as `steps`.

    Source: M. Luscher, 1006.4518, appendix C; P. Fritzsch, A. Ramos, 1301.4388, appendix D.
    """
    for begin, end in itertools.pairwise((0.0, *times)):
        left = torch.full_like(steps, end - begin)
        while bool((moving := (left > 0) & (steps >= SMALLEST_STEP)).any()):
            share = torch.where(moving, left / (left / steps - 1e-9).ceil().clamp(min=1), 0.0)
            h = share.to(u.real.dtype).reshape(-1, *[1] * (u.ndim - 1))
            z_0 = -h * force(u)
            w_1 = move(u, z_0 / 4)
            z_1 = -h * force(w_1)
            exponent = 8 / 9 * z_1 - 17 / 36 * z_0
            w_2 = move(w_1, exponent)
            w_3 = move(w_2, -3 / 4 * h * force(w_2) - exponent)
            error = distance(w_3, move(u, 2 * z_1 - z_0))
            following = 0.95 * share * (tolerance / error) ** (1 / 3)
            steps = torch.where(moving, torch.where(following < largest, following, largest), steps)
            # an error that is not a number is no reason to try again
            counts = moving & ~(error > tolerance)
            u = torch.where(counts.reshape(h.shape), w_3, u)
            left = torch.where(counts, torch.where(share < left, left - share, 0.0), left)
        yield u, steps


def _densities(field: Field) -> Tensor:
    """The densities of the plaquettes and of the clovers, and in four dimensions the charge."""
    dim, n, volume = len(field.up), field.u.shape[-1], field.grid.numel()
    missing, energy, strengths = 0.0, 0.0, {}
    for mu, nu in itertools.combinations(range(dim), 2):
        leaves = [_loop(field, path) for path in ((mu, nu), (nu, ~mu), (~mu, ~nu), (~nu, mu))]
        missing = missing + (n - leaves[0].diagonal(dim1=-2, dim2=-1).real.sum(-1)).double().sum(1)
        total = leaves[0] + leaves[1] + leaves[2] + leaves[3]
        strength = (total - adjoint(total)) / 8 if n == 1 else project(total) / 4
        energy = energy + _half_inner(strength, strength)
        strengths[mu, nu] = strength
    densities = [(1 if n == 1 else 2) * missing / volume, energy / volume]
    if dim == 4:
        pairs = ((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1)
        dual = sum(sign * _half_inner(strengths[one], strengths[two]) for one, two, sign in pairs)
        densities.append(dual / ((2 if n == 1 else 4) * math.pi**2))
    return torch.stack(densities, -1)


def _loop(field: Field, path: tuple[int, int]) -> Tensor:
    """Plaquettes that leave each site along the first direction and then the second; ~mu is against mu."""
    sites, product = field.grid.flatten(), None
    for direction in (*path, *(~d for d in path)):
        forward = direction >= 0
        mu = direction if forward else ~direction
        before, sites = sites, (field.up if forward else field.down)[mu][sites]
        step = field.at(mu, before) if forward else adjoint(field.at(mu, sites))
        product = step if product is None else product @ step
    return product


def _half_inner(a: Tensor, b: Tensor) -> Tensor:
    """Half of the sum over sites of inner(A, B)."""
    share = 0.5 if a.shape[-1] == 1 else 1.0
    return share * (torch.view_as_real(a) * torch.view_as_real(b)).double().sum((1, 2, 3, 4))
