"""The field strength by the clover, and the density of the classical action by the clover or the plaquette."""

import functools
import itertools

import torch
from torch import Tensor

from lattice_flows.lattice import GaugeField, path_product
from lattice_flows.lattice.space import gauge_field
from lattice_flows.observables.base import Observable
from lattice_flows.observables.loops import average_plaquette


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

    return observable


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
    plaquette, dim = average_plaquette(space), space.dim
    planes = dim * (dim - 1) / 2
    return lambda links: space.group.bare_coupling * planes * (1 - plaquette(links))
