"""What the Triton kernels of links share: SU(2) and SU(3) a lane, and the heat bath in their SU(2) subgroups.

A link of SU(2) is a quaternion (w, x, y, z), w + i (x, y, z) . sigma; one of SU(3) is a tuple of its rows, vectors of
`triton_common`. The mathematics of the subgroups is in heat_bath/README.md.
"""

from __future__ import annotations

from lattice_flows.kernels.heat_bath import reference
from lattice_flows.kernels.triton_common import TWO_PI, combine, constant, dot, jit, mul, sincos, tl

SMALL = constant(reference.SMALL)


@jit
def load_link(links, stride, N: tl.constexpr):
    """A link whose numbers lie `stride` apart: of SU(2) the four of a quaternion, of SU(3) those of two rows."""
    if N == 2:
        return _load_four(links, stride)
    else:
        a, b = _load_row(links, stride), _load_row(links + 6 * stride, stride)
        return a, b, last_row(a, b)


@jit
def store_link(links, stride, u, N: tl.constexpr):
    """Stores what `load_link` loads."""
    if N == 2:
        for k in tl.static_range(4):
            tl.store(links + k * stride, u[k])
    else:
        for k in tl.static_range(6):
            tl.store(links + 2 * k * stride, u[k // 3][k % 3][0])
            tl.store(links + (2 * k + 1) * stride, u[k // 3][k % 3][1])


@jit
def _load_four(links, stride):
    return tl.load(links), tl.load(links + stride), tl.load(links + 2 * stride), tl.load(links + 3 * stride)


@jit
def _load_row(links, stride):
    a, b, c, d = _load_four(links, stride)
    return (a, b), (c, d), (tl.load(links + 4 * stride), tl.load(links + 5 * stride))


@jit
def load_matrix(m, row, column, sign, N: tl.constexpr):
    """Any matrix, of N = 1, 2 or 3, by rows; with row and column exchanged and sign -1 its adjoint."""
    if N == 1:
        return ((_load_entry(m, sign),),)
    elif N == 2:
        return (
            (_load_entry(m, sign), _load_entry(m + column, sign)),
            (_load_entry(m + row, sign), _load_entry(m + row + column, sign)),
        )
    else:
        return (
            _load_entries(m, column, sign),
            _load_entries(m + row, column, sign),
            _load_entries(m + 2 * row, column, sign),
        )


@jit
def _load_entry(m, sign):
    return tl.load(m), tl.load(m + 1) * sign


@jit
def _load_entries(m, column, sign):
    return _load_entry(m, sign), _load_entry(m + column, sign), _load_entry(m + 2 * column, sign)


@jit
def store_matrix(m, a, valid, N: tl.constexpr):
    """Stores the rows of a matrix."""
    for k in tl.static_range(N * N):
        tl.store(m + 2 * k, a[k // N][k % N][0], mask=valid)
        tl.store(m + (2 * k + 1), a[k // N][k % N][1], mask=valid)


@jit
def matrix_product(a, b, N: tl.constexpr):
    """a b of any matrices."""
    if N == 1:
        return ((mul(a[0][0], b[0][0]),),)
    elif N == 2:
        return (
            (_two(a[0], b[0][0], b[1][0]), _two(a[0], b[0][1], b[1][1])),
            (_two(a[1], b[0][0], b[1][0]), _two(a[1], b[0][1], b[1][1])),
        )
    else:
        return product(a, b, 3)


@jit
def _two(a, x, y):
    return (
        a[0][0] * x[0] - a[0][1] * x[1] + a[1][0] * y[0] - a[1][1] * y[1],
        a[0][0] * x[1] + a[0][1] * x[0] + a[1][0] * y[1] + a[1][1] * y[0],
    )


@jit
def matrix_sum(a, b, N: tl.constexpr):
    """a + b of any matrices."""
    if N == 1:
        return ((_add(a[0][0], b[0][0], 1),),)
    elif N == 2:
        return (
            (_add(a[0][0], b[0][0], 1), _add(a[0][1], b[0][1], 1)),
            (_add(a[1][0], b[1][0], 1), _add(a[1][1], b[1][1], 1)),
        )
    else:
        return add(a, b, 1, 3)


@jit
def _minor(a, b, c, d):
    """The conjugate of a d - b c."""
    return (
        a[0] * d[0] - a[1] * d[1] - b[0] * c[0] + b[1] * c[1],
        b[0] * c[1] + b[1] * c[0] - a[0] * d[1] - a[1] * d[0],
    )


@jit
def last_row(a, b):
    """The row that makes two orthonormal ones a matrix of determinant 1."""
    return _minor(a[1], a[2], b[1], b[2]), _minor(a[2], a[0], b[2], b[0]), _minor(a[0], a[1], b[0], b[1])


@jit
def product(a, b, N: tl.constexpr):
    """a b"""
    if N == 2:
        return (
            a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
            a[0] * b[1] + a[1] * b[0] - a[2] * b[3] + a[3] * b[2],
            a[0] * b[2] + a[2] * b[0] - a[3] * b[1] + a[1] * b[3],
            a[0] * b[3] + a[3] * b[0] - a[1] * b[2] + a[2] * b[1],
        )
    else:
        return combine(b, a[0]), combine(b, a[1]), combine(b, a[2])


@jit
def adjoint(a, N: tl.constexpr):
    """a^dagger"""
    if N == 2:
        return a[0], -a[1], -a[2], -a[3]
    else:
        return (
            ((a[0][0][0], -a[0][0][1]), (a[1][0][0], -a[1][0][1]), (a[2][0][0], -a[2][0][1])),
            ((a[0][1][0], -a[0][1][1]), (a[1][1][0], -a[1][1][1]), (a[2][1][0], -a[2][1][1])),
            ((a[0][2][0], -a[0][2][1]), (a[1][2][0], -a[1][2][1]), (a[2][2][0], -a[2][2][1])),
        )


@jit
def _add(a, b, factor):
    return a[0] + factor * b[0], a[1] + factor * b[1]


@jit
def _add_row(a, b, factor):
    return _add(a[0], b[0], factor), _add(a[1], b[1], factor), _add(a[2], b[2], factor)


@jit
def add(a, b, factor, N: tl.constexpr):
    """a + factor b"""
    if N == 2:
        return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2], a[3] + factor * b[3]
    else:
        return _add_row(a[0], b[0], factor), _add_row(a[1], b[1], factor), _add_row(a[2], b[2], factor)


@jit
def zero_like(x, N: tl.constexpr):
    """The zero matrix."""
    o = tl.zeros_like(x)
    if N == 2:
        return o, o, o, o
    else:
        return ((o, o), (o, o), (o, o)), ((o, o), (o, o), (o, o)), ((o, o), (o, o), (o, o))


@jit
def real_trace(a, b, N: tl.constexpr):
    """Re tr(a b^dagger)."""
    if N == 2:
        return 2 * (a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3])
    else:
        return dot(a[0], b[0])[0] + dot(a[1], b[1])[0] + dot(a[2], b[2])[0]


@jit
def _inverse_root(x):
    """1 / sqrt(x): the root and the quotient of a GPU are approximate, and a step of Newton's makes that good."""
    y = 1 / tl.sqrt(x)
    return y * (1.5 - x * y * y / 2)


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
    inverse = _inverse_root(tl.where(still, 1.0, square))
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
def _scaled_row(a):
    inverse = _inverse_root(dot(a, a)[0])
    return (
        (a[0][0] * inverse, a[0][1] * inverse),
        (a[1][0] * inverse, a[1][1] * inverse),
        (a[2][0] * inverse, a[2][1] * inverse),
    )


@jit
def _without(a, b, c):
    """a - c b"""
    return a[0] - (c[0] * b[0] - c[1] * b[1]), a[1] - (c[0] * b[1] + c[1] * b[0])


@jit
def restore(u, N: tl.constexpr):
    """Orthonormal rows, and determinant 1."""
    if N == 2:
        inverse = _inverse_root(u[0] * u[0] + u[1] * u[1] + u[2] * u[2] + u[3] * u[3])
        return u[0] * inverse, u[1] * inverse, u[2] * inverse, u[3] * inverse
    else:
        first = _scaled_row(u[0])
        along, second = dot(first, u[1]), u[1]
        second = _scaled_row(
            (
                _without(second[0], first[0], along),
                _without(second[1], first[1], along),
                _without(second[2], first[2], along),
            )
        )
        return first, second, last_row(first, second)


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
