"""spectral_flow of SU(2) and SU(3) as torch.compile can take it: in closed form, without complex numbers.

A rival for the benchmark. It computes eigenphases from traces, and so is right only far from degeneracy.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lattice_flows.kernels import spectrum
from lattice_flows.kernels.spectral_flow import reference

Pair = tuple[Tensor, Tensor]
"""Real and imaginary part."""


def spectral_flow(bins: int) -> Callable[[Tensor, Tensor], Pair]:
    """The compiled function of w `(M, N, N, 2)`, real and imaginary part last, and params: g `(M, N, N, 2)`, logdet."""
    return torch.compile(lambda w, params: closed_form(w, params, bins), fullgraph=True)


def closed_form(w: Tensor, params: Tensor, bins: int) -> Pair:
    """What is compiled, for N = 2 and 3."""
    return {2: _su2, 3: _su3}[w.shape[1]](w, params, bins)


def _move(phases: Tensor, params: Tensor, bins: int) -> Pair:
    """How far the phases move, and the log-determinant."""
    gap = spectrum.gaps(phases)
    pieces, logdet = reference._break(gap.roll(1, -1), reference._raw(params, phases.shape[-1], bins), bins)
    new_gap = pieces.roll(-1, -1)
    return spectrum.phases_from_gaps(new_gap - gap), logdet + spectrum.log_vandermonde_ratio(new_gap, gap)


def _su2(w: Tensor, params: Tensor, bins: int) -> Pair:
    """w = cos(theta) + i sin(theta) v.sigma."""
    cosine = (w[:, 0, 0, 0] + w[:, 1, 1, 0]) / 2
    x, y = (w[:, 0, 1, 1] + w[:, 1, 0, 1]) / 2, (w[:, 0, 1, 0] - w[:, 1, 0, 0]) / 2
    z = (w[:, 0, 0, 1] - w[:, 1, 1, 1]) / 2
    sine = torch.sqrt(x * x + y * y + z * z)
    theta = torch.atan2(sine, cosine)
    shift, logdet = _move(torch.stack((-theta, theta), -1), params, bins)
    c, s = shift[:, 1].cos(), shift[:, 1].sin() / sine
    rows = (c, s * z, s * y, s * x, -s * y, s * x, c, -s * z)
    return torch.stack(rows, -1).unflatten(-1, (2, 2, 2)), logdet


def _su3(w: Tensor, params: Tensor, bins: int) -> Pair:
    """Cardano's roots of lambda^3 - t lambda^2 + t* lambda - 1, t = tr w, and Lagrange's polynomial in w."""
    re, im = w.unbind(-1)
    t = re.diagonal(dim1=-2, dim2=-1).sum(-1), im.diagonal(dim1=-2, dim2=-1).sum(-1)
    phases = _su3_phases(t)
    phases, _ = spectrum.alcove(phases, phases.unsqueeze(-2))
    shift, logdet = _move(phases, params, bins)
    root, t = (phases.cos(), phases.sin()), (t[0].unsqueeze(-1), t[1].unsqueeze(-1))
    # g = sum_k exp(i shift_k) / p'(lambda_k) (w^2 - (t - lambda_k) w + lambda_k*)
    rest = t[0] - root[0], t[1] - root[1]
    slope = _multiply(root, (3 * root[0] - 2 * t[0], 3 * root[1] - 2 * t[1]))
    slope = slope[0] + t[0], slope[1] - t[1]
    norm = slope[0] ** 2 + slope[1] ** 2
    weight = _multiply((shift.cos(), shift.sin()), (slope[0] / norm, -slope[1] / norm))
    a, b, c = (
        (part[0].sum(-1)[:, None, None], part[1].sum(-1)[:, None, None])
        for part in (weight, _multiply(weight, (-rest[0], -rest[1])), _multiply(weight, (root[0], -root[1])))
    )
    square = _product(re, im)
    one = torch.eye(3, dtype=re.dtype)
    terms = [_multiply(a, square), _multiply(b, (re, im)), (c[0] * one, c[1] * one)]
    return torch.stack([sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)], -1), logdet


def _su3_phases(t: Pair) -> Tensor:
    square, norm = _multiply(t, t), t[0] ** 2 + t[1] ** 2
    zero = square[0] - 3 * t[0], square[1] + 3 * t[1]
    cube = _multiply(square, t)
    one = 2 * cube[0] - 9 * norm + 27, 2 * cube[1]
    zero_cubed = _multiply(_multiply(zero, zero), zero)
    one_squared = _multiply(one, one)
    root = _power((one_squared[0] - 4 * zero_cubed[0], one_squared[1] - 4 * zero_cubed[1]), 1 / 2)
    # the sign that does not cancel
    sign = torch.where(one[0] * root[0] + one[1] * root[1] >= 0, 1.0, -1.0)
    c = _power(((one[0] + sign * root[0]) / 2, (one[1] + sign * root[1]) / 2), 1 / 3)
    norm = c[0] ** 2 + c[1] ** 2
    other = _multiply(zero, (c[0] / norm, -c[1] / norm))
    phases = []
    for k in range(3):
        cosine, sine = math.cos(2 * math.pi * k / 3), math.sin(2 * math.pi * k / 3)
        turned = _multiply(c, (cosine, sine))
        back = _multiply(other, (cosine, -sine))
        phases.append(torch.atan2(t[1] + turned[1] + back[1], t[0] + turned[0] + back[0]))
    return torch.stack(phases, -1)


def _multiply(x, y) -> Pair:
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _power(x: Pair, exponent: float) -> Pair:
    size, angle = (x[0] ** 2 + x[1] ** 2) ** (exponent / 2), torch.atan2(x[1], x[0]) * exponent
    return size * angle.cos(), size * angle.sin()


def _product(re: Tensor, im: Tensor) -> Pair:
    """w w, by sums that the compiler can fuse."""

    def product(x: Tensor, y: Tensor) -> Tensor:
        return (x.unsqueeze(-1) * y.unsqueeze(-3)).sum(-2)

    return product(re, re) - product(im, im), product(re, im) + product(im, re)
