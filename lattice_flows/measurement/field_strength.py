"""The field strength of the clover, and the density of the classical action with it and with the plaquette."""

import itertools

import torch
from torch import Tensor

from lattice_flows import fields
from lattice_flows.fields.layout import infer_dim
from lattice_flows.groups import Group
from lattice_flows.measurement.observables import Observable, average_plaquette


def bare_coupling(group: Group) -> float:
    """beta g^2, the product of the Wilson action's beta and the squared bare coupling: 2 N for SU(N), 1 for U(1).

    With this beta the action is sum_{x, mu < nu} inner(F, F) / 2 to leading order in F, P_{mu nu} = exp(F).

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> from lattice_flows import SU, U1
        >>> bare_coupling(SU(3)), bare_coupling(U1())
        (6.0, 1.0)
    """
    return 2.0 * group.n if group.element_shape else 1.0


def clover(links: Tensor, mu: int, nu: int, group: Group, *, dim: int | None = None) -> Tensor:
    """The field strength F_{mu nu}(x) in the algebra, from the mean of the four plaquettes that meet in x.

    F_{mu nu}(x) = project_algebra((P_{mu nu} + P_{nu,-mu} + P_{-mu,-nu} + P_{-nu,mu})(x) / 4), with P_{mu nu} the
    plaquette from x that leaves along mu and comes back along nu; the mean of four sines for U(1).

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch, *sites, *element)`.

    Source: B. Sheikholeslami and R. Wohlert, Nucl. Phys. B 259 (1985) 572; M. Luscher, 1006.4518, section 3.

    Example:
        >>> from lattice_flows import SU
        >>> clover(SU(2).identity(2, 4, 4), 0, 1, SU(2)).abs().max()
        tensor(0.)
    """
    dim = infer_dim(links, group, dim)
    total = torch.zeros((), dtype=links.dtype, device=links.device)
    for a, b in (((mu, 1), (nu, 1)), ((nu, 1), (mu, -1)), ((mu, -1), (nu, -1)), ((nu, -1), (mu, 1))):
        leaf = fields.path_product(links, (a, b, (a[0], -a[1]), (b[0], -b[1])), group, dim=dim)
        # the leaves of U(1) are angles, which add up only after their projection
        total = total + (leaf if group.element_shape else group.project_algebra(leaf))
    return (group.project_algebra(total) if group.element_shape else total) / 4


def action_density(group: Group, *, dim: int | None = None) -> Observable:
    """The mean over x of E = sum_{mu < nu} inner(F_{mu nu}, F_{mu nu}) / 2 with F from the `clover`.

    In the continuum E = F^a_{mu nu} F^a_{mu nu} / 4, summed over a, mu and nu.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: the links do not fit the group.

    Source: M. Luscher, 1006.4518, eq. 2.1 and section 3.

    Example:
        >>> from lattice_flows import SU
        >>> links = SU(3).haar(4, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> print(f"{action_density(SU(3))(links):.1f}")
        2.0
    """

    def observable(links: Tensor) -> Tensor:
        d = infer_dim(links, group, dim)
        total = torch.zeros((), device=links.device)
        for mu, nu in itertools.combinations(range(d), 2):
            strength = clover(links, mu, nu, group, dim=d)
            total = total + group.inner(strength, strength).flatten(-d).mean(-1) / 2
        return total

    return observable


def plaquette_density(group: Group, *, dim: int | None = None) -> Observable:
    """The mean over x of E = beta g^2 sum_{mu < nu} (1 - Re tr P_{mu nu} / N): 2 sum Re tr(1 - P) for SU(N).

    It differs from `action_density` by lattice artefacts.

    Shapes: links `(*batch, dim, *sites, *element)` -> `(*batch,)`.

    Raises:
        InvalidInput: the links do not fit the group.

    Source: M. Luscher, 1006.4518, eq. 3.1.

    Example:
        >>> from lattice_flows import SU
        >>> links = SU(3).haar(4, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> print(f"{plaquette_density(SU(3))(links):.0f}")
        36
    """
    average = average_plaquette(group, dim=dim)

    def observable(links: Tensor) -> Tensor:
        d = infer_dim(links, group, dim)
        return bare_coupling(group) * d * (d - 1) / 2 * (1 - average(links))

    return observable
