"""algebra_exp for GPUs, in Triton: one traceless anti-Hermitian 2 x 2 or 3 x 3 matrix a lane.

For SU(2), exp(i q.sigma) = cos|q| + i (sin|q| / |q|) q.sigma. For SU(3), x = V diag(i lambda) V^dagger is diagonalised
by Jacobi rotations; the closed form of C. Morningstar and M. Peardon, hep-lat/0311018, would need expansions where x is
small and where two lambda meet, and this needs none: V is unitary there as everywhere. The derivative of exp is

    (V^dagger dexp(x) V)_ij = e^{i (lambda_i + lambda_j) / 2} sinc((lambda_i - lambda_j) / 2) (V^dagger dx V)_ij,

after Yu. Daleckii and S. Krein, 1951.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import (
    as_reals,
    block_of_lanes,
    diagonalise,
    direction,
    inside,
    jit,
    launch,
    load_columns,
    load_quaternion,
    mul,
    outside,
    rebuild,
    sin,
    sincos,
    slope_of_phase,
    store_columns,
    store_quaternion,
    tl,
)


def algebra_exp(x: Tensor) -> Tensor:
    """exp of the traceless anti-Hermitian part of x `(M, N, N)`, N = 2 or 3."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    launch(forward_kernel, len(x), as_reals(x), torch.view_as_real(out), len(x), N=x.shape[-1])
    return out


def algebra_exp_backward(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of x from that of exp(x), projected to traceless anti-Hermitian matrices."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    launch(backward_kernel, len(x), as_reals(x), as_reals(grad), torch.view_as_real(out), len(x), N=x.shape[-1])
    return out


@jit
def _sinc(x):
    """sin(x) / x, whose rounding is good for any x but 0."""
    zero = x == 0
    return tl.where(zero, 1.0, sin(x) / tl.where(zero, 1.0, x))


@jit
def _half_difference(a, b):
    """An element of the anti-Hermitian part, from the element and that across the diagonal; and minus its conjugate."""
    real, imag = (a[0] - b[0]) / 2, (a[1] + b[1]) / 2
    return (real, imag), (-real, imag)


@jit
def _eigen(xs, lane):
    """The lambda, and V, of the traceless anti-Hermitian part."""
    x, y, z = load_columns(xs, lane)
    zero = tl.zeros_like(x[0][0])
    mean = (x[0][1] + y[1][1] + z[2][1]) / 3
    x01, x10 = _half_difference(y[0], x[1])
    x02, x20 = _half_difference(z[0], x[2])
    x12, x21 = _half_difference(z[1], y[2])
    diagonal, v = diagonalise(
        (((zero, x[0][1] - mean), x10, x20), (x01, (zero, y[1][1] - mean), x21), (x02, x12, (zero, z[2][1] - mean)))
    )
    return diagonal[0][1], diagonal[1][1], diagonal[2][1], v


@jit
def forward_kernel(xs, outs, count, N: tl.constexpr, BLOCK: tl.constexpr):
    """Exponentials of a block of matrices."""
    lane, valid = block_of_lanes(count, BLOCK)
    if N == 2:
        _, x, y, z = load_quaternion(xs, lane)
        r, _ = direction(x, y, z)
        s = _sinc(r)
        store_quaternion(outs, lane, sincos(r)[1], s * x, s * y, s * z, valid)
    else:
        a, b, c, v = _eigen(xs, lane)
        store_columns(outs, lane, rebuild(v, a, b, c), valid)


@jit
def _turned(upper, lower, a, b):
    """The upper element of the anti-Hermitian part of conj(q) G, q = e^{i (a + b) / 2} sinc((a - b) / 2)."""
    sine, cosine = sincos((a + b) / 2)
    x, y = mul((cosine, -sine), upper), mul((cosine, -sine), lower)
    half = _sinc((a - b) / 2) / 2
    return half * (x[0] - y[0]), half * (x[1] + y[1])


@jit
def backward_kernel(xs, grads, outs, count, N: tl.constexpr, BLOCK: tl.constexpr):
    """Gradients of a block of matrices."""
    lane, valid = block_of_lanes(count, BLOCK)
    if N == 2:
        _, x, y, z = load_quaternion(xs, lane)
        g, gx, gy, gz = load_quaternion(grads, lane)
        r, n = direction(x, y, z)
        s, along = _sinc(r), gx * n[0] + gy * n[1] + gz * n[2]
        sine, cosine = sincos(r)
        # along n the derivative of (cos r, sin r n), across it that of sinc(r) q
        radial = cosine * along - sine * g - s * along
        gx, gy, gz = s * gx + radial * n[0], s * gy + radial * n[1], s * gz + radial * n[2]
        store_quaternion(outs, lane, tl.zeros_like(r), gx, gy, gz, valid)
    else:
        a, b, c, v = _eigen(xs, lane)
        g = inside(v, load_columns(grads, lane))
        x, y, z = slope_of_phase(g[0][0], a), slope_of_phase(g[1][1], b), slope_of_phase(g[2][2], c)
        trace = (x + y + z) / 3
        upper = _turned(g[1][0], g[0][1], a, b), _turned(g[2][0], g[0][2], a, c), _turned(g[2][1], g[1][2], b, c)
        store_columns(outs, lane, outside(v, v, (x - trace, y - trace, z - trace), upper), valid)
