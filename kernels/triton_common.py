"""What the Triton kernels share: complex numbers, atan2, splines and their derivatives, and normal 3 x 3 matrices.

A program works on a block of matrices, one a lane: every element of a matrix is a block of numbers of its own. Complex
numbers are pairs, vectors tuples of them, and matrices tuples of their columns. A constant stands to the right of an
operator and has no name of its own: Triton's interpreter would round it to single precision. Triton is optional:
without it this module and those of the kernels can be imported, but their launchers cannot be called.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch

from lattice_flows.kernels import splines

AVAILABLE = importlib.util.find_spec("triton") is not None
tl: Any = importlib.import_module("triton.language") if AVAILABLE else None
jit: Any = importlib.import_module("triton").jit if AVAILABLE else lambda function: function
COUNTS = [
    "count", "rows", "programs", "attempts", "per_set", "walks", "steps", "n", "chains", "total", "first", "size",
    "volume", "chunks",
]  # fmt: skip
any_size: Any = jit(do_not_specialize=COUNTS) if AVAILABLE else jit
"""jit for kernels that are to be compiled once, whatever these numbers are."""
constant: Any = tl.constexpr if AVAILABLE else lambda value: value

BLOCK = 128

PI = constant(3.141592653589793)
TWO_PI = constant(6.283185307179586)
MIN_BIN = constant(splines.MIN_BIN)
MIN_SLOPE = constant(splines.MIN_SLOPE)
SCALE = constant(splines.SCALE)
UNIT = constant(splines.UNIT)

# How the numbers of a spline lie among the parameters: widths, heights, then slopes of all knots; or of all but the
# last, which is the first; or, after those of another spline, of the inner ones, with its first one at both ends.
OPEN = constant(0)
CIRCULAR = constant(1)
SHARED = constant(2)


WARP = 64 if torch.version.hip else 32
"""The number of threads that go together."""


def blocks(count: int, block: int = BLOCK) -> int:
    """How many blocks hold so many lanes."""
    return (count + block - 1) // block


def launch(kernel: Any, count: int, *arguments: Any, block: int = BLOCK, **constants: Any) -> None:
    """Run a kernel on `count` lanes, a thread each, on the device of its first argument."""
    if count == 0:
        return
    with torch.cuda.device_of(arguments[0]):
        kernel[(blocks(count, block),)](
            *arguments, **constants, BLOCK=block, num_warps=block // WARP, enable_fp_fusion=True
        )


def as_reals(x: torch.Tensor) -> torch.Tensor:
    """Complex matrices as contiguous real numbers, copied only where they are not contiguous."""
    return torch.view_as_real(x.detach().resolve_conj().contiguous())


@jit
def block_of_lanes(count, BLOCK: tl.constexpr):
    """The lanes of this program, and which of them count; the others repeat the last, so that loads need no mask."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return tl.minimum(lane, count - 1), lane < count


@jit
def random_words(low, high, call, block):
    """The four words of blocks of a call of a stream, as include/philox.hpp says."""
    word = tl.uint32  # tl.philox takes wider words for Philox4x64
    return tl.philox(low, block.to(word), call.to(word), high.to(word), (high >> 32).to(word))


@jit
def unit_interval(words, DOUBLE: tl.constexpr):
    """The numbers in [0, 1) of the words of a block: two in double precision, else four."""
    a, b, c, d = words
    if DOUBLE:
        return _double(a, b), _double(c, d)
    else:
        return _single(a), _single(b), _single(c), _single(d)


@jit
def four_numbers(names, block, step, DOUBLE: tl.constexpr):
    """Four numbers in [0, 1) for each lane, as include/numbers.hpp says: of a block, or of it and the one a step on."""
    low, high, call = names
    if DOUBLE:
        first = unit_interval(random_words(low, high, call, block), True)
        second = unit_interval(random_words(low, high, call, block + step), True)
        return first[0], first[1], second[0], second[1]
    else:
        return unit_interval(random_words(low, high, call, block), False)


@jit
def _double(first, second):
    return second.to(tl.float64) * 2.3283064365386963e-10 + (first >> 11).to(tl.float64) * 1.1102230246251565e-16


@jit
def _single(word):
    return (word >> 8).to(tl.float32) * 5.960464477539063e-08


@jit
def offsets(lane, rows, outer_stride, row_stride):
    """Where the parameters of a lane begin, in a tensor with two batch axes of any strides."""
    outer = (lane // rows).to(tl.int64)
    return outer * outer_stride + (lane - outer * rows) * row_stride


@jit
def rounding(x):
    """The rounding error of 1 in the precision of x."""
    return 2.220446049250313e-16 if x.dtype == tl.float64 else 1.1920928955078125e-07


@jit
def at_least(x, low):
    """The larger of the two, or NaN where x is NaN, which tl.maximum would hide."""
    return tl.where(x < low, low, x)


@jit
def _atan_tail(z):
    """(atan(q) / q - 1) / z for z = q^2, |q| <= tan(pi / 8): interpolated at Chebyshev points."""
    if z.dtype == tl.float64:
        a = z * -0.01917392225627135927 + 0.03922923712996916795
        a = a * z - 0.05085365922019657172
        a = a * z + 0.05858132894357625946
        a = a * z - 0.06664509603246049587
        a = a * z + 0.07692183059893331191
        a = a * z - 0.09090904572487306592
        a = a * z + 0.111111110151176249
        a = a * z - 0.1428571428466481788
        a = a * z + 0.1999999999999551241
        return a * z - 0.3333333333333333015
    else:
        a = z * -0.06451509517 + 0.1074360515
        a = a * z - 0.1426394391
        a = a * z + 0.1999954015
        return a * z - 0.3333333176


@jit
def atan2(y, x):
    """The angle of (x, y); tl has none, and that of libdevice does not run in the interpreter."""
    small, large = tl.minimum(tl.abs(y), tl.abs(x)), tl.maximum(tl.abs(y), tl.abs(x))
    turned = small > large * 0.41421356237309503  # tan(pi / 8)
    below = tl.where(turned, small + large, large)
    q = tl.where(turned, small - large, small) / tl.where(below == 0, 1.0, below)
    z = q * q
    angle = q + q * z * _atan_tail(z)
    angle = tl.where(turned, angle + PI / 4, angle)
    angle = tl.where(tl.abs(y) > tl.abs(x), -angle + PI / 2, angle)
    angle = tl.where(x < 0, -angle + PI, angle)
    angle = tl.where(y < 0, -angle, angle)
    return tl.where((x == x) & (y == y), angle, x + y)


@jit
def sincos(x):
    """Sine and cosine, for angles of at most some thousands: the library's take care of huge ones in much code."""
    turns = tl.floor(x * 0.6366197723675814 + 0.5)
    if x.dtype == tl.float64:
        r = x - turns * 1.57079632673412561417 - turns * 6.07710050630396597660e-11 - turns * 2.02226624879595063154e-21
        z = r * r
        s = z * 1.591810123025134737e-10 - 2.505113145542756099e-8
        s = s * z + 2.755731610068302676e-6
        s = s * z - 0.0001984126983675497001
        s = s * z + 0.008333333333330946103
        s = s * z - 0.1666666666666666462
        c = z * -1.138261486713184665e-11 + 2.08761460246655767e-9
        c = c * z - 2.755731727056017493e-7
        c = c * z + 0.00002480158729876343276
        c = c * z - 0.001388888888888739575
        c = c * z + 0.04166666666666666539
    else:
        r = x - turns * 1.5703125 - turns * 4.837512969970703e-4 - turns * 7.549789948768648e-8
        z = r * r
        s = z * -0.0001958784052 + 0.008332748038
        s = s * z - 0.1666666466
        c = z * 2.454789162e-5 - 0.00138883028
        c = c * z + 0.04166666466
    s = r * z * s + r
    c = z * z * c - z / 2 + 1
    quarter = turns.to(tl.int32)
    swap = (quarter & 1) != 0
    sine, cosine = tl.where(swap, c, s), tl.where(swap, s, c)
    return tl.where((quarter & 2) != 0, -sine, sine), tl.where(((quarter + 1) & 2) != 0, -cosine, cosine)


@jit
def sin(x):
    """The sine, as `sincos` gives it."""
    return sincos(x)[0]


@jit
def cot_half_regular(x):
    """cot(x / 2) - 2 / x for x in (0, pi], by its Taylor series where the difference would lose digits."""
    z = x * x
    series = z * 2.6765073061369358e-11 + 1.0568380277374986e-09  # 2 |B_2n| / (2n)!
    series = series * z + 4.17535139757362e-08
    series = series * z + 1.6534391534391535e-06
    series = series * z + 6.613756613756614e-05
    series = series * z + 0.002777777777777778
    series = series * z + 0.16666666666666666
    sine, cosine = sincos(x / 2)
    direct = cosine / sine - 2 / x
    return tl.where(x < 0.5, -x * series, direct)


@jit
def softplus(x):
    """log(1 + e^x), with the rounding of 1 + e^-|x| made good."""
    e = tl.exp(-tl.abs(x))
    u = e + 1
    return tl.maximum(x, 0.0) + tl.log(u) + (e - (u - 1)) / u


@jit
def sigmoid(x):
    """1 / (1 + e^-x), without overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0, e, 1.0) / (1 + e)


@jit
def _slope_place(knot, BINS: tl.constexpr, LAYOUT: tl.constexpr):
    """Which parameter holds the slope at a knot."""
    if LAYOUT == CIRCULAR:
        place = 2 * BINS + tl.where(knot == BINS, 0, knot)
    elif LAYOUT == SHARED:
        place = tl.where((knot == 0) | (knot == BINS), 2 * BINS, 5 * BINS + knot)
    else:
        place = 2 * BINS + knot
    return place.to(tl.int64)


@jit
def _first_place(BINS: tl.constexpr, LAYOUT: tl.constexpr):
    """Which parameter holds the first width."""
    return 3 * BINS + 1 if LAYOUT == SHARED else 0


@jit
def _locate(params, stride, scale, x, BINS: tl.constexpr, LAYOUT: tl.constexpr, INVERSE: tl.constexpr):
    """The bin that holds x: its index, width, height, where both lie, and the slopes at its two knots.

    Where they lie are the ends of the bins before it, then those of the bins after it, seen from 1: near 1 these sums
    have digits that 1 less what is before has not. After the slopes come, for the derivative, the unconstrained ones,
    and maximum and norm of both softmaxes.
    """
    stride = tl.cast(stride, tl.int64)
    scale = scale * SCALE
    widths = params + _first_place(BINS, LAYOUT) * stride
    heights = widths + BINS * stride
    top_w, top_h = tl.load(widths), tl.load(heights)
    for k in range(1, BINS):
        top_w = tl.maximum(top_w, tl.load(widths + k * stride))
        top_h = tl.maximum(top_h, tl.load(heights + k * stride))
    norm_w, norm_h = tl.zeros_like(x), tl.zeros_like(x)
    for k in range(BINS):
        norm_w += tl.exp(scale * (tl.load(widths + k * stride) - top_w))
        norm_h += tl.exp(scale * (tl.load(heights + k * stride) - top_h))
    norm_w, norm_h = 1 / norm_w * (1 - BINS * MIN_BIN), 1 / norm_h * (1 - BINS * MIN_BIN)
    index = tl.zeros(x.shape, tl.int32)
    width, height, before_w, before_h = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    after_w, after_h, edge_w, edge_h = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for k in range(BINS):
        w = tl.exp(scale * (tl.load(widths + k * stride) - top_w)) * norm_w + MIN_BIN
        h = tl.exp(scale * (tl.load(heights + k * stride) - top_h)) * norm_h + MIN_BIN
        here = x >= edge_h if INVERSE else x >= edge_w
        index = tl.where(here, k, index)
        width, height = tl.where(here, w, width), tl.where(here, h, height)
        before_w, before_h = tl.where(here, edge_w, before_w), tl.where(here, edge_h, before_h)
        after_w, after_h = tl.where(here, after_w, after_w + w), tl.where(here, after_h, after_h + h)
        edge_w += w
        edge_h += h
    raw_low = tl.load(params + _slope_place(index, BINS, LAYOUT) * stride)
    raw_high = tl.load(params + _slope_place(index + 1, BINS, LAYOUT) * stride)
    low = softplus(scale * raw_low + UNIT) + MIN_SLOPE
    high = softplus(scale * raw_high + UNIT) + MIN_SLOPE
    ends = before_w, before_h, after_w, after_h
    return index, width, height, ends, low, high, (raw_low, raw_high, top_w, top_h, norm_w, norm_h)


@jit
def _unit(x):
    return tl.where(x < 0, 0.0, tl.where(x > 1, 1.0, x))


@jit
def _solve(y, slope, low, bend):
    """The root t of y (slope + bend t (1-t)) = slope t^2 + low t (1-t), in the form that does not cancel."""
    linear = low - bend * y
    root = tl.sqrt(at_least(linear * linear + 4 * (slope - linear) * slope * y, 0.0))
    return 2 * slope * y / (linear + root)


@jit
def follow(params, stride, scale, x, rest, BINS: tl.constexpr, LAYOUT: tl.constexpr, INVERSE: tl.constexpr):
    """The spline, or its inverse, at x given with rest = 1 - x; `scale` multiplies all parameters.

    Gives x, 1 - x, y, 1 - y, log|dy/dx|, the place t in the bin with 1 - t, which is known from the nearer end, the bin
    from `_locate`, and scale.
    """
    place = _locate(params, stride, scale, x, BINS, LAYOUT, INVERSE)
    _, width, height, ends, low, high, _ = place
    before_w, before_h, after_w, after_h = ends
    far = x > rest
    slope = height / width
    bend = low + high - 2 * slope
    if INVERSE:
        part = _unit(tl.where(far, rest - after_h, x - before_h) / height)
        near = _solve(part, slope, tl.where(far, high, low), bend)
    else:
        near = _unit(tl.where(far, rest - after_w, x - before_w) / width)
    t, u = tl.where(far, 1 - near, near), tl.where(far, near, 1 - near)
    below = slope + bend * t * u
    log_slope = tl.log(slope * slope * (high * t * t + 2 * slope * t * u + low * u * u) / (below * below))
    if INVERSE:
        return x, rest, before_w + width * t, after_w + width * u, -log_slope, t, u, place, scale
    else:
        y = before_h + height * t * (slope * t + low * u) / below
        return x, rest, y, after_h + height * u * (slope * u + high * t) / below, log_slope, t, u, place, scale


@jit
def follow_back(path, c_y, c_log, c_ratio, c_rest, BINS: tl.constexpr, INVERSE: tl.constexpr):
    """The cotangents of x and of the bin's width, height, ends, and slopes, for the path that `follow` gives.

    Given are the cotangents of y, of log|dy/dx|, of log(y / x) and of log((1-y) / (1-x)), the last two None on a
    circle, which has no ends. They are differentiated as functions of t in the outermost bins, where their two parts
    nearly cancel.
    """
    x, rest, y, y_rest, _, t, u, place, _ = path
    index, width, height, _, low, high, _ = place
    far = x > rest
    if INVERSE:  # of the spline as a function from widths to heights, which undoes what follow did
        x, rest, y, y_rest = y, y_rest, x, rest
        c_log = -c_log
    slope = height / width
    bend = low + high - 2 * slope
    tu = t * u
    scale = slope + bend * tu
    top = high * t * t + 2 * slope * tu + low * u * u
    rise, fall = slope * t + low * u, slope * u + high * t
    derivative = slope * slope * top / (scale * scale)
    d_scale = bend * (u - t) / scale
    d_log = 2 * ((high * t + slope * (u - t) - low * u) / top - d_scale)
    along, of_y, of_rest = c_log * d_log / width, tl.zeros_like(y), tl.zeros_like(y)
    if c_ratio is not None:
        if INVERSE:
            c_ratio, c_rest = -c_ratio, -c_rest
        near, far_end = (slope - low) / rise - d_scale, (high - slope) / fall - d_scale
        along += c_ratio * tl.where(index == 0, near / width, derivative / y - 1 / x)
        along += c_rest * tl.where(index == BINS - 1, far_end / width, 1 / rest - derivative / y_rest)
        of_y, of_rest = c_ratio / y, c_rest / y_rest
    if INVERSE:  # the point moves such that its image stays
        c_x = (c_y + along) / derivative
        c_y = -c_x
    else:
        c_x = c_y * derivative + along
    # y = 1 - y_rest: taken from the nearer end, where it does not cancel, and so is the place in the bin
    of_y += tl.where(far, 0.0, c_y)
    of_rest += tl.where(far, -c_y, 0.0)
    both = (of_y - of_rest) * height * tu / (scale * scale)
    c_slope = both * (high * t * t - low * u * u)
    c_slope += 2 * c_log * (1 / slope + tu / top - (1 - 2 * tu) / scale)
    c_low = both * u * fall + c_log * (u * u / top - 2 * tu / scale)
    c_high = c_log * (t * t / top - 2 * tu / scale) - both * t * rise
    c_t = of_y * derivative * width + tl.where(far, 0.0, c_log * d_log)
    c_u = of_rest * derivative * width - tl.where(far, c_log * d_log, 0.0)
    c_width = -(c_slope * slope + c_t * t + c_u * u) / width
    c_height = of_y * t * rise / scale + of_rest * u * fall / scale + c_slope / width
    c_ends = -c_t / width, of_y, -c_u / width, of_rest
    return c_x, (c_width, c_height, c_ends, c_low, c_high)


@jit
def _mean(index, size, before, after, c_size, c_before, c_after, BINS: tl.constexpr):
    """The mean of the bins' cotangents, weighted with the softmax."""
    low, high = before - index * MIN_BIN, after - (BINS - 1 - index) * MIN_BIN
    return (c_before * low + c_size * (size - MIN_BIN) + c_after * high) / (1 - BINS * MIN_BIN)


@jit
def store_gradients(
    params, stride, grads, grad_stride, path, cotangents, extra, valid, BINS: tl.constexpr, LAYOUT: tl.constexpr
):
    """Stores the gradients of a spline's parameters from the cotangents of the bin that `follow_back` gives.

    `extra` adds to that of the first slope. Returns the cotangents of `scale`, and of the slope taken from elsewhere.
    """
    _, _, _, _, _, _, _, place, scale = path
    index, width, height, ends, _, _, softmax = place
    before_w, before_h, after_w, after_h = ends
    raw_low, raw_high, top_w, top_h, norm_w, norm_h = softmax
    c_width, c_height, c_ends, c_low, c_high = cotangents
    c_before_w, c_before_h, c_after_w, c_after_h = c_ends
    stride, grad_stride = tl.cast(stride, tl.int64), tl.cast(grad_stride, tl.int64)
    factor = scale * SCALE
    widths = params + _first_place(BINS, LAYOUT) * stride
    grad_widths = grads + _first_place(BINS, LAYOUT) * grad_stride
    heights, grad_heights = widths + BINS * stride, grad_widths + BINS * grad_stride
    number = index.to(width.dtype)
    mean_w = _mean(number, width, before_w, after_w, c_width, c_before_w, c_after_w, BINS)
    mean_h = _mean(number, height, before_h, after_h, c_height, c_before_h, c_after_h, BINS)
    c_scale = tl.zeros_like(width)
    for k in range(BINS):
        raw_w, raw_h = tl.load(widths + k * stride), tl.load(heights + k * stride)
        c_w = tl.where(k < index, c_before_w, tl.where(k == index, c_width, c_after_w)) - mean_w
        c_h = tl.where(k < index, c_before_h, tl.where(k == index, c_height, c_after_h)) - mean_h
        c_w *= tl.exp(factor * (raw_w - top_w)) * norm_w
        c_h *= tl.exp(factor * (raw_h - top_h)) * norm_h
        c_scale += c_w * raw_w + c_h * raw_h
        tl.store(grad_widths + k * grad_stride, c_w * factor, mask=valid)
        tl.store(grad_heights + k * grad_stride, c_h * factor, mask=valid)
    c_low *= sigmoid(factor * raw_low + UNIT)
    c_high *= sigmoid(factor * raw_high + UNIT)
    c_scale += c_low * raw_low + c_high * raw_high
    c_low *= factor
    c_high *= factor
    if LAYOUT == SHARED:
        shared = tl.where(index == 0, c_low, 0.0) + tl.where(index == BINS - 1, c_high, 0.0)
        for k in range(1, BINS):
            c_k = tl.where(index == k, c_low, 0.0) + tl.where(index + 1 == k, c_high, 0.0)
            tl.store(grads + (5 * BINS + k) * grad_stride, c_k, mask=valid)
    else:
        shared = tl.zeros_like(width)
        next_knot = index + 1
        if LAYOUT == CIRCULAR:
            next_knot = tl.where(next_knot == BINS, 0, next_knot)
        for k in range(BINS if LAYOUT == CIRCULAR else BINS + 1):
            c_k = tl.where(index == k, c_low, 0.0) + tl.where(next_knot == k, c_high, 0.0)
            c_k += tl.where(k == 0, extra, 0.0)
            tl.store(grads + (2 * BINS + k) * grad_stride, c_k, mask=valid)
    return c_scale * SCALE, shared


@jit
def load_quaternion(matrices, lane):
    """(a, x, y, z) of the part a + i (x, y, z) . sigma of 2 x 2 matrices."""
    m = matrices + lane.to(tl.int64) * 8
    return (
        (tl.load(m) + tl.load(m + 6)) / 2,
        (tl.load(m + 3) + tl.load(m + 5)) / 2,
        (tl.load(m + 2) - tl.load(m + 4)) / 2,
        (tl.load(m + 1) - tl.load(m + 7)) / 2,
    )


@jit
def store_quaternion(matrices, lane, a, x, y, z, valid):
    """Stores the 2 x 2 matrices a + i (x, y, z) . sigma."""
    m = matrices + lane.to(tl.int64) * 8
    tl.store(m, a, mask=valid)
    tl.store(m + 1, z, mask=valid)
    tl.store(m + 2, y, mask=valid)
    tl.store(m + 3, x, mask=valid)
    tl.store(m + 4, -y, mask=valid)
    tl.store(m + 5, x, mask=valid)
    tl.store(m + 6, a, mask=valid)
    tl.store(m + 7, -z, mask=valid)


@jit
def direction(x, y, z):
    """Length and unit vector; of vectors too short to tell, 0 and a unit vector all the same."""
    largest = tl.maximum(tl.abs(x), tl.maximum(tl.abs(y), tl.abs(z)))
    short = largest < 1e-30
    x, y, z = tl.where(short, 0.0, x), tl.where(short, 0.0, y), tl.where(short, 1.0, z)
    unit = tl.where(short, 1.0, largest)
    x, y, z = x / unit, y / unit, z / unit
    length = tl.sqrt(x * x + y * y + z * z)
    return tl.where(short, 0.0, length * unit), (x / length, y / length, z / length)


@jit
def mul(a, b):
    """a b"""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


@jit
def dot(a, b):
    """The sum of conj(a) b over vectors of three."""
    real = a[0][0] * b[0][0] + a[0][1] * b[0][1] + a[1][0] * b[1][0] + a[1][1] * b[1][1]
    imag = a[0][0] * b[0][1] - a[0][1] * b[0][0] + a[1][0] * b[1][1] - a[1][1] * b[1][0]
    return (
        real + a[2][0] * b[2][0] + a[2][1] * b[2][1],
        imag + a[2][0] * b[2][1] - a[2][1] * b[2][0],
    )


@jit
def _entry(x, y, z, b):
    return (
        x[0] * b[0][0] - x[1] * b[0][1] + y[0] * b[1][0] - y[1] * b[1][1] + z[0] * b[2][0] - z[1] * b[2][1],
        x[0] * b[0][1] + x[1] * b[0][0] + y[0] * b[1][1] + y[1] * b[1][0] + z[0] * b[2][1] + z[1] * b[2][0],
    )


@jit
def combine(columns, b):
    """The vector sum_j columns[j] b[j]."""
    x, y, z = columns
    return _entry(x[0], y[0], z[0], b), _entry(x[1], y[1], z[1], b), _entry(x[2], y[2], z[2], b)


@jit
def conj(a):
    """The conjugate vector."""
    return (a[0][0], -a[0][1]), (a[1][0], -a[1][1]), (a[2][0], -a[2][1])


@jit
def _load_column(m):
    return (tl.load(m), tl.load(m + 1)), (tl.load(m + 6), tl.load(m + 7)), (tl.load(m + 12), tl.load(m + 13))


@jit
def load_columns(matrices, lane):
    """The columns of 3 x 3 matrices."""
    m = matrices + lane.to(tl.int64) * 18
    return _load_column(m), _load_column(m + 2), _load_column(m + 4)


@jit
def store_columns(matrices, lane, columns, valid):
    """Stores 3 x 3 matrices."""
    m = matrices + lane.to(tl.int64) * 18
    for j in tl.static_range(3):
        for i in tl.static_range(3):
            tl.store(m + (6 * i + 2 * j), columns[j][i][0], mask=valid)
            tl.store(m + (6 * i + 2 * j + 1), columns[j][i][1], mask=valid)


@jit
def _rotation(pp, pq, qp, qq):
    """Cosine, and complex sine, of the rotation that diagonalises the larger part of a 2 x 2 block.

    The parts are the Hermitian and -i times the anti-Hermitian one, their traces aside. The Hermitian part has to be
    larger than its rounding, which near the identity is larger than all that the anti-Hermitian part says.
    """
    split, split_a = (pp[0] - qq[0]) / 2, (pp[1] - qq[1]) / 2
    real, real_a = (pq[0] + qp[0]) / 2, (pq[1] + qp[1]) / 2
    imag, imag_a = (pq[1] - qp[1]) / 2, (qp[0] - pq[0]) / 2
    size = split * split + real * real + imag * imag
    size_a = split_a * split_a + real_a * real_a + imag_a * imag_a
    other = size_a + rounding(size) * rounding(size) > size
    split, real, imag = tl.where(other, split_a, split), tl.where(other, real_a, real), tl.where(other, imag_a, imag)
    size = tl.where(other, size_a, size)
    # squares that are not normal numbers have no digits to take a rotation from
    still = size < 1e-30
    size = tl.sqrt(tl.where(still, 1.0, size))
    cosine = tl.sqrt((size + tl.abs(split)) / (2 * size))
    factor = tl.where(split < 0, -0.5, 0.5) / (size * cosine)
    cosine, real, imag = (
        tl.where(still, 1.0, cosine), tl.where(still, 0.0, factor * real), tl.where(still, 0.0, factor * imag)
    )  # fmt: skip
    # the square root and the quotient of a GPU are approximate: one step of Newton's for the norm
    norm = 1.5 - (cosine * cosine + real * real + imag * imag) / 2
    return cosine * norm, (real * norm, imag * norm)


@jit
def _turn(x, y, c, s):
    """c x + conj(s) y, c y - s x"""
    return (
        (c * x[0] + s[0] * y[0] + s[1] * y[1], c * x[1] + s[0] * y[1] - s[1] * y[0]),
        (c * y[0] - s[0] * x[0] + s[1] * x[1], c * y[1] - s[0] * x[1] - s[1] * x[0]),
    )


@jit
def _turn_columns(x, y, c, s):
    x0, y0 = _turn(x[0], y[0], c, s)
    x1, y1 = _turn(x[1], y[1], c, s)
    x2, y2 = _turn(x[2], y[2], c, s)
    return (x0, x1, x2), (y0, y1, y2)


@jit
def _turn_rows(x, c, s, P: tl.constexpr, Q: tl.constexpr):
    p, q = _turn(x[P], x[Q], c, (s[0], -s[1]))
    if Q == 1:
        return p, q, x[2]
    elif P == 0:
        return p, x[1], q
    else:
        return x[0], p, q


@jit
def _pivot(p, q, r, v_p, v_q, P: tl.constexpr, Q: tl.constexpr):
    """Columns p and q of a matrix, with the third r, and of its frame, after a rotation of rows and columns P and Q."""
    c, s = _rotation(p[P], q[P], p[Q], q[Q])
    p, q = _turn_columns(p, q, c, s)
    v_p, v_q = _turn_columns(v_p, v_q, c, s)
    return _turn_rows(p, c, s, P, Q), _turn_rows(q, c, s, P, Q), _turn_rows(r, c, s, P, Q), v_p, v_q


@jit
def diagonalise(columns):
    """Diagonal and unitary eigenvectors of normal 3 x 3 matrices by Jacobi rotations, as in unitary_eig.

    Four sweeps took 200,000 random matrices, and as many of each of a dozen families of coinciding, nearly coinciding
    and mirrored phases, to rounding errors. One more is made.
    """
    a0, a1, a2 = columns
    zero = tl.zeros_like(a0[0][0])
    one = zero + 1
    v0 = (one, zero), (zero, zero), (zero, zero)
    v1 = (zero, zero), (one, zero), (zero, zero)
    v2 = (zero, zero), (zero, zero), (one, zero)
    for _ in range(5):
        a0, a1, a2, v0, v1 = _pivot(a0, a1, a2, v0, v1, 0, 1)
        a0, a2, a1, v0, v2 = _pivot(a0, a2, a1, v0, v2, 0, 2)
        a1, a2, a0, v1, v2 = _pivot(a1, a2, a0, v1, v2, 1, 2)
    return (a0[0], a1[1], a2[2]), (v0, v1, v2)


@jit
def _minus_one(angle):
    """e^{i angle} - 1, without cancellation."""
    sine, cosine = sincos(angle / 2)
    return -2 * sine * sine, 2 * sine * cosine


@jit
def _scaled_conj(v, z):
    return mul(z, (v[0][0], -v[0][1])), mul(z, (v[1][0], -v[1][1])), mul(z, (v[2][0], -v[2][1]))


@jit
def rebuild(v, a, b, c):
    """The columns of V diag(e^{ia}, e^{ib}, e^{ic}) V^dagger."""
    x, y, z = _scaled_conj(v[0], _minus_one(a)), _scaled_conj(v[1], _minus_one(b)), _scaled_conj(v[2], _minus_one(c))
    p, q, r = combine(v, (x[0], y[0], z[0])), combine(v, (x[1], y[1], z[1])), combine(v, (x[2], y[2], z[2]))
    return (
        ((p[0][0] + 1, p[0][1]), p[1], p[2]), (q[0], (q[1][0] + 1, q[1][1]), q[2]), (r[0], r[1], (r[2][0] + 1, r[2][1]))
    )  # fmt: skip


@jit
def slope_of_phase(g, angle):
    """Im(e^{-i angle} g): the cotangent of an angle from that of e^{i angle}."""
    sine, cosine = sincos(angle)
    return cosine * g[1] - sine * g[0]


@jit
def inside(v, columns):
    """The elements of V^dagger G V, a tuple of columns."""
    x, y, z = combine(columns, v[0]), combine(columns, v[1]), combine(columns, v[2])
    return (
        (dot(v[0], x), dot(v[1], x), dot(v[2], x)),
        (dot(v[0], y), dot(v[1], y), dot(v[2], y)),
        (dot(v[0], z), dot(v[1], z), dot(v[2], z)),
    )


@jit
def outside(u, v, diagonal, upper):
    """The columns of U X V^dagger for X with diagonal i (x, y, z), upper triangle (x01, x02, x12), X^dagger = -X."""
    x, y, z = diagonal
    x01, x02, x12 = upper
    zero = tl.zeros_like(x)
    c0 = combine(u, ((zero, x), (-x01[0], x01[1]), (-x02[0], x02[1])))
    c1 = combine(u, (x01, (zero, y), (-x12[0], x12[1])))
    c2 = combine(u, (x02, x12, (zero, z)))
    w0, w1, w2 = conj(v[0]), conj(v[1]), conj(v[2])
    return (
        combine((c0, c1, c2), (w0[0], w1[0], w2[0])),
        combine((c0, c1, c2), (w0[1], w1[1], w2[1])),
        combine((c0, c1, c2), (w0[2], w1[2], w2[2])),
    )
