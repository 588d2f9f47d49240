"""The topological charge: the geometric one in two dimensions, that of the clover in four."""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField, plaquette
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable, ObservableEntry, of_links
from lattice_flows.observables.field_strength import clover

# pairs of planes in four dimensions, with the sign of their permutation
_PAIRS = (((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1))


def has_geometric_charge(space: GaugeField) -> bool:
    """Whether the group is abelian and the lattice two-dimensional, as `topological_charge` needs."""
    return space.group.abelian and space.dim == 2


def topological_charge(space: GaugeField) -> Observable:
    """The geometric charge Q = sum_x arg P(x) / 2 pi of U(1) in two dimensions, an integer without a gradient.

    Shapes: links `(*batch, 2, *sites)` -> `(*batch,)`.

    Raises:
        InvalidInput: the group is not abelian, or the lattice is not two-dimensional.

    Source: C. Bonati, P. Rossi, 1901.09830.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (8, 8))
        >>> links = space.prior(1, torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> topological_charge(space)(links)
        tensor([-4.], dtype=torch.float64)
    """
    if not has_geometric_charge(gauge_field(space)):
        raise InvalidInput(f"the geometric charge is defined for U(1) in two dimensions, got {space}")

    def observable(links: Tensor) -> Tensor:
        angles, _ = space.group.eigenphases(plaquette(links, 0, 1, space))
        return (angles.sum((-3, -2, -1)) / (2 * math.pi)).round()

    return observable


def clover_charge(space: GaugeField) -> Observable:
    """The charge in four dimensions, Q = -1/(32 pi^2) sum_x eps_{mu nu rho sigma} tr F_{mu nu} F_{rho sigma}.

    F is that of `clover`. Q is close to an integer on smooth fields only: measure it along the Wilson flow.

    Shapes: links `(*batch, 4, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: the space is not one of links in four dimensions.

    Source: P. Di Vecchia, K. Fabricius, G. C. Rossi and G. Veneziano, Nucl. Phys. B 192 (1981) 392, for the density;
    M. Luscher, 1006.4518, section 3, for its F.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(2), (4, 4, 4, 4))
        >>> bool(clover_charge(space)(space.cold(1)) == 0)
        True
    """
    group = gauge_field(space).group
    if space.dim != 4:
        raise InvalidInput(f"the charge of the clover is defined on a 4-dimensional lattice, got {space}")
    # eps counts each pair of planes eight times, and tr X Y = -inner(X, Y) n / (beta g^2)
    weight = 8 * group.n / (32 * math.pi**2 * group.bare_coupling)

    def observable(links: Tensor) -> Tensor:
        density = [sign * group.inner(*(clover(links, *plane, space) for plane in planes)) for *planes, sign in _PAIRS]
        return weight * torch.stack(density).sum(0).flatten(-4).sum(-1)

    return observable


def _squared(space: GaugeField) -> Observable:
    charge = topological_charge(space)
    return lambda links: charge(links).square()


TOPOLOGICAL_CHARGE = ObservableEntry(
    "topological charge Q",
    of_links(lambda space: topological_charge(space) if has_geometric_charge(space) else None),
    "lattice_flows.planar.exact:mean_charge",
)
TOPOLOGICAL_CHARGE_SQUARED = ObservableEntry(
    "<Q^2>",
    of_links(lambda space: _squared(space) if has_geometric_charge(space) else None),
    "lattice_flows.planar.exact:mean_charge_squared",
)
