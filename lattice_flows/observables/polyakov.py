"""Polyakov loops: their average, its modulus, and their correlator."""

from collections.abc import Callable

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice import polyakov_loop as untraced
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable, ObservableEntry, of_links


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
        return group.trace(untraced(links, mu, space)).select(mu - d, 0)

    return loops, tuple(range(1 - d, 0))


POLYAKOV_LOOP = ObservableEntry("Polyakov loop |L|", of_links(lambda space: polyakov_loop_modulus(space, -1)))
