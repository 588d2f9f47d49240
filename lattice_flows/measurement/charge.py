"""The topological charge in four dimensions."""

import math

import torch
from torch import Tensor

from lattice_flows.groups import Group
from lattice_flows.measurement.field_strength import bare_coupling, clover
from lattice_flows.measurement.observables import Observable

# pairs of planes that span four dimensions, with the sign of their permutation
_PAIRS = (((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1))


def clover_charge(group: Group) -> Observable:
    """The charge in four dimensions, Q = -1/(32 pi^2) sum_x eps_{mu nu rho sigma} tr F_{mu nu} F_{rho sigma}, F from
    the `clover`.

    It is close to an integer on smooth fields only: measure it along the gradient flow.

    Shapes: links `(*batch, 4, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: the links are no four-dimensional field of the group.

    Source: P. Di Vecchia, K. Fabricius, G. C. Rossi and G. Veneziano, Nucl. Phys. B 192 (1981) 392, for the density;
    M. Luscher, 1006.4518, section 3, for its F.

    Example:
        >>> from lattice_flows import SU
        >>> bool(clover_charge(SU(2))(SU(2).identity(4, 4, 4, 4, 4)) == 0)
        True
    """
    # eps counts each pair of planes eight times, and tr X Y = -inner(X, Y) n / (beta g^2)
    weight = 8 * group.n / (32 * math.pi**2 * bare_coupling(group))

    def observable(links: Tensor) -> Tensor:
        density = [
            sign * group.inner(*(clover(links, *plane, group, dim=4) for plane in planes)) for *planes, sign in _PAIRS
        ]
        return weight * torch.stack(density).sum(0).flatten(-4).sum(-1)

    return observable
