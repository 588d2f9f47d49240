"""The shape legend: how fields lie in tensors.

    links    (*batch, dim, *sites, *element)     U(1): element = ()      real angle in [-pi, pi)
                                                 SU(N): element = (N, N) complex
    loop     (*batch, *sites, *element)          plaquettes, untraced loops, gauge functions
    scalar   (*batch, *sites)  real              per-site features, per-site log-determinants
    logdet, log_q, action      (*batch,)  real   per configuration

U_mu(x), the link from x to x + mu, is `links[..., mu, *x, ...]`. The lattice is periodic in every direction, the
extents may differ, and everything is in lattice units (a = 1). Axes are counted from the right, so that any number of
batch axes works.

Sites and links also have flat indices: site x is its row-major position among the V sites, and link U_mu(x) is
mu * V + x. Index tensors of them are what partitions and paths are made of.
"""

import math

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group

DIMENSIONS = (2, 3, 4)


def infer_dim(links: Tensor, group: Group, dim: int | None = None) -> int:
    """The lattice dimension of a links tensor: the d for which the axis before the d site axes has length d.

    Shapes can fit two dimensions: (3, 2, 8, 8) is a batch of three fields in 2D, or one 3D field with an extent of 2.
    Then lattices without an extent of 2 win, and among those the lowest dimension. Where that is not what is meant,
    give `dim`.

    Raises:
        InvalidInput: the tensor has the wrong element axes or dtype for the group, or fits no dimension.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, U1
        >>> infer_dim(U1().identity(5, 2, 8, 8), U1()), infer_dim(SU(3).identity(4, 4, 4, 4, 6), SU(3))
        (2, 4)
    """
    e = len(group.element_shape)
    shape = tuple(links.shape)
    if shape[len(shape) - e :] != group.element_shape or links.is_complex() != bool(e):
        kind = f"complex with trailing axes {group.element_shape}" if e else "real angles"
        raise InvalidInput(f"links of {group} must be {kind}, got {links.dtype} of shape {shape}")
    lattice = shape[: len(shape) - e]
    fits = [d for d in DIMENSIONS if len(lattice) > d and lattice[-d - 1] == d and min(lattice[-d:]) >= 2]
    if dim is not None:
        if dim not in fits:
            raise InvalidInput(
                f"links of shape {shape} are not a {dim}-dimensional {group} field (*batch, dim, *sites)"
            )
        return dim
    if not fits:
        raise InvalidInput(f"links of shape {shape} fit no dimension: expected (*batch, dim, *sites, *element)")
    roomy = [d for d in fits if min(lattice[-d:]) > 2]
    return min(roomy or fits)


def extents(links: Tensor, group: Group, dim: int) -> tuple[int, ...]:
    """The extents (*sites) of a links tensor."""
    e = len(group.element_shape)
    return tuple(links.shape[links.ndim - e - dim : links.ndim - e])


def flatten_links(links: Tensor, group: Group, dim: int) -> Tensor:
    """Links as (*batch, dim * V, *element), in the order of the flat link index."""
    first = links.ndim - len(group.element_shape) - dim - 1
    return links.flatten(first, first + dim)


def site_axis(group: Group) -> int:
    """The axis, counted from the right, that flat sites or links lie along."""
    return -1 - len(group.element_shape)


def coordinates(sites: tuple[int, ...]) -> Tensor:
    """Coordinates (dim, V) of every site in flat order."""
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*map(torch.arange, sites), indexing="ij")])


def flat_index(position: Tensor, sites: tuple[int, ...]) -> Tensor:
    """Flat site indices of coordinates (dim, ...), taken modulo the extents."""
    index = torch.zeros_like(position[0])
    for axis, extent in zip(position, sites, strict=True):
        index = index * extent + axis % extent
    return index


def volume(sites: tuple[int, ...]) -> int:
    """The number of sites."""
    return math.prod(sites)


def check_sites(sites) -> tuple[int, ...]:
    """Extents as a tuple, if they are 2 to 4 integers >= 2.

    Raises:
        InvalidInput: they are not.
    """
    sites = tuple(sites)
    whole = all(isinstance(extent, int) and not isinstance(extent, bool) and extent >= 2 for extent in sites)
    if len(sites) not in DIMENSIONS or not whole:
        raise InvalidInput(f"sites must be 2, 3 or 4 integer extents >= 2, got {sites}")
    return sites
