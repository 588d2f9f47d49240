"""heat_bath and over_relaxation in plain PyTorch: the definition of the ops.

An element of SU(2), w + i (x, y, z) . sigma, is a quaternion `(..., 4)`.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lattice_flows.kernels.matrices import orthonormal

SMALL = 1.3
"""The k above which drawing as Kennedy and Pendleton do is accepted more often than drawing from Haar's measure."""


def heat_bath(elements: Tensor, staples: Tensor, strength: float, uniforms: Tensor) -> Tensor:
    """New elements `(n, N, N)`; see `lattice_flows.kernels.heat_bath`."""

    def choose(length: Tensor, direction: Tensor, pair: int) -> tuple[Tensor, Tensor]:
        k = 2 * strength * length
        b, waiting = direction, k == k  # where nothing is accepted a is 1, or NaN where k is
        for r in uniforms[:, pair].unbind(1):
            (small, small_accepted), (large, large_accepted) = _from_haar(r, k), _kennedy_pendleton(r, k)
            new = torch.where((k < SMALL)[:, None], small, large)
            accepted = torch.where(k < SMALL, small_accepted, large_accepted)
            b = torch.where((accepted & waiting)[:, None], new, b)
            waiting = waiting & ~accepted
        return _multiply(b, _inverse(direction)), ~waiting

    return _pass(elements, staples, choose)


def over_relaxation(elements: Tensor, staples: Tensor) -> Tensor:
    """New elements `(n, N, N)`; see `lattice_flows.kernels.heat_bath.over_relaxation`."""

    def choose(length: Tensor, direction: Tensor, pair: int) -> tuple[Tensor, Tensor]:
        return _multiply(_inverse(direction), _inverse(direction)), torch.ones_like(length, dtype=torch.bool)

    return _pass(elements, staples, choose)


def _pass(elements: Tensor, staples: Tensor, choose: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]) -> Tensor:
    """Every SU(2) subgroup in turn takes U to a U.

    choose(length, direction, number of the subgroup) gives a and where it is to be used. Re tr(a U S) is, but for what
    a does not change, length Re tr(a direction).
    """
    before, moved = elements, torch.zeros(len(elements), dtype=torch.bool, device=elements.device)
    for pair, rows in enumerate(itertools.combinations(range(elements.shape[-1]), 2)):
        index = torch.tensor(rows, device=elements.device)
        block = (elements @ staples)[:, index][:, :, index]
        v = torch.stack(
            (
                block[:, 0, 0].real + block[:, 1, 1].real,
                block[:, 0, 1].imag + block[:, 1, 0].imag,
                block[:, 0, 1].real - block[:, 1, 0].real,
                block[:, 0, 0].imag - block[:, 1, 1].imag,
            ),
            dim=-1,
        )
        length = v.square().sum(-1).sqrt()
        still = length.square() < torch.finfo(length.dtype).tiny
        one = torch.zeros_like(v).index_fill_(1, torch.tensor([0], device=v.device), 1.0)
        direction = torch.where(still[:, None], one, v / length[:, None])
        a, used = choose(torch.where(still, 0.0, length / 2), direction, pair)
        moved = moved | used
        elements = elements.index_copy(1, index, _matrix(a) @ elements[:, index])
    return torch.where(moved[:, None, None], _restore(elements), before)


def _restore(elements: Tensor) -> Tensor:
    """Matrices near SU(N) made orthonormal, row after row, and of determinant 1 by a phase of the last row."""
    rows = orthonormal(elements.mT).mT
    phase = torch.sgn(torch.linalg.det(rows)).conj_physical()
    return torch.cat((rows[:, :-1], rows[:, -1:] * phase[:, None, None]), dim=1)


def _from_haar(r: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """b and whether it is accepted, for any k: one of b and -b, b from the Haar measure."""
    one, two = r[:, 0].sqrt(), (1 - r[:, 0]).sqrt()
    first, second = 2 * math.pi * r[:, 1], 2 * math.pi * r[:, 2]
    b = torch.stack((one * first.cos(), one * first.sin(), two * second.cos(), two * second.sin()), dim=-1)
    plus, minus = ((sign * k * b[:, 0] - k).exp() / (1 + (-2 * k).exp()) for sign in (1, -1))
    return torch.where((r[:, 3] < plus)[:, None], b, -b), r[:, 3] < plus + minus


def _kennedy_pendleton(r: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """b and whether it is accepted, for k > 0."""
    scale = 2 * k.clamp_min(SMALL)
    across = -(-r[:, 0]).log1p() / scale
    along = (2 * math.pi * r[:, 1]).cos() * (-(-r[:, 2]).log1p() / scale).sqrt()
    t = across + along.square()
    accepted = r[:, 3].square() < 1 - t
    root = torch.where(accepted, 1 - t, 1.0).sqrt()
    angle, radius = 2 * math.pi * r[:, 3] / root, 2 * root * across.sqrt()
    return torch.stack((1 - 2 * t, radius * angle.cos(), radius * angle.sin(), 2 * root * along), dim=-1), accepted


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """The product of quaternions."""
    vector = a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] - torch.linalg.cross(a[:, 1:], b[:, 1:])
    return torch.cat((a[:, :1] * b[:, :1] - (a[:, 1:] * b[:, 1:]).sum(-1, keepdim=True), vector), dim=-1)


def _inverse(a: Tensor) -> Tensor:
    return torch.cat((a[:, :1], -a[:, 1:]), dim=-1)


def _matrix(a: Tensor) -> Tensor:
    w, x, y, z = a.unbind(-1)
    first, second = torch.complex(w, z), torch.complex(y, x)
    return torch.stack((first, second, -second.conj_physical(), first.conj_physical()), dim=-1).unflatten(-1, (2, 2))
