"""Heat bath and over-relaxation in SU(2) subgroups in Triton kernels: see heat_bath/README.md for the mathematics.

An element of SU(2) is a quaternion, as links are in `triton_links`.
"""

from __future__ import annotations

from lattice_flows.kernels.heat_bath import reference
from lattice_flows.kernels.triton_common import TWO_PI, constant, jit, sincos, tl
from lattice_flows.kernels.triton_links import inverse_root, product

SMALL = constant(reference.SMALL)


@jit
def part(m, N: tl.constexpr):
    """Length and direction of what two rows and columns of m have of SU(2); where there is nothing, 0 and 1."""
    if N == 2:
        w, x, y, z = m
    else:
        w, x = (m[0][0][0] + m[1][1][0]) / 2, (m[0][1][1] + m[1][0][1]) / 2
        y, z = (m[0][1][0] - m[1][0][0]) / 2, (m[0][0][1] - m[1][1][1]) / 2
    square = w * w + x * x + y * y + z * z
    still = square < 1e-37
    inverse = inverse_root(tl.where(still, 1.0, square))
    return tl.where(still, 0.0, square * inverse), (
        tl.where(still, 1.0, w * inverse),
        tl.where(still, 0.0, x * inverse),
        tl.where(still, 0.0, y * inverse),
        tl.where(still, 0.0, z * inverse),
    )


@jit
def _mix(a, p, q):
    """The rows p and q times an element of SU(2), one column of both."""
    return (
        (
            a[0] * p[0] - a[3] * p[1] + a[2] * q[0] - a[1] * q[1],
            a[0] * p[1] + a[3] * p[0] + a[2] * q[1] + a[1] * q[0],
        ),
        (
            a[0] * q[0] + a[3] * q[1] - a[2] * p[0] - a[1] * p[1],
            a[0] * q[1] - a[3] * q[0] - a[2] * p[1] + a[1] * p[0],
        ),
    )


@jit
def turn(a, m, N: tl.constexpr):
    """Two rows of m times an element of SU(2); of three rows, the last one comes first then.

    After three turns all pairs have had one, in the order 01, 20, 12, and the rows are where they were.
    """
    if N == 2:
        return product(a, m, 2)
    else:
        p0, q0 = _mix(a, m[0][0], m[1][0])
        p1, q1 = _mix(a, m[0][1], m[1][1])
        p2, q2 = _mix(a, m[0][2], m[1][2])
        return m[2], (p0, p1, p2), (q0, q1, q2)


@jit
def turn_both(a, m, N: tl.constexpr):
    """As `turn`, with the columns in the order of the rows."""
    x, y, z = turn(a, m, N)
    return (x[2], x[0], x[1]), (y[2], y[0], y[1]), (z[2], z[0], z[1])


@jit
def along(q, pair):
    """An element of SU(2) in rows 2 and 0 as one in rows 0 and 2, and back; in those of other pairs as it is."""
    sign = tl.where(pair == 1, -1.0, 1.0).to(q[0].dtype)
    return q[0], q[1], sign * q[2], sign * q[3]


@jit
def _from_haar(r, k):
    """b and whether it is accepted, for any k."""
    sine, cosine = sincos(r[1] * TWO_PI)
    sine2, cosine2 = sincos(r[2] * TWO_PI)
    one, two = tl.sqrt(r[0]), tl.sqrt(1 - r[0])
    w = one * cosine
    scale = 1 / (1 + tl.exp(-2 * k))
    plus, minus = scale * tl.exp(k * (w - 1)), scale * tl.exp(k * (-1 - w))
    sign = tl.where(r[3] < plus, 1.0, -1.0).to(w.dtype)
    return sign * w, sign * one * sine, sign * two * cosine2, sign * two * sine2, r[3] < plus + minus


@jit
def _kennedy_pendleton(r, k):
    """b and whether it is accepted, for k > 0."""
    scale = 0.5 / tl.maximum(k, SMALL)
    across = -tl.log(1 - r[0]) * scale
    sine, cosine = sincos(r[1] * TWO_PI)
    along = cosine * tl.sqrt(-tl.log(1 - r[2]) * scale)
    t = across + along * along
    accepted = r[3] * r[3] < 1 - t
    root = tl.sqrt(tl.where(accepted, 1 - t, 1.0))
    sine, cosine = sincos(r[3] * TWO_PI / root)
    radius = 2 * root * tl.sqrt(across)
    return 1 - 2 * t, radius * cosine, radius * sine, 2 * root * along, accepted


@jit
def attempt(r, k, b, waiting):
    """b of the density exp(k b.w) by four numbers where it is accepted and was waited for, and where it still is."""
    small = k < SMALL
    w, x, y, z, accepted = _kennedy_pendleton(r, k)
    if tl.sum(small.to(tl.int32), 0) > 0:
        w2, x2, y2, z2, accepted2 = _from_haar(r, k)
        w, x, y, z = tl.where(small, w2, w), tl.where(small, x2, x), tl.where(small, y2, y), tl.where(small, z2, z)
        accepted = tl.where(small, accepted2, accepted)
    new = accepted & waiting
    b = tl.where(new, w, b[0]), tl.where(new, x, b[1]), tl.where(new, y, b[2]), tl.where(new, z, b[3])
    return b, waiting & (accepted == 0)


@jit
def quotient(a, b):
    """a b^dagger of quaternions."""
    return product(a, (b[0], -b[1], -b[2], -b[3]), 2)


@jit
def reflection(v):
    """(v^dagger)^2"""
    return (
        v[0] * v[0] - v[1] * v[1] - v[2] * v[2] - v[3] * v[3],
        -2 * v[0] * v[1],
        -2 * v[0] * v[2],
        -2 * v[0] * v[3],
    )
