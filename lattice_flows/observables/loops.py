"""The average plaquette and the Wilson loop of one size."""

import itertools

from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField, closed_path, plaquette, rectangle
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable, ObservableEntry, average, of_links


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
    group, planes = gauge_field(space).group, list(itertools.combinations(range(space.dim), 2))

    def observable(links: Tensor) -> Tensor:
        return average([group.retrace(plaquette(links, mu, nu, space)) for mu, nu in planes], space.dim)

    return observable


def wilson_loop(space: GaugeField, r: int, t: int) -> Observable:
    """Re tr W / N, averaged over the r x t and t x r Wilson loops W of all sites and planes.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: the space is not one of links, or a side is less than 1 or as long as the lattice or longer.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (4, 6))
        >>> wilson_loop(space, 2, 1)(space.cold(1))
        tensor([1.])
    """
    group, lattice = gauge_field(space).group, space.lattice
    if r < 1 or t < 1:
        raise InvalidInput(f"the sides of a Wilson loop must be >= 1, got {r} x {t}")
    if max(r, t) >= min(lattice.extents):
        raise InvalidInput(f"a {r} x {t} Wilson loop needs extents > {max(r, t)}, got a lattice of {lattice}")
    # a loop and its reverse have the same Re tr, so a square needs one orientation
    planes = (itertools.combinations if r == t else itertools.permutations)(range(lattice.dim), 2)
    paths = [rectangle(mu, r, nu, t) for mu, nu in planes]

    def observable(links: Tensor) -> Tensor:
        return average([group.retrace(closed_path(links, path, space)) for path in paths], lattice.dim)

    return observable


PLAQUETTE = ObservableEntry("plaquette", of_links(average_plaquette), "lattice_flows.planar.exact:mean_plaquette")
WILSON_LOOP_2X2 = ObservableEntry(
    "Wilson loop W(2,2)",
    of_links(lambda space: wilson_loop(space, 2, 2) if min(space.lattice.extents) > 2 else None),
    "lattice_flows.planar.exact:mean_wilson_loop_2x2",
)
