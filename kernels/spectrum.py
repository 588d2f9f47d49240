"""Eigenphases of SU(N): the alcove, its gaps, the Vandermonde determinant, and maps of the phases, for every N >= 2.

The conjugacy classes of SU(N) are the points of the Weyl alcove

    theta_1 <= ... <= theta_N,   sum theta_k = 0,   theta_N - theta_1 <= 2 pi.

Its coordinates here are the N gaps g_k = theta_{k+1} - theta_k, the last one closing the circle,
g_N = 2 pi - (theta_N - theta_1): they are >= 0 and sum to 2 pi, a simplex. Walls of the simplex are coinciding
eigenvalues; its corners are the N centre elements, the identity being g = (0, ..., 0, 2 pi).
"""

import functools
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lattice_flows.kernels.matrices import adjoint, project
from lattice_flows.kernels.unitary_eig import unitary_eig

Decomposition = Callable[[Tensor], tuple[Tensor, Tensor]]


class _Eigenphases(torch.autograd.Function):
    @staticmethod
    def forward(w, decompose):
        return alcove(*decompose(w))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_phases, _):
        w, frame = ctx.saved_tensors
        return 1j * (w @ (frame * grad_phases.unsqueeze(-2)) @ adjoint(frame)), None


def eigenphases(w: Tensor, decompose: Decomposition = unitary_eig) -> tuple[Tensor, Tensor]:
    """Phases `(..., N)` in the alcove and frame V `(..., N, N)` of SU(N) matrices w = V diag(e^{i theta}) V^dagger.

    The phases carry the gradient d theta_k = (V^dagger (-i w^dagger dw) V)_kk; the frame carries none, being defined
    up to a phase per column: `displacement` has the gradient that does not depend on that phase. Once differentiable.
    The references of ops give their own `decompose`, to depend on nothing that is compiled.

    Example:
        >>> import torch
        >>> phases, frame = eigenphases(torch.diag(torch.exp(1j * torch.tensor([3.0, 3.0, -6.0]))))
        >>> phases
        tensor([-3.2832,  0.2832,  3.0000])
    """
    return _Eigenphases.apply(w, decompose)


def alcove(phases: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Shift phases by multiples of 2 pi and sort them, with the columns of the frame, into the alcove.

    The order comes from the phases alone: sorting by eigenvector components would break the symmetry.
    """
    n = phases.shape[-1]
    ranks = torch.argsort(torch.argsort(phases, dim=-1), dim=-1)
    winding = torch.round(phases.sum(-1, keepdim=True) / (2 * math.pi))
    down = (ranks >= n - winding).to(phases.dtype)
    up = (ranks < -winding).to(phases.dtype)
    phases, order = torch.sort(phases + 2 * math.pi * (up - down), dim=-1)
    return phases, torch.take_along_dim(frame, order.unsqueeze(-2), dim=-1)


def gaps(phases: Tensor) -> Tensor:
    """The gaps `(..., N)` of phases in the alcove, kept at least one rounding error from 0 so that ratios stay finite.

    Example:
        >>> import torch
        >>> gaps(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([1.0000, 1.0000, 4.2832])
    """
    inner = phases.diff(dim=-1)
    # 2 pi as twice the rounded pi and what it lacks: near other centre elements the difference keeps its digits
    closing = (math.pi - phases[..., -1:]) + (math.pi + phases[..., :1]) + 2.4492935982947064e-16
    return torch.cat((inner, closing), dim=-1).clamp_min(torch.finfo(phases.dtype).eps)


def phases_from_gaps(gap: Tensor) -> Tensor:
    """The phases `(..., N)`, summing to 0, whose gaps are `gap`; of differences of gaps, the differences of phases."""
    n = gap.shape[-1]
    climb = torch.cat((torch.zeros_like(gap[..., :1]), gap[..., :-1].cumsum(-1)), dim=-1)
    return climb - climb.sum(-1, keepdim=True) / n


@functools.cache
def pairs(n: int) -> tuple[list[int], list[int]]:
    """The indices i and j of all pairs i < j, in the order of the last axis of `arcs`."""
    i, j = zip(*itertools.combinations(range(n), 2), strict=True)
    return list(i), list(j)


def arcs(gap: Tensor) -> tuple[Tensor, Tensor]:
    """The two arcs `(..., pairs)` between every two phases, each a sum of gaps, so that short ones stay precise.

    The first runs up from the lower phase of the alcove, the second closes the circle.

    Example:
        >>> import torch
        >>> arcs(torch.tensor([0.5, 1.0, 4.7832]))
        (tensor([0.5000, 1.5000, 1.0000]), tensor([5.7832, 4.7832, 5.2832]))
    """
    n = gap.shape[-1]
    gaps_between = [[i <= k < j for i, j in zip(*pairs(n), strict=True)] for k in range(n)]
    between = torch.tensor(gaps_between, dtype=gap.dtype, device=gap.device)
    return gap @ between, gap @ (1 - between)


def log_vandermonde(gap: Tensor) -> Tensor:
    """sum_{i<j} 2 log(2 sin((theta_j - theta_i) / 2)), `(...)`, from the gaps: the Haar density of the phases.

    The sine is taken of the shorter arc between two phases, so that no gap, however small, loses its digits.

    Example:
        >>> import math, torch
        >>> float(log_vandermonde(torch.tensor([math.pi, math.pi])))  # 2 log 2
        1.38629...
    """
    return 2 * (2 * _sines(gap)).log().sum(-1)


def log_vandermonde_ratio(new_gap: Tensor, gap: Tensor) -> Tensor:
    """log_vandermonde(new_gap) - log_vandermonde(gap), `(...)`, without the cancellation between large logarithms."""
    return 2 * (_sines(new_gap) / _sines(gap)).log().sum(-1)


def _sines(gap: Tensor) -> Tensor:
    return torch.sin(torch.minimum(*arcs(gap)) / 2)


def turn(angle: Tensor) -> Tensor:
    """e^{i angle}."""
    return torch.polar(torch.ones_like(angle), angle)


class _Displacement(torch.autograd.Function):
    @staticmethod
    def forward(w, shift, frame, gap, new_gap):
        return (frame * turn(shift).unsqueeze(-2)) @ adjoint(frame)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        w, shift, frame, gap, new_gap = ctx.saved_tensors
        grad = adjoint(frame) @ grad @ frame
        grad_shift = (grad.diagonal(dim1=-2, dim2=-1).conj_physical() * turn(shift)).imag.neg()
        (arc, rest), (new_arc, new_rest) = arcs(gap), arcs(new_gap)
        nearer = arc <= rest
        change = torch.where(nearer, new_arc - arc, rest - new_rest)
        step = torch.where(nearer, arc, -rest) / 2
        ratio = torch.sin(change / 2) / torch.sin(step)
        i, j = pairs(gap.shape[-1])
        # conj of the divided difference (e^{i d_j} - e^{i d_i}) / (e^{i (theta_j - theta_i)} - 1), d the shift
        mean = (shift[..., i] + shift[..., j]) / 2
        mixing = torch.zeros_like(grad)
        mixing[..., i, j] = torch.polar(ratio, step - mean)
        mixing[..., j, i] = torch.polar(ratio, -step - mean)
        return w @ (frame @ (mixing * grad) @ adjoint(frame)), grad_shift, None, None, None


def displacement(w: Tensor, shift: Tensor, frame: Tensor, gap: Tensor, new_gap: Tensor) -> Tensor:
    """g = V diag(e^{i shift}) V^dagger `(..., N, N)`, the factor that takes w to the matrix with shifted eigenphases.

    `shift` is a function of the phases of w that is differentiated on its own; this adds the turning of the frame,

        (V^dagger dg V)_ij = q_ij (V^dagger w^dagger dw V)_ij,
        q_ij = (e^{i shift_j} - e^{i shift_i}) / (e^{i (theta_j - theta_i)} - 1)

    for i != j, as a divided difference (Yu. Daleckii and S. Krein, 1951) that is finite where phases meet: it is a
    ratio of sines of sums of gaps. `gap` and `new_gap` are the gaps before and after the shift. Once differentiable.
    """
    return _Displacement.apply(w, shift, frame, gap.detach(), new_gap.detach())


def tangent(w: Tensor, gradient: Tensor) -> Tensor:
    """The part of a gradient `(..., N, N)` that is tangent to SU(N) at w: w X, X traceless and anti-Hermitian."""
    return w @ project(adjoint(w) @ gradient)
