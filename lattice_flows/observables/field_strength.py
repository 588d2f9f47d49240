"""The field strength by the clover; the densities of the classical action, and the topological charges."""

import functools
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField, path_product, plaquette
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable, ObservableEntry, of_links
from lattice_flows.observables.loops import average_plaquette

# pairs of planes in four dimensions, with the sign of their permutation
_PAIRS = (((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1))


@dataclass(frozen=True)
class FlowDensity:
    """An observable that `lattice_flows.kernels.link_flow` measures along the Wilson flow.

    Args:
        column: its place among the densities of the kernel.
        function: the observable.
    """

    column: int
    space: GaugeField
    function: Observable

    def __call__(self, links: Tensor) -> Tensor:
        return self.function(links)


def clover(links: Tensor, mu: int, nu: int, space: GaugeField) -> Tensor:
    """The field strength F_{mu nu}(x) in the algebra, from the four plaquettes that meet in x.

    F_{mu nu}(x) is the mean of project_algebra(P(x)) over P = P_{mu nu}, P_{nu,-mu}, P_{-mu,-nu}, P_{-nu,mu}. P_{mu nu}
    is the plaquette from x that leaves along mu and comes back along nu. For U(1) it is the mean of four sines.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, *sites, *element)`.

    Raises:
        InvalidInput: the links do not fit the space, or the lattice lacks a direction.

    Source: B. Sheikholeslami and R. Wohlert, Nucl. Phys. B 259 (1985) 572; M. Luscher, 1006.4518, section 3.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(2), (4, 4))
        >>> clover(space.cold(1), 0, 1, space).abs().max()
        tensor(0.)
    """
    group = gauge_field(space).group
    corners = ((mu, 1), (nu, 1)), ((nu, 1), (mu, -1)), ((mu, -1), (nu, -1)), ((nu, -1), (mu, 1))
    leaves = (path_product(links, (a, b, (a[0], -a[1]), (b[0], -b[1])), space) for a, b in corners)
    return group.project_sum(leaves) / 4


def action_density(space: GaugeField) -> Observable:
    """The mean over x of E = sum_{mu < nu} inner(F_{mu nu}, F_{mu nu}) / 2, F that of `clover`.

    In the continuum E = F^a_{mu nu} F^a_{mu nu} / 4, summed over a, mu and nu. Shapes and errors: as
    `average_plaquette`.

    Source: M. Luscher, 1006.4518, eq. 2.1 and section 3.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(3), (4, 4, 4, 4))
        >>> density = action_density(space)(space.prior(1, torch.Generator().manual_seed(0)))
        >>> print(f"{density.item():.1f}")
        2.0
    """
    group, dim = gauge_field(space).group, space.dim

    def observable(links: Tensor) -> Tensor:
        strengths = (clover(links, *plane, space) for plane in itertools.combinations(range(dim), 2))
        return functools.reduce(torch.add, (group.inner(F, F).flatten(-dim).mean(-1) / 2 for F in strengths))

    return FlowDensity(1, space, observable)


def plaquette_density(space: GaugeField) -> Observable:
    """The mean over x of E = beta g^2 sum_{mu < nu} (1 - Re tr P_{mu nu} / N): 2 sum Re tr(1 - P) for SU(N).

    It differs from `action_density` by lattice artefacts. Shapes and errors: as `average_plaquette`.

    Source: M. Luscher, 1006.4518, eq. 3.1.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(3), (4, 4, 4, 4))
        >>> density = plaquette_density(space)(space.prior(1, torch.Generator().manual_seed(0)))
        >>> print(f"{density.item():.0f}")
        36
    """
    average, planes = average_plaquette(space), space.dim * (space.dim - 1) / 2
    return FlowDensity(0, space, lambda links: space.group.bare_coupling * planes * (1 - average(links)))


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
    if not (gauge_field(space).group.abelian and space.dim == 2):
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

    return FlowDensity(2, space, observable)


def geometric_charge(space: GaugeField) -> Observable | None:
    """`topological_charge` where it is defined, or None."""
    return topological_charge(space) if space.group.abelian and space.dim == 2 else None


def _squared(space: GaugeField) -> Observable | None:
    charge = geometric_charge(space)
    return charge and (lambda links: charge(links).square())


TOPOLOGICAL_CHARGE = ObservableEntry(
    "topological charge Q", of_links(geometric_charge), "lattice_flows.planar.exact:mean_charge"
)
TOPOLOGICAL_CHARGE_SQUARED = ObservableEntry(
    "<Q^2>", of_links(_squared), "lattice_flows.planar.exact:mean_charge_squared"
)
