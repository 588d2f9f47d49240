"""What is measured on a configuration: functions of the links, one number for each configuration."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lattice_flows import fields
from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites, extents
from lattice_flows.groups import U1, Group

Observable = Callable[[Tensor], Tensor]


def average_plaquette(group: Group, *, dim: int | None = None) -> Observable:
    """Re tr P / N, averaged over all planes and sites.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Args:
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: the links do not fit the group.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> average_plaquette(U1())(U1().identity(5, 2, 8, 8))
        tensor([1., 1., 1., 1., 1.])
    """

    def observable(links: Tensor) -> Tensor:
        d = fields.infer_dim(links, group, dim)
        planes = itertools.combinations(range(d), 2)
        return _mean([group.retrace(fields.plaquette(links, mu, nu, group, dim=d)) for mu, nu in planes], d)

    return observable


def wilson_loop(group: Group, r: int, t: int, *, dim: int | None = None) -> Observable:
    """Re tr W / N of the r x t Wilson loop, averaged over all sites and planes, r x t and t x r alike.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Args:
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: r or t is less than 1, or, when it is measured, as long as the lattice or longer.

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> wilson_loop(U1(), 2, 1)(U1().identity(2, 4, 6))
        tensor(1.)
    """
    if r < 1 or t < 1:
        raise InvalidInput(f"the sides of a Wilson loop must be >= 1, got {r} x {t}")

    def observable(links: Tensor) -> Tensor:
        d = fields.infer_dim(links, group, dim)
        sites = extents(links, group, d)
        if max(r, t) >= min(sites):
            raise InvalidInput(f"a {r} x {t} Wilson loop needs extents > {max(r, t)}, got a lattice of {sites}")
        # a loop and its reverse have the same Re tr: for a square one orientation is both
        planes = itertools.combinations(range(d), 2) if r == t else itertools.permutations(range(d), 2)
        paths = [fields.rectangle(mu, r, nu, t) for mu, nu in planes]
        return _mean([group.retrace(fields.closed_path(links, path, group, dim=d)) for path in paths], d)

    return observable


def polyakov_loop(group: Group, direction: int, *, dim: int | None = None) -> Callable[[Tensor], Tensor]:
    """tr L / N of the loop L that winds once around the lattice along `direction`, averaged over the volume: complex.

    It is the order parameter of the centre symmetry, which turns its phase. For a real observable take
    `polyakov_loop_modulus`.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`, complex.

    Args:
        direction: 0 ... dim - 1, or counted from the end: -1 is the last direction.
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: the lattice has no such direction.

    Source: A. M. Polyakov, Phys. Lett. B 72 (1978) 477.

    Example:
        >>> polyakov_loop(U1(), direction=-1)(U1().identity(2, 4, 6))
        tensor(1.+0.j)
    """

    def observable(links: Tensor) -> Tensor:
        loops, across = _polyakov_loops(links, group, direction, dim)
        return loops.mean(across)

    return observable


def polyakov_loop_modulus(group: Group, direction: int, *, dim: int | None = None) -> Observable:
    """The modulus of `polyakov_loop`: of the volume average, not an average of moduli.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: as `polyakov_loop`.

    Example:
        >>> polyakov_loop_modulus(U1(), direction=-1)(U1().identity(2, 4, 6))
        tensor(1.)
    """
    average = polyakov_loop(group, direction, dim=dim)
    return lambda links: average(links).abs()


def polyakov_correlator(group: Group, direction: int, *, dim: int | None = None) -> Callable[[Tensor], Tensor]:
    """C(r) = (1/V) sum_x l(x)^* l(x + r) for all r, with l = tr L / N of the Polyakov loops L, and V their number.

    Its mean is real, and <C(r)> = exp(-extent V(r)) with the potential V between static charges at a temperature of
    1 / extent, the extent being that along `direction`.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, *r)`, complex: r runs through the sites without those
    along `direction`.

    Raises:
        InvalidInput: as `polyakov_loop`.

    Source: L. D. McLerran and B. Svetitsky, Phys. Rev. D 24 (1981) 450.

    Example:
        >>> polyakov_correlator(U1(), direction=-1)(U1().identity(2, 3, 6))
        tensor([1.+0.j, 1.+0.j, 1.+0.j])
    """

    def observable(links: Tensor) -> Tensor:
        loops, across = _polyakov_loops(links, group, direction, dim)
        power = torch.fft.fftn(loops, dim=across, norm="forward").abs().square()
        return torch.fft.ifftn(power, dim=across, norm="forward")

    return observable


def topological_charge(group: Group) -> Observable:
    """The geometric charge Q = sum_x arg P(x) / 2 pi of U(1) in two dimensions, an integer; it has no gradient.

    Shapes: links `(*batch, 2, *sites)` -> `(*batch,)`.

    Raises:
        InvalidInput: the group is not U(1), or the lattice is not two-dimensional.

    Source: C. Bonati, P. Rossi, 1901.09830.

    Example:
        >>> links = U1().haar(2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> print(f"{topological_charge(U1())(links):.12f}")
        -4.000000000000
    """
    if group != U1():
        raise InvalidInput(f"the geometric charge is defined for U(1) in two dimensions, got {group}")
    return lambda links: (fields.plaquette(links, 0, 1, group, dim=2).sum((-2, -1)) / (2 * math.pi)).round()


def standard_observables(group: Group, sites: Sequence[int]) -> dict[str, Observable]:
    """The observables that a run measures, by name; `exact_value` knows the same names.

    `plaquette`, `polyakov_loop` (modulus, along the last direction), `wilson_loop_2x2` where it fits, and for U(1) in
    two dimensions `topological_charge` and `topological_charge_squared`.

    Raises:
        InvalidInput: sites are not 2 to 4 integer extents >= 2.

    Example:
        >>> from lattice_flows import SU
        >>> list(standard_observables(SU(3), sites=(8, 8)))
        ['plaquette', 'wilson_loop_2x2', 'polyakov_loop']
    """
    sites = check_sites(sites)
    d = len(sites)
    observables: dict[str, Observable] = {"plaquette": average_plaquette(group, dim=d)}
    if min(sites) > 2:
        observables["wilson_loop_2x2"] = wilson_loop(group, 2, 2, dim=d)
    if group == U1() and d == 2:
        charge = topological_charge(group)
        observables["topological_charge"] = charge
        observables["topological_charge_squared"] = lambda links: charge(links).square()
    observables["polyakov_loop"] = polyakov_loop_modulus(group, d - 1, dim=d)
    return observables


def _mean(scalars: list[Tensor], dim: int) -> Tensor:
    """The average over fields (*batch, *sites) and their sites."""
    return torch.stack(scalars).mean(0).flatten(-dim).mean(-1)


def _polyakov_loops(links: Tensor, group: Group, direction: int, dim: int | None) -> tuple[Tensor, tuple[int, ...]]:
    """tr L / N of all Polyakov loops along a direction, and the axes of the other directions, along which they lie."""
    d = fields.infer_dim(links, group, dim)
    if not -d <= direction < d:
        raise InvalidInput(f"direction must be from {-d} to {d - 1} in {d} dimensions, got {direction}")
    # the trace does not depend on where along the loop it begins
    loops = group.trace(fields.polyakov_loop(links, direction % d, group, dim=d)).select(direction % d - d, 0)
    return loops, tuple(range(1 - d, 0))
