"""Wilson loops of all sizes in one pass: four straight lines each, and every line made once."""

import functools
import itertools

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import coordinates, extents, flat_index, infer_dim, site_axis, volume
from lattice_flows.fields.loops import Walk, follow, path_product
from lattice_flows.groups import Group
from lattice_flows.measurement.observables import Observable


def wilson_loops(group: Group, r: int, t: int, *, time: int | None = None, dim: int | None = None) -> Observable:
    """Re tr W / N of the R x T Wilson loops for all R = 1 ... r and T = 1 ... t, averaged over sites and planes.

    Element [R - 1, T - 1] is what `wilson_loop(group, R, T)` measures, R x T and T x R alike. With a direction of time
    it is the average over the planes that contain it alone, T along time and R along the other direction.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, r, t)`.

    Args:
        time: the direction of T, 0 ... dim - 1, or counted from the end: -1 is the last; None for all planes.
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: r or t is less than 1; or, when they are measured, a side is as long as the lattice or longer,
            or the lattice has no such direction.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> from lattice_flows import U1
        >>> wilson_loops(U1(), 2, 3)(U1().identity(2, 4, 6))
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    if r < 1 or t < 1:
        raise InvalidInput(f"the sides of Wilson loops must be >= 1, got {r} x {t}")

    def observable(links: Tensor) -> Tensor:
        d = infer_dim(links, group, dim)
        sites = extents(links, group, d)
        if time is not None and not -d <= time < d:
            raise InvalidInput(f"time must be a direction from {-d} to {d - 1} in {d} dimensions, got {time}")
        planes = [(mu, nu) for mu, nu in itertools.permutations(range(d), 2) if time is None or nu == time % d]
        if any(r >= sites[mu] or t >= sites[nu] for mu, nu in planes):
            raise InvalidInput(f"{r} x {t} Wilson loops need larger extents, got a lattice of {sites}")
        lines = _lines(links, max(r, t), group, d)

        @functools.cache
        def mean(mu: int, a: int, nu: int, b: int) -> Tensor:
            if mu > nu:  # the reverse of a loop has the same Re tr
                return mean(nu, b, mu, a)
            return group.retrace(follow(lines, _loops(mu, a, nu, b, sites, links.device), group)).mean(-1)

        means = [
            torch.stack([mean(mu, a, nu, b) for mu, nu in planes]).mean(0)
            for a, b in itertools.product(range(1, r + 1), range(1, t + 1))
        ]
        return torch.stack(means, -1).unflatten(-1, (r, t))

    return observable


def _lines(links: Tensor, longest: int, group: Group, dim: int) -> Tensor:
    """The straight lines of 1 ... `longest` links, `(*batch, longest * dim * V, *element)`: those of length a lie in
    block a - 1, in the order of the links that they begin with."""
    axis = site_axis(group)
    # walked from their beginnings: adding a link to shorter lines takes fewer products, but more memory and time
    lines = [
        path_product(links, ((mu, length),), group, dim=dim).flatten(axis + 1 - dim, axis)
        for length in range(1, longest + 1)
        for mu in range(dim)
    ]
    return torch.cat(lines, axis)


def _loops(mu: int, a: int, nu: int, b: int, sites: tuple[int, ...], device: torch.device) -> Walk:
    """The walk of four steps through the lines that goes around the a x b loop from every site."""
    v = volume(sites)
    along_mu, along_nu = (((length - 1) * len(sites) + rho) * v for rho, length in ((mu, a), (nu, b)))
    here, end_mu, end_nu = (_ahead(rho, length, sites, device) for rho, length in ((mu, 0), (mu, a), (nu, b)))
    rows = along_mu + here, along_nu + end_mu, along_mu + end_nu, along_nu + here
    return Walk(torch.stack(rows), (True, True, False, False))


@functools.lru_cache(maxsize=64)
def _ahead(mu: int, steps: int, sites: tuple[int, ...], device: torch.device) -> Tensor:
    """The flat sites x + steps mu."""
    position = coordinates(sites)
    position[mu] += steps
    return flat_index(position, sites).to(device)
