"""Wilson loops of all sizes in one pass, as products of four straight lines; each line is computed once."""

import functools
import itertools

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField, Lattice, path_product
from lattice_flows.lattice.paths import Walk, follow
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable


def wilson_loops(space: GaugeField, r: int, t: int, time: int | None = None) -> Observable:
    """Re tr W / N of the R x T Wilson loops for all R = 1 ... r and T = 1 ... t, averaged over sites and planes.

    Element [R - 1, T - 1] is `wilson_loop(space, R, T)`. With a direction of time, the average is over the planes that
    contain time, with T along time and R along the other direction.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, r, t)`.

    Args:
        time: the direction of T, 0 ... dim - 1, or counted from the end: -1 is the last; None for all planes.

    Raises:
        InvalidInput: the space is not one of links, a side is less than 1 or as long as the lattice or longer, or the
            lattice has no such direction.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (4, 6))
        >>> wilson_loops(space, 2, 3)(space.cold(1))
        tensor([[[1., 1., 1.],
                 [1., 1., 1.]]])
    """
    group, lattice, d = gauge_field(space).group, space.lattice, space.dim
    if r < 1 or t < 1:
        raise InvalidInput(f"the sides of Wilson loops must be >= 1, got {r} x {t}")
    if time is not None and not -d <= time < d:
        raise InvalidInput(f"time must be a direction from {-d} to {d - 1} in {d} dimensions, got {time}")
    planes = [(mu, nu) for mu, nu in itertools.permutations(range(d), 2) if time is None or nu == time % d]
    if any(r >= lattice.extents[mu] or t >= lattice.extents[nu] for mu, nu in planes):
        raise InvalidInput(f"{r} x {t} Wilson loops need larger extents, got a lattice of {lattice}")

    def observable(links: Tensor) -> Tensor:
        lines = _lines(links, max(r, t), space)

        @functools.cache
        def mean(mu: int, a: int, nu: int, b: int) -> Tensor:
            if mu > nu:  # the reverse of a loop has the same Re tr
                return mean(nu, b, mu, a)
            return group.retrace(follow(lines, _loops(mu, a, nu, b, lattice, links.device), group)).mean(-1)

        means = [
            torch.stack([mean(mu, a, nu, b) for mu, nu in planes]).mean(0)
            for a, b in itertools.product(range(1, r + 1), range(1, t + 1))
        ]
        return torch.stack(means, -1).unflatten(-1, (r, t))

    return observable


def _lines(links: Tensor, longest: int, space: GaugeField) -> Tensor:
    """The straight lines of 1 ... `longest` links, `(*batch, longest * dim * V, *element)`.

    Lines of length a lie in block a - 1, in the order of their first links.
    """
    axis = space.site_axis
    # each is walked from its first site: extending shorter lines takes fewer products, but more memory and time
    lines = [
        path_product(links, ((mu, length),), space).flatten(axis + 1 - space.dim, axis)
        for length in range(1, longest + 1)
        for mu in range(space.dim)
    ]
    return torch.cat(lines, axis)


def _loops(mu: int, a: int, nu: int, b: int, lattice: Lattice, device: torch.device) -> Walk:
    """The walk of four steps through the lines that goes around the a x b loop from every site."""
    along_mu, along_nu = (((length - 1) * lattice.dim + rho) * lattice.volume for rho, length in ((mu, a), (nu, b)))
    here, end_mu, end_nu = (_ahead(rho, length, lattice, device) for rho, length in ((mu, 0), (mu, a), (nu, b)))
    rows = along_mu + here, along_nu + end_mu, along_mu + end_nu, along_nu + here
    return Walk(torch.stack(rows), (True, True, False, False))


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def _ahead(mu: int, steps: int, lattice: Lattice, device: torch.device) -> Tensor:
    """The flat sites x + steps mu."""
    return lattice.neighbours(mu, steps).to(device)
