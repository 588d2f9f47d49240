"""spectral_flow of SU(2) and SU(3) for GPUs, in Triton: one matrix a lane.

The pieces of the stick are the gaps between eigenphases, the closing one first. Cotangents, named c_..., are of the
pieces along their constraint, that they sum to 2 pi. Where W comes with NaN, or is far from unitary, so does g.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lattice_flows.kernels.triton_common import (
    OPEN,
    SHARED,
    TWO_PI,
    as_reals,
    at_least,
    atan2,
    block_of_lanes,
    blocks,
    cot_half_regular,
    diagonalise,
    direction,
    follow,
    follow_back,
    inside,
    jit,
    launch,
    load_columns,
    load_quaternion,
    mul,
    offsets,
    outside,
    rebuild,
    rounding,
    sin,
    sincos,
    slope_of_phase,
    store_columns,
    store_gradients,
    store_quaternion,
    tl,
)


def spectral_flow(w: Tensor, params: Tensor, bins: int, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """g `(B, A, N, N)` and logdet `(B, A)` of w `(B, A, N, N)`, N = 2 or 3, and params `(B, A, P)` of any strides."""
    g = torch.empty_like(w, memory_format=torch.contiguous_format)
    logdet = torch.empty(w.shape[:2], dtype=params.dtype, device=params.device)
    kernel = su2_forward if w.shape[-1] == 2 else su3_forward
    launch(
        kernel, logdet.numel(), as_reals(w), params.detach(), torch.view_as_real(g), logdet, logdet.numel(),
        w.shape[1], *params.stride(), BINS=bins, INVERSE=inverse,
    )  # fmt: skip
    return g, logdet


def spectral_flow_backward(
    w: Tensor, params: Tensor, grad_g: Tensor, grad_logdet: Tensor, bins: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of w, its part tangent to the group, and of the parameters, with the strides of empty_like."""
    grad_w, grad_params = torch.empty_like(w, memory_format=torch.contiguous_format), torch.empty_like(params)
    count = w.shape[0] * w.shape[1]
    arguments = (
        as_reals(w), params.detach(), as_reals(grad_g), grad_logdet.contiguous(), torch.view_as_real(grad_w),
        grad_params, count, w.shape[1], *params.stride(), *grad_params.stride(),
    )  # fmt: skip
    if w.shape[-1] == 2:
        launch(su2_backward, count, *arguments, BINS=bins, INVERSE=inverse)
    else:
        crowded = torch.zeros(blocks(count), dtype=torch.int32, device=w.device)
        for in_double in (False,) if params.dtype == torch.float64 else (False, True):
            launch(su3_backward, count, *arguments, crowded, BINS=bins, INVERSE=inverse, IN_DOUBLE=in_double)
    return grad_w, grad_params


@jit
def _log_sines(arc, other, new_arc, new_other):
    """Of two phases, their part of the log of the ratio of Vandermonde determinants, from the arcs between them."""
    return 2 * tl.log(sin(tl.minimum(new_arc, new_other) / 2) / sin(tl.minimum(arc, other) / 2))


@jit
def _log_sines_back(c, arc, other, new_arc, new_other, SPLIT_OTHER: tl.constexpr):
    """Cotangents of new_arc, of arc, of log(new_arc / arc), and of log(new_other / other) if SPLIT_OTHER."""
    near, new_near = arc <= other, new_arc <= new_other
    short, new_short = tl.minimum(arc, other), tl.minimum(new_arc, new_other)
    split_near, split_far = near & new_near, (arc > other) & (new_arc > new_other)
    split = split_near
    if SPLIT_OTHER:
        split = split_near | split_far
    slope = c * (cot_half_regular(short) + tl.where(split, 0.0, 2 / short))
    new_slope = c * (cot_half_regular(new_short) + tl.where(split, 0.0, 2 / new_short))
    return (
        tl.where(new_near, new_slope, -new_slope),
        tl.where(near, -slope, slope),
        tl.where(split_near, 2 * c, 0.0),
        tl.where(split_far, 2 * c, 0.0),
    )


@jit
def _smallest_gap(x, N: tl.constexpr):
    """What gaps are kept above, so that ratios are finite; below it phases coincide. SU(2) has more digits."""
    if N == 2:
        return 1e-18
    elif x.dtype == tl.float64:
        return rounding(x)
    else:
        return 1e-9


@jit
def _su2_phases(w, lane):
    """The quaternion (cosine, sine, axis) of w, and the two pieces before they are kept from 0."""
    cosine, x, y, z = load_quaternion(w, lane)
    sine, axis = direction(x, y, z)
    return cosine, sine, axis, 2 * atan2(sine, -cosine), 2 * atan2(sine, cosine)


@jit
def _su2_pieces(closing, inner, params, stride, BINS: tl.constexpr, INVERSE: tl.constexpr):
    """The two pieces, kept from 0, and the new ones; the stick, and the `follow` of the place on it."""
    low = _smallest_gap(closing, 2)
    closing, inner = at_least(closing, low), at_least(inner, low)
    stick = closing + inner
    path = follow(params, stride, tl.zeros_like(stick) + 1, closing / stick, inner / stick, BINS, OPEN, INVERSE)
    return closing, inner, stick * path[2], stick * path[3], stick, path


@jit
def su2_forward(
    ws, numbers, gs, logdets, count, rows, outer_stride, row_stride, stride,
    BINS: tl.constexpr, INVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """g and the log-determinants of a block of SU(2) matrices."""
    lane, valid = block_of_lanes(count, BLOCK)
    _, _, axis, closing, inner = _su2_phases(ws, lane)
    here = numbers + offsets(lane, rows, outer_stride, row_stride)
    closing, inner, new_closing, new_inner, _, path = _su2_pieces(closing, inner, here, stride, BINS, INVERSE)
    logdet = path[4] + _log_sines(inner, closing, new_inner, new_closing)
    sine, cosine = sincos((new_inner - inner) / 2)
    store_quaternion(gs, lane, cosine, sine * axis[0], sine * axis[1], sine * axis[2], valid)
    tl.store(logdets + lane, logdet, mask=valid)


@jit
def su2_backward(
    ws, numbers, grad_gs, grad_logdets, grad_ws, grad_params, count, rows,
    outer_stride, row_stride, stride, grad_outer_stride, grad_row_stride, grad_stride,
    BINS: tl.constexpr, INVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of SU(2) matrices and of their parameters.

    With W = cos(theta) + i sin(theta) n.sigma and dW = W i xi.sigma, n.xi is the change of theta, and across n
    sin(theta) dn = cos(theta) xi - sin(theta) n x xi.
    """
    lane, valid = block_of_lanes(count, BLOCK)
    cosine, sine, n, raw_closing, raw_inner = _su2_phases(ws, lane)
    here = numbers + offsets(lane, rows, outer_stride, row_stride)
    grads = grad_params + offsets(lane, rows, grad_outer_stride, grad_row_stride)
    closing, inner, new_closing, new_inner, stick, path = _su2_pieces(
        raw_closing, raw_inner, here, stride, BINS, INVERSE
    )

    g, gx, gy, gz = load_quaternion(grad_gs, lane)
    along = gx * n[0] + gy * n[1] + gz * n[2]
    # of new_inner; dL = Re tr(grad_g^dagger dg) is twice the product of the quaternions, and shift half of the change
    c_change = slope_of_phase((g, along), (new_inner - inner) / 2)
    c_logdet = tl.load(grad_logdets + lane)
    c_new, c_old, c_rest, c_ratio = _log_sines_back(c_logdet, inner, closing, new_inner, new_closing, True)
    c_x, cotangents = follow_back(path, -stick * (c_new + c_change), c_logdet, c_ratio, c_rest, BINS, INVERSE)
    zero = tl.zeros_like(c_x)
    store_gradients(here, stride, grads, grad_stride, path, cotangents, zero, valid, BINS, OPEN)
    # half of dL, the component of i v.sigma: inner is 2 theta; where the phases coincide, their distance is at a cusp
    c_theta = c_old - c_change - c_x / stick
    low = _smallest_gap(raw_closing, 2)
    c_theta = tl.where((raw_inner < low) | (raw_closing < low), 0.0, c_theta)

    near = inner <= closing
    change = tl.where(near, new_inner - inner, closing - new_closing)
    turn = sin(change / 2) / sin(tl.minimum(inner, closing) / 2)
    # across n, and then the rest along it
    vx = turn * (cosine * gx - sine * (gy * n[2] - gz * n[1]))
    vy = turn * (cosine * gy - sine * (gz * n[0] - gx * n[2]))
    vz = turn * (cosine * gz - sine * (gx * n[1] - gy * n[0]))
    along = c_theta - turn * cosine * along
    vx, vy, vz = vx + along * n[0], vy + along * n[1], vz + along * n[2]
    # W i v.sigma
    wx, wy, wz = sine * n[0], sine * n[1], sine * n[2]
    store_quaternion(
        grad_ws, lane, -(wx * vx + wy * vy + wz * vz), cosine * vx - (wy * vz - wz * vy),
        cosine * vy - (wz * vx - wx * vz), cosine * vz - (wx * vy - wy * vx), valid,
    )  # fmt: skip


@jit
def _exchange(a, b, v, w):
    """Two phases in order, with their vectors."""
    swap = a > b
    low, high = tl.where(swap, b, a), tl.where(swap, a, b)
    return low, high, _select(swap, w, v), _select(swap, v, w)


@jit
def _select(condition, a, b):
    return (
        (tl.where(condition, a[0][0], b[0][0]), tl.where(condition, a[0][1], b[0][1])),
        (tl.where(condition, a[1][0], b[1][0]), tl.where(condition, a[1][1], b[1][1])),
        (tl.where(condition, a[2][0], b[2][0]), tl.where(condition, a[2][1], b[2][1])),
    )


@jit
def _su3_phases(ws, lane):
    """Phases in [-pi, pi] in order, their vectors, and how often they wind: their sum is 2 pi times that."""
    x, y, z = load_columns(ws, lane)
    # Of W - 1 rather than W: near the identity its anti-Hermitian entries keep their relative precision.
    x = (x[0][0] - 1, x[0][1]), x[1], x[2]
    y = y[0], (y[1][0] - 1, y[1][1]), y[2]
    z = z[0], z[1], (z[2][0] - 1, z[2][1])
    diagonal, v = diagonalise((x, y, z))
    p, q, r = diagonal
    a, b, c = atan2(p[1], p[0] + 1), atan2(q[1], q[0] + 1), atan2(r[1], r[0] + 1)
    u, v, w = v
    a, b, u, v = _exchange(a, b, u, v)
    b, c, v, w = _exchange(b, c, v, w)
    a, b, u, v = _exchange(a, b, u, v)
    return (a, b, c), (u, v, w), tl.floor((a + b + c) / TWO_PI + 0.5)


@jit
def _cycled(x, left, right):
    """Three numbers, where asked for moved by one place."""
    a, b, c = x
    return (
        tl.where(left, b, tl.where(right, c, a)),
        tl.where(left, c, tl.where(right, a, b)),
        tl.where(left, a, tl.where(right, b, c)),
    )


@jit
def _pieces(gaps, winding):
    """From the gaps after each of the sorted phases to the pieces: piece k is gap k - 1 - winding, counted round."""
    return _cycled(gaps, winding > 0, winding == 0)


@jit
def _gaps(pieces, winding):
    """From the pieces to the gaps."""
    return _cycled(pieces, winding == 0, winding > 0)


@jit
def _kept(gaps):
    """Gaps kept away from 0."""
    low = _smallest_gap(gaps[0], 3)
    return at_least(gaps[0], low), at_least(gaps[1], low), at_least(gaps[2], low)


@jit
def _su3_pieces(pieces, params, stride, BINS: tl.constexpr, INVERSE: tl.constexpr):
    """For each spline in turn, its `follow`, after the new pieces and what is left of the stick."""
    stick, left = pieces[0] + pieces[1] + pieces[2], pieces[1] + pieces[2]
    one = tl.zeros_like(stick) + 1
    first = follow(params, stride, one, pieces[0] / stick, left / stick, BINS, OPEN, INVERSE)
    new_left = stick * first[3]
    # what is left of the stick on the side of the widths scales the second spline's parameters
    scale = first[3] if INVERSE else first[1]
    second = follow(params, stride, scale, pieces[1] / left, pieces[2] / left, BINS, SHARED, INVERSE)
    return (stick * first[2], new_left * second[2], new_left * second[3]), stick, left, new_left, first, second


@jit
def _su3_shifts(gaps, new_gaps):
    """The changes of the sorted phases, which sum to 0."""
    a, b = new_gaps[0] - gaps[0], new_gaps[1] - gaps[1]
    mean = (2 * a + b) / 3
    return -mean, a - mean, a + b - mean


@jit
def su3_forward(
    ws, numbers, gs, logdets, count, rows, outer_stride, row_stride, stride,
    BINS: tl.constexpr, INVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """g and the log-determinants of a block of SU(3) matrices."""
    lane, valid = block_of_lanes(count, BLOCK)
    phases, v, winding = _su3_phases(ws, lane)
    gaps = _kept((phases[1] - phases[0], phases[2] - phases[1], phases[0] - phases[2] + TWO_PI))
    here = numbers + offsets(lane, rows, outer_stride, row_stride)
    p = _pieces(gaps, winding)
    n, _, left, new_left, first, second = _su3_pieces(p, here, stride, BINS, INVERSE)
    logdet = first[4] + second[4] + tl.log(new_left / left)
    logdet += _log_sines(p[0], left, n[0], new_left)
    logdet += _log_sines(p[1], p[0] + p[2], n[1], n[0] + n[2])
    logdet += _log_sines(p[2], p[0] + p[1], n[2], n[0] + n[1])
    shifts = _su3_shifts(gaps, _gaps(n, winding))
    store_columns(gs, lane, rebuild(v, shifts[0], shifts[1], shifts[2]), valid)
    tl.store(logdets + lane, logdet, mask=valid)


@jit
def _su3_pieces_back(
    c_log, c_new, p, n, stick, left, new_left, first, second,
    params, stride, grads, grad_stride, valid, BINS: tl.constexpr, INVERSE: tl.constexpr,
):  # fmt: skip
    """Cotangents of the pieces, from c_new of the new ones and c_log of the log-determinant; stores the parameters'."""
    n0, p0, ratio_0, ratio_left = _log_sines_back(c_log, p[0], left, n[0], new_left, True)
    n1, p1, ratio_1, _ = _log_sines_back(c_log, p[1], p[0] + p[2], n[1], n[0] + n[2], False)
    n2, p2, ratio_2, _ = _log_sines_back(c_log, p[2], p[0] + p[1], n[2], n[0] + n[1], False)
    n0, n1, n2 = n0 + c_new[0], n1 + c_new[1], n2 + c_new[2]
    # the ratio of the last two pieces is that of what is left times that in the second spline
    c_x, cotangents = follow_back(second, new_left * (n1 - n2), c_log, ratio_1, ratio_2, BINS, INVERSE)
    none = tl.zeros_like(c_x)
    c_scale, shared = store_gradients(params, stride, grads, grad_stride, second, cotangents, none, valid, BINS, SHARED)
    c_scale = c_scale / stick
    c_left, c_new_left = none, n1 * second[2] + n2 * second[3]
    if INVERSE:
        c_new_left += c_scale
    else:
        c_left += c_scale
    p1 += c_x * second[1] / left + c_left
    p2 += c_left - c_x * second[0] / left
    c_rest = c_log + ratio_left + ratio_1 + ratio_2
    c_x, cotangents = follow_back(first, stick * (n0 - c_new_left), c_log, ratio_0, c_rest, BINS, INVERSE)
    store_gradients(params, stride, grads, grad_stride, first, cotangents, shared, valid, BINS, OPEN)
    return p0 + c_x / stick, p1, p2


@jit
def _turned(upper, lower, arc, other, new_arc, new_other, mean):
    """The upper element of the anti-Hermitian part of conj(q) G, for phases `arc` apart.

    q = (e^{i d_j} - e^{i d_i}) / (e^{i arc} - 1), a ratio of sines of the shorter arc and of its change, whose phase is
    that of `mean`, the mean of d_i and d_j, less half the arc.
    """
    near = arc <= other
    change = tl.where(near, new_arc - arc, other - new_other)
    step = tl.where(near, arc, -other) / 2
    turn, half_arc = sincos(mean), sincos(step)
    half = sin(change / 2) / half_arc[0] / 2
    x, y = mul((turn[1], -turn[0]), upper), mul((turn[1], -turn[0]), lower)
    x, y = mul((half_arc[1], half_arc[0]), x), mul((half_arc[1], -half_arc[0]), y)
    return half * (x[0] - y[0]), half * (x[1] + y[1])


@jit
def _without_closed(gaps, c):
    """Cotangents of gaps, those of closed ones made the mean of the others: coinciding phases have no order."""
    low = _smallest_gap(gaps[0], 3)
    x, y, z = gaps[0] < low, gaps[1] < low, gaps[2] < low
    open_sum = tl.where(x, 0.0, c[0]) + tl.where(y, 0.0, c[1]) + tl.where(z, 0.0, c[2])
    mean = open_sum / (tl.where(x, 0.0, 1.0) + tl.where(y, 0.0, 1.0) + tl.where(z, 0.0, 1.0))
    return tl.where(x, mean, c[0]), tl.where(y, mean, c[1]), tl.where(z, mean, c[2])


@jit
def _times_phase(v, angle):
    sine, cosine = sincos(angle)
    z = cosine, sine
    return mul(z, v[0]), mul(z, v[1]), mul(z, v[2])


@jit
def _crowded(gaps):
    """Whether two phases nearly meet, or three, and derivatives are small differences of large numbers."""
    x, y, z = gaps
    of_two = tl.minimum(x, tl.minimum(y, z))
    of_three = tl.minimum(x + y, tl.minimum(y + z, z + x))
    return (of_two < 0.005) | (of_three < 0.06)


@jit
def su3_backward(
    ws, numbers, grad_gs, grad_logdets, grad_ws, grad_params, count, rows,
    outer_stride, row_stride, stride, grad_outer_stride, grad_row_stride, grad_stride, crowded,
    BINS: tl.constexpr, INVERSE: tl.constexpr, IN_DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of SU(3) matrices and of their parameters; the forward pass is computed anew.

    Blocks in which phases nearly meet are marked in `crowded`. A second pass with IN_DOUBLE computes these again, with
    all that follows from the phases in double precision.
    """
    if IN_DOUBLE and tl.load(crowded + tl.program_id(0)) == 0:
        return
    lane, valid = block_of_lanes(count, BLOCK)
    phases, v, winding = _su3_phases(ws, lane)
    if IN_DOUBLE:
        phases = phases[0].to(tl.float64), phases[1].to(tl.float64), phases[2].to(tl.float64)
    raw = phases[1] - phases[0], phases[2] - phases[1], phases[0] - phases[2] + TWO_PI
    gaps = _kept(raw)
    if not IN_DOUBLE:
        tl.store(crowded + tl.program_id(0) + tl.zeros_like(lane), 1, mask=_crowded(gaps))
    here = numbers + offsets(lane, rows, outer_stride, row_stride)
    grads = grad_params + offsets(lane, rows, grad_outer_stride, grad_row_stride)
    p = _pieces(gaps, winding)
    n, stick, left, new_left, first, second = _su3_pieces(p, here, stride, BINS, INVERSE)
    new_gaps = _gaps(n, winding)
    a, b, c = _su3_shifts(gaps, new_gaps)

    g = inside(v, load_columns(grad_gs, lane))
    x, y, z = slope_of_phase(g[0][0], a), slope_of_phase(g[1][1], b), slope_of_phase(g[2][2], c)
    mean = (x + y + z) / 3
    c_changes = y + z - 2 * mean, z - mean, tl.zeros_like(mean)
    c_pieces = _su3_pieces_back(
        tl.load(grad_logdets + lane), _pieces(c_changes, winding), p, n, stick, left, new_left, first, second,
        here, stride, grads, grad_stride, valid, BINS, INVERSE,
    )  # fmt: skip
    c_gaps = _gaps(c_pieces, winding)
    d, e, f = _without_closed(raw, (c_gaps[0] - c_changes[0], c_gaps[1] - c_changes[1], c_gaps[2]))
    upper = (
        _turned(g[1][0], g[0][1], gaps[0], gaps[1] + gaps[2], new_gaps[0], new_gaps[1] + new_gaps[2], (a + b) / 2),
        _turned(g[2][0], g[0][2], gaps[0] + gaps[1], gaps[2], new_gaps[0] + new_gaps[1], new_gaps[2], (a + c) / 2),
        _turned(g[2][1], g[1][2], gaps[1], gaps[2] + gaps[0], new_gaps[1], new_gaps[2] + new_gaps[0], (b + c) / 2),
    )
    turned = _times_phase(v[0], phases[0]), _times_phase(v[1], phases[1]), _times_phase(v[2], phases[2])
    store_columns(grad_ws, lane, outside(turned, v, (f - d, d - e, e - f), upper), valid)
