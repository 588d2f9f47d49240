"""Links of SU(2) and SU(3) in Triton kernels, one a lane, and small matrices of any kind.

A link of SU(2) is a quaternion (w, x, y, z), w + i (x, y, z) . sigma; one of SU(3) is a tuple of its rows, vectors of
`triton_common`.
"""

from __future__ import annotations

from lattice_flows.kernels.triton_common import combine, dot, jit, mul, tl


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
def inverse_root(x):
    """1 / sqrt(x): the root and the quotient of a GPU are approximate, and a step of Newton's makes that good."""
    y = 1 / tl.sqrt(x)
    return y * (1.5 - x * y * y / 2)


@jit
def _scaled_row(a):
    inverse = inverse_root(dot(a, a)[0])
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
        inverse = inverse_root(u[0] * u[0] + u[1] * u[1] + u[2] * u[2] + u[3] * u[3])
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
