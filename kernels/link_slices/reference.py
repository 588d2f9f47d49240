"""link_slices in plain PyTorch: the definition of the op."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.kernels.matrices import adjoint

KINDS = ("space", "space planar", "space bent", "both sides", "time", "up", "down", "time planar", "time bent")
"""The kinds of loops in a time slice; those from `FIRST` on have a derivative by a neighbouring slice, too."""
FIRST = 4
BEFORE = "down"
"""The kind whose other slice is the one before; that of the others is the next one."""


class Dual(NamedTuple):
    """Fields of matrices `(chains, *extents, N, N)` and their derivatives."""

    value: Tensor
    slope: Tensor

    def each(self, linear: Callable[[Tensor], Tensor]) -> "Dual":
        """A linear function of both."""
        return Dual(linear(self.value), linear(self.slope))

    def plus(self, other: "Dual") -> "Dual":
        """The sum of two."""
        return Dual(self.value + other.value, self.slope + other.slope)


def link_slices(links: Tensor, tangents: Tensor, extents: Sequence[int], nodes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values `(chains, T, 9, 4)` and slopes `(chains, T, 14, 4)`; see `lattice_flows.kernels.link_slices`.

    Shapes: links and tangents `(chains, dim * V, N, N)`.
    """
    dim, last = len(extents), extents[-1]
    u, x = (field.reshape(len(links), dim, *extents, *links.shape[-2:]) for field in (links, tangents))
    here = torch.arange(last, device=links.device)
    colour = here % 2
    colour[-1] = 2 if last % 2 else 1  # neighbours differ
    found = []
    for k in range(int(colour.max()) + 1):
        within = x * (colour == k)[:, None, None]
        within[:, dim - 1] = 0
        found.append(_sums([Dual(own, slope @ own) for own, slope in zip(u.unbind(1), within.unbind(1), strict=True)]))
    values, slopes = found[0][0], torch.stack([slope for _, slope in found])

    def by(slices: Tensor, kind: int) -> Tensor:
        return slopes[colour[slices], :, here, kind].transpose(0, 1)

    neighbours = [(here + (-1 if kind == BEFORE else 1)) % last for kind in KINDS]
    own = [by(here, kind) for kind in range(len(KINDS))]
    others = [by(neighbours[kind], kind) for kind in range(FIRST, len(KINDS))]
    return values, torch.stack([*own, *others], 2)


def _sums(u: Sequence[Dual]) -> tuple[Tensor, Tensor]:
    """The sums over each slice of all kinds `(chains, T, 9, 4)`, and their derivatives."""
    first = u[0].value
    sums = dict.fromkeys(KINDS, first.real.new_zeros(2, len(first), first.shape[-3], 4))
    for mu in range(len(u)):
        for kind, one, two in _pairs(u, mu):
            value = _squares(one.value) if two is None else _products(one.value, two.value)
            if two is None:
                slope = 2 * _squares(one.value, one.slope)
            else:
                slope = _products(one.slope, two.value) + _products(one.value, two.slope)
            sums[kind] = sums[kind] + torch.stack((value, slope))
    value, slope = torch.stack([*sums.values()], 3).double()
    return value, slope


def _pairs(u: Sequence[Dual], mu: int) -> Iterator[tuple[str, Dual, Dual | None]]:
    """Kinds and loops that begin with the links along mu, which are multiplied; single plaquettes."""
    time = len(u) - 1
    sides = {nu: _loops(u, mu, nu) for nu in range(len(u)) if nu != mu}
    space = {nu: (above, below) for nu, (above, below) in sides.items() if nu != time}
    both = [above.plus(below) for above, below in space.values()]
    planar, bent = ("time planar", "time bent") if mu == time else ("space planar", "space bent")
    yield from ((planar, above, below) for above, below in space.values())
    yield from ((bent, one, two) for one, two in itertools.combinations(both, 2))
    if mu == time:
        return
    yield from (("space", above, None) for nu, (above, _) in space.items() if nu > mu)
    up, down = sides[time]
    yield "time", up, None
    yield "both sides", up, down
    every = functools.reduce(Dual.plus, both)
    yield "up", every, up
    yield "down", every, down


def _loops(u: Sequence[Dual], mu: int, nu: int) -> tuple[Dual, Dual]:
    """The plaquettes from U_mu(x) that come back on the side above along nu, and on the side below."""

    def at(rho: int, *steps: tuple[int, int]) -> Dual:
        return u[rho].each(lambda own: functools.reduce(lambda y, step: y.roll(-step[1], step[0] + 1), steps, own))

    def back(link: Dual) -> Dual:
        return link.each(adjoint)

    ahead, above, below = (mu, 1), (nu, 1), (nu, -1)
    over = u[mu], at(nu, ahead), back(at(mu, above)), back(u[nu])
    under = u[mu], back(at(nu, ahead, below)), back(at(mu, below)), at(nu, below)
    return _product(over), _product(under)


def _product(factors: Sequence[Dual]) -> Dual:
    values = [own.value for own in factors]
    slopes = [[*values[:k], own.slope, *values[k + 1 :]] for k, own in enumerate(factors)]
    value, *terms = (functools.reduce(torch.matmul, own) for own in (values, *slopes))
    return Dual(value, functools.reduce(torch.add, terms))


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Re tr A B^dagger, Re tr A B, Re tr A (tr B)*, Re tr A tr B, summed over slices `(chains, T, 4)`."""
    one, two = _trace(a), _trace(b)
    each = _trace(a @ adjoint(b)), _trace(a @ b), one * two.conj_physical(), one * two
    return torch.stack([own.real.flatten(1, -2).sum(1) for own in each], -1)


def _squares(a: Tensor, b: Tensor | None = None) -> Tensor:
    """The same of B = A, but for Re tr A in the first place; or half of the derivative, for a derivative B of A."""
    first = _trace(a if b is None else b / 2).real.flatten(1, -2).sum(1)
    return torch.cat([first[..., None], _products(a, a if b is None else b)[..., 1:]], -1)


def _trace(m: Tensor) -> Tensor:
    return m.diagonal(dim1=-2, dim2=-1).sum(-1)
