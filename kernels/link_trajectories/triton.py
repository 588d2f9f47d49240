"""link_trajectories for GPUs, in Triton: a launch of `kick` changes the momenta of all links, and moves the links.

A momentum of SU(2) is (x, y, z), i (x, y, z) . sigma; one of SU(3) is real and imaginary parts of the entries 01, 02
and 12, and imaginary parts of 00 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.kernels.link_trajectories import reference
from lattice_flows.kernels.triton_common import TWO_PI, any_size, four_numbers, jit, sincos, tl
from lattice_flows.kernels.triton_lattice import Lattices, chains_of, numbers_of, place_of, staples
from lattice_flows.kernels.triton_links import load_link, product, restore, store_link

COMPONENTS = {2: 3, 3: 8}


def link_trajectories(
    links: Tensor, extents: Sequence[int], nodes: Sequence[int], weights: Tensor, kicks: Sequence[float], step: float,
    keys: Tensor, calls: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New links and their energies; see `lattice_flows.kernels.link_trajectories`."""
    if links.shape[-1] == 1 or not len(links):
        return reference.link_trajectories(links, extents, nodes, weights, kicks, step, keys, calls)
    lattices = Lattices(links, extents, weights)
    total, volume, chains, dim = lattices.links, lattices.volume, lattices.chains, lattices.dim
    momenta, other = lattices.room(COMPONENTS[lattices.n]), torch.empty_like(lattices.own)
    sizes = torch.tensor([(kick_size, step) for kick_size in kicks], dtype=torch.float64).to(links.device)
    keys, calls = (x.to(links.device).contiguous() for x in (keys, calls))
    lattices.run(draw, total, momenta, keys, calls, total, chains)
    begin = lattices.total(kinetic, total, momenta) + lattices.action()
    for number in range(len(kicks)):
        moves = number + 1 < len(kicks)
        lattices.run(
            kick, total, lattices.own, other, momenta, lattices.hops, lattices.weights, sizes[number], volume,
            DIM=dim, MOVES=moves,
        )  # fmt: skip
        if moves:
            lattices.own, other = other, lattices.own
    action = lattices.action()
    end = lattices.total(kinetic, total, momenta) + action
    return lattices.unpacked(), torch.stack((begin, end, action), -1)


@jit
def _components(N: tl.constexpr):
    return 3 if N == 2 else 8


@jit
def _load_momentum(place, N: tl.constexpr, BLOCK: tl.constexpr):
    x, y, z = tl.load(place), tl.load(place + BLOCK), tl.load(place + 2 * BLOCK)
    if N == 2:
        return x, y, z
    else:
        a, b, c = tl.load(place + 3 * BLOCK), tl.load(place + 4 * BLOCK), tl.load(place + 5 * BLOCK)
        return x, y, z, a, b, c, tl.load(place + 6 * BLOCK), tl.load(place + 7 * BLOCK)


@jit
def _store_momentum(place, p, N: tl.constexpr, BLOCK: tl.constexpr):
    for k in tl.static_range(3 if N == 2 else 8):
        tl.store(place + k * BLOCK, p[k])


@jit
def _normals(names, block, step, DOUBLE: tl.constexpr):
    """Four normal numbers, of Box and Muller."""
    r0, r1, r2, r3 = four_numbers(names, block, step, DOUBLE)
    first, second = tl.sqrt(-2 * tl.log(1 - r0)), tl.sqrt(-2 * tl.log(1 - r2))
    s0, c0 = sincos(r1 * TWO_PI)
    s1, c1 = sincos(r3 * TWO_PI)
    return first * c0, first * s0, second * c1, second * s1


@any_size
def draw(momenta, keys, calls, total, chains, N: tl.constexpr, BLOCK: tl.constexpr):
    """Momenta with density exp(-inner(P, P) / 2), of a link of a group of chains."""
    group, link, lane = tl.program_id(0) // total, tl.program_id(0) % total, tl.arange(0, BLOCK)
    chain, _ = chains_of(group, chains, BLOCK)
    names = tl.load(keys + 2 * chain), tl.load(keys + 2 * chain + 1), tl.load(calls + chain)
    double: tl.constexpr = momenta.dtype.element_ty == tl.float64
    block = link.to(tl.int64) + tl.zeros([BLOCK], tl.int64)
    place = place_of(momenta, group, total, link, lane, _components(N), BLOCK)
    a, b, c, d = _normals(names, block, total, double)
    if N == 2:
        _store_momentum(place, (a / 2, b / 2, c / 2), 2, BLOCK)
    else:
        block += tl.cast(total, tl.int64) * (2 if double else 1)
        e, f, g, h = _normals(names, block, total, double)
        g, h = g / 2, h * 0.28867513459481287  # 1 / sqrt(12)
        _store_momentum(place, (a / 2, b / 2, c / 2, d / 2, e / 2, f / 2, g + h, h - g), 3, BLOCK)


@any_size
def kinetic(momenta, sums, total, chunks, DIM: tl.constexpr, CHUNK: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr):
    """Half of the sums of inner(P, P) over the links of a chunk, of a group of chains."""
    group, chunk, lane = tl.program_id(0) // chunks, tl.program_id(0) % chunks, tl.arange(0, BLOCK)
    energy = tl.zeros([BLOCK], tl.float64)
    for link in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, total)):
        p = _load_momentum(place_of(momenta, group, total, link, lane, _components(N), BLOCK), N, BLOCK)
        if N == 2:
            square = 2 * (p[0] * p[0] + p[1] * p[1] + p[2] * p[2])
        else:
            square = 2 * (p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + p[3] * p[3] + p[4] * p[4] + p[5] * p[5])
            square += p[6] * p[6] + p[7] * p[7] + (p[6] + p[7]) * (p[6] + p[7])
        energy += square.to(tl.float64)
    tl.store(sums + (group * chunks + chunk) * BLOCK + lane, energy)


@jit
def _kicked(p, m, size, N: tl.constexpr):
    """P less `size` times half of the traceless anti-Hermitian part of m."""
    if N == 2:
        half = size / 2
        return p[0] - half * m[1], p[1] - half * m[2], p[2] - half * m[3]
    else:
        quarter, mean = size / 4, (m[0][0][1] + m[1][1][1] + m[2][2][1]) / 3
        return (
            p[0] - quarter * (m[0][1][0] - m[1][0][0]),
            p[1] - quarter * (m[0][1][1] + m[1][0][1]),
            p[2] - quarter * (m[0][2][0] - m[2][0][0]),
            p[3] - quarter * (m[0][2][1] + m[2][0][1]),
            p[4] - quarter * (m[1][2][0] - m[2][1][0]),
            p[5] - quarter * (m[1][2][1] + m[2][1][1]),
            p[6] - size / 2 * (m[0][0][1] - mean),
            p[7] - size / 2 * (m[1][1][1] - mean),
        )


@jit
def _exp(p, step, N: tl.constexpr):
    """exp(step P), by its series where the norm is below 1, and else by squares of such.

    P^3 = -a P + i d for traceless anti-Hermitian 3 x 3 matrices, a = -tr P^2 / 2 and i d = det P, so that the series is
    1, P and P^2 with coefficients (real or imaginary in turn) that follow from each other.
    """
    if N == 2:
        x, y, z = step * p[0], step * p[1], step * p[2]
        square = x * x + y * y + z * z
        r = tl.sqrt(square)
        sine, cosine = sincos(r)
        s = tl.where(square < 1e-37, 1.0, sine / tl.where(square < 1e-37, 1.0, r))
        return cosine, s * x, s * y, s * z
    else:
        norm = 2 * (p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + p[3] * p[3] + p[4] * p[4] + p[5] * p[5])
        norm = (norm + p[6] * p[6] + p[7] * p[7] + (p[6] + p[7]) * (p[6] + p[7])) * step * step
        halved, scale = tl.zeros(norm.shape, tl.int32), step + tl.zeros_like(norm)
        while (tl.sum((norm > 1).to(tl.int32), 0) > 0) & (tl.max(halved, 0) < 60):
            halved += (norm > 1).to(tl.int32)
            scale = tl.where(norm > 1, scale / 2, scale)
            norm = tl.where(norm > 1, norm / 4, norm)
        a, b, c, d = p[0] * scale, p[1] * scale, p[2] * scale, p[3] * scale
        e = _series(a, b, c, d, p[4] * scale, p[5] * scale, p[6] * scale, p[7] * scale)
        while tl.max(halved, 0) > 0:
            e = _chosen(halved > 0, product(e, e, 3), e)
            halved -= (halved > 0).to(tl.int32)
        return e


@jit
def _pick(m, a, b):
    return tl.where(m, a[0], b[0]), tl.where(m, a[1], b[1])


@jit
def _chosen(m, a, b):
    return (
        (_pick(m, a[0][0], b[0][0]), _pick(m, a[0][1], b[0][1]), _pick(m, a[0][2], b[0][2])),
        (_pick(m, a[1][0], b[1][0]), _pick(m, a[1][1], b[1][1]), _pick(m, a[1][2], b[1][2])),
        (_pick(m, a[2][0], b[2][0]), _pick(m, a[2][1], b[2][1]), _pick(m, a[2][2], b[2][2])),
    )


@jit
def _series(a, b, c, d, e, f, u, v):
    """The exponential of a small anti-Hermitian matrix with entries 01 = (a, b), 02 = (c, d), 12 = (e, f)."""
    zero, w = tl.zeros_like(a), -u - v
    x = ((zero, u), (a, b), (c, d)), ((-a, b), (zero, v), (e, f)), ((-c, d), (-e, f), (zero, w))
    xx = product(x, x, 3)
    bend = (xx[0][0][0] + xx[1][1][0] + xx[2][2][0]) / 2  # x^3 = bend x + i turn
    turn = u * (e * e + f * f) + v * (c * c + d * d) + w * (a * a + b * b) - u * v * w
    cross = x[0][1][0] * x[1][2][1] + x[0][1][1] * x[1][2][0]
    cross_real = x[0][1][0] * x[1][2][0] - x[0][1][1] * x[1][2][1]
    turn += 2 * (cross * x[2][0][0] + cross_real * x[2][0][1])
    # 1, x and x^2 times complex numbers, by Horner's rule
    r0, i0, r1, i1, r2, i2 = zero + 1, zero, zero, zero, zero, zero
    last: tl.constexpr = 18 if a.dtype == tl.float64 else 10
    for k in range(last):
        share = 1 / (last - k + zero)
        r0, i0, r1, i1, r2, i2 = (
            1 - i2 * turn * share,
            r2 * turn * share,
            (r0 + bend * r2) * share,
            (i0 + bend * i2) * share,
            r1 * share,
            i1 * share,
        )
    p, q, r = (r0, i0), (r1, i1), (r2, i2)
    return (
        (_diagonal(x[0][0], xx[0][0], p, q, r), _entry(x[0][1], xx[0][1], q, r), _entry(x[0][2], xx[0][2], q, r)),
        (_entry(x[1][0], xx[1][0], q, r), _diagonal(x[1][1], xx[1][1], p, q, r), _entry(x[1][2], xx[1][2], q, r)),
        (_entry(x[2][0], xx[2][0], q, r), _entry(x[2][1], xx[2][1], q, r), _diagonal(x[2][2], xx[2][2], p, q, r)),
    )


@jit
def _entry(x, y, q, r):
    """q x + r y"""
    return (
        x[0] * q[0] - x[1] * q[1] + y[0] * r[0] - y[1] * r[1],
        x[0] * q[1] + x[1] * q[0] + y[0] * r[1] + y[1] * r[0],
    )


@jit
def _diagonal(x, y, p, q, r):
    """p + q x + r y"""
    z = _entry(x, y, q, r)
    return p[0] + z[0], p[1] + z[1]


@any_size
def kick(
    own, other, momenta, hops, weights, sizes, volume,
    DIM: tl.constexpr, MOVES: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A new momentum of a link of a group of chains, and the link after a step with it, in another place.

    `sizes` are those of the kick and of the step.
    """
    total = DIM * volume
    group, here, lane = tl.program_id(0) // total, tl.program_id(0) % total, tl.arange(0, BLOCK)
    base = place_of(own, group, total, 0, lane, numbers_of(N), BLOCK)
    momentum = place_of(momenta, group, total, here, lane, _components(N), BLOCK)
    offset = tl.cast(here, tl.int64) * (numbers_of(N) * BLOCK)
    u = load_link(base + offset, BLOCK, N)
    loops = product(u, staples(base, hops, weights, here, volume, DIM, N, BLOCK), N)
    p = _load_momentum(momentum, N, BLOCK)
    p = _kicked(p, loops, tl.load(sizes).to(own.dtype.element_ty), N)
    _store_momentum(momentum, p, N, BLOCK)
    if MOVES:
        u = product(_exp(p, tl.load(sizes + 1).to(own.dtype.element_ty), N), u, N)
        store_link(place_of(other, group, total, here, lane, numbers_of(N), BLOCK), BLOCK, restore(u, N), N)
