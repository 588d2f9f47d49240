"""Averages of loops: plaquettes, Wilson loops of one size and of all sizes, Polyakov loops and their correlator."""

import functools
import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField, Lattice, closed_path, path_product, plaquette, rectangle
from lattice_flows.lattice import polyakov_loop as untraced_polyakov_loop
from lattice_flows.lattice.paths import Walk, follow
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable, ObservableEntry, of_links


def average_plaquette(space: GaugeField) -> Observable:
    """Re tr P / N, averaged over all planes and sites.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: the space is not one of links, or the links do not fit it.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (8, 8))
        >>> average_plaquette(space)(space.cold(5))
        tensor([1., 1., 1., 1., 1.])
    """
    planes = list(itertools.combinations(range(gauge_field(space).dim), 2))
    return lambda links: _average((plaquette(links, *plane, space) for plane in planes), space)


def wilson_loop(space: GaugeField, r: int, t: int) -> Observable:
    """Re tr W / N, averaged over the r x t and t x r Wilson loops W of all sites and planes.

    Shapes, errors and source: as `average_plaquette`. Each side must be at least 1, and shorter than the lattice.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (4, 6))
        >>> wilson_loop(space, 2, 1)(space.cold(1))
        tensor([1.])
    """
    lattice = gauge_field(space).lattice
    if r < 1 or t < 1:
        raise InvalidInput(f"the sides of a Wilson loop must be >= 1, got {r} x {t}")
    if max(r, t) >= min(lattice.extents):
        raise InvalidInput(f"a {r} x {t} Wilson loop needs extents > {max(r, t)}, got a lattice of {lattice}")
    # a loop and its reverse have the same Re tr, so a square needs one orientation
    planes = (itertools.combinations if r == t else itertools.permutations)(range(lattice.dim), 2)
    paths = [rectangle(mu, r, nu, t) for mu, nu in planes]
    return lambda links: _average((closed_path(links, path, space) for path in paths), space)


def _average(loops: Iterable[Tensor], space: GaugeField) -> Tensor:
    """Re tr / N `(*batch,)`, averaged over loop fields and their sites."""
    return torch.stack([space.group.retrace(loop) for loop in loops]).mean(0).flatten(-space.dim).mean(-1)


def wilson_loops(space: GaugeField, r: int, t: int, time: int | None = None) -> Observable:
    """Re tr W / N of the R x T Wilson loops for all R = 1 ... r and T = 1 ... t, averaged over sites and planes.

    Element [R - 1, T - 1] is `wilson_loop(space, R, T)`. With a direction of time, the average is over the planes that
    contain time, with T along time and R along the other direction.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, r, t)`.

    Args:
        time: the direction of T, 0 ... dim - 1, or counted from the end: -1 is the last; None for all planes.

    Raises:
        InvalidInput: as `wilson_loop`, or the lattice has no such direction.

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

        sizes = itertools.product(range(1, r + 1), range(1, t + 1))
        means = [torch.stack([mean(mu, a, nu, b) for mu, nu in planes]).mean(0) for a, b in sizes]
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


def polyakov_loop(space: GaugeField, direction: int) -> Observable:
    """tr L / N, averaged over the loops L that wind once around the lattice along `direction`.

    It is the order parameter of the centre symmetry, which turns its phase.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`, complex.

    Args:
        direction: 0 ... dim - 1, or counted from the end: -1 is the last direction.

    Raises:
        InvalidInput: the space is not one of links, or the lattice has no such direction.

    Source: A. M. Polyakov, Phys. Lett. B 72 (1978) 477.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (4, 6))
        >>> polyakov_loop(space, direction=-1)(space.cold(1))
        tensor([1.+0.j])
    """
    loops, across = _traces(space, direction)
    return lambda links: loops(links).mean(across)


def polyakov_loop_modulus(space: GaugeField, direction: int) -> Observable:
    """The modulus of `polyakov_loop`, that is, of the average: real `(*batch,)`. Errors: as there.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (4, 6))
        >>> polyakov_loop_modulus(space, direction=-1)(space.cold(1))
        tensor([1.])
    """
    loop = polyakov_loop(space, direction)
    return lambda links: loop(links).abs()


def polyakov_correlator(space: GaugeField, direction: int) -> Observable:
    """C(r) = (1/n) sum_x l(x)^* l(x + r) for all r, with l = tr L / N of the n Polyakov loops L.

    Its mean is real: <C(r)> = exp(-T V(r)), with T the extent along `direction`, and V(r) the potential between static
    charges at the temperature 1 / T.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, *r)`, complex. The axes of r are those of the sites
    without `direction`. Errors: as `polyakov_loop`.

    Source: L. D. McLerran and B. Svetitsky, Phys. Rev. D 24 (1981) 450.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (3, 6))
        >>> polyakov_correlator(space, direction=-1)(space.cold(1))
        tensor([[1.+0.j, 1.+0.j, 1.+0.j]])
    """
    loops, across = _traces(space, direction)

    def observable(links: Tensor) -> Tensor:
        power = torch.fft.fftn(loops(links), dim=across, norm="forward").abs().square()
        return torch.fft.ifftn(power, dim=across, norm="forward")

    return observable


def _traces(space: GaugeField, direction: int) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    """links -> tr L / N of all Polyakov loops along a direction, and the axes of the other directions."""
    group, d = gauge_field(space).group, space.dim
    if not -d <= direction < d:
        raise InvalidInput(f"direction must be from {-d} to {d - 1} in {d} dimensions, got {direction}")
    mu = direction % d

    def loops(links: Tensor) -> Tensor:
        # all first sites along the loop give the same trace
        return group.trace(untraced_polyakov_loop(links, mu, space)).select(mu - d, 0)

    return loops, tuple(range(1 - d, 0))


PLAQUETTE = ObservableEntry("plaquette", of_links(average_plaquette), "lattice_flows.planar.exact:mean_plaquette")
WILSON_LOOP_2X2 = ObservableEntry(
    "Wilson loop W(2,2)",
    of_links(lambda space: wilson_loop(space, 2, 2) if min(space.lattice.extents) > 2 else None),
    "lattice_flows.planar.exact:mean_wilson_loop_2x2",
)
POLYAKOV_LOOP = ObservableEntry("Polyakov loop |L|", of_links(lambda space: polyakov_loop_modulus(space, -1)))
