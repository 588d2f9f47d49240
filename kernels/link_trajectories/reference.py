"""link_trajectories in plain PyTorch: the definition of the op."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.link_sweeps.reference import Field, draws
from lattice_flows.kernels.matrices import adjoint, project


def link_trajectories(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor, kicks: Sequence[float], step: float,
    keys: Tensor, calls: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New links `(chains, dim * V, N, N)` and energies `(chains, 3)`; see `lattice_flows.kernels.link_trajectories`.

    The energies are H of the beginning and of the end, and the action of the end. Angles have N = 1.
    """
    field = Field(links, extents, weights)
    n, everywhere = links.shape[-1], field.grid.flatten()
    here = torch.arange(links.shape[1])
    numbers = draws(keys, calls, here, max(1, -(-(n * n - 1) // 4)), links)
    radius, angle = (-2 * (-numbers[..., ::2]).log1p()).sqrt(), 2 * math.pi * numbers[..., 1::2]
    momenta = _momenta(torch.stack((radius * angle.cos(), radius * angle.sin()), -1).flatten(2), n)
    begin = _kinetic(momenta) + field.action()
    for number, kick in enumerate(kicks):
        sums = torch.cat([field.staples(mu, everywhere) for mu in range(len(extents))], 1)
        loops = field.u @ sums
        momenta = momenta - kick * (loops - adjoint(loops) if n == 1 else project(loops)) / 2
        if number + 1 < len(kicks):
            field.u = torch.linalg.matrix_exp(step * momenta) @ field.u
    action = field.action()
    return field.links(), torch.stack((begin, _kinetic(momenta) + action, action), -1)


def _momenta(normal: Tensor, n: int) -> Tensor:
    """Anti-Hermitian matrices from components of unit variance: off the diagonal, and on it."""
    if n == 1:
        return (1j * normal[..., :1]).unsqueeze(-1)
    if n == 2:
        x, y, z = (normal[..., :3] / 2).unbind(-1)
        return torch.stack((1j * z, y + 1j * x, 1j * x - y, -1j * z), -1).unflatten(-1, (2, 2))
    pairs = math.comb(n, 2)
    upper = torch.complex(*normal[..., : 2 * pairs].unflatten(-1, (pairs, 2)).unbind(-1)) / 2
    p = upper.new_zeros(*upper.shape[:-1], n, n)
    rows, columns = torch.triu_indices(n, n, 1)
    p[..., rows, columns] = upper
    p = p - adjoint(p)
    for k in range(1, n):
        pattern = normal.new_tensor([1.0] * k + [-k] + [0.0] * (n - k - 1)) / math.sqrt(2 * k * (k + 1))
        p = p + torch.diag_embed(1j * normal[..., 2 * pairs + k - 1, None] * pattern)
    return p


def _kinetic(momenta: Tensor) -> Tensor:
    """Half of the sum of inner(P, P)."""
    share = 0.5 if momenta.shape[-1] == 1 else 1.0
    return share * torch.view_as_real(momenta).double().square().sum((1, 2, 3, 4))
