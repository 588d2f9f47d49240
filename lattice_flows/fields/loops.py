"""Products of links along paths: one walker for plaquettes, staples, rectangles, Polyakov loops and any other path.

A path is a tuple of (direction, signed number of steps): the plaquette in the (mu, nu) plane is

    ((mu, 1), (nu, 1), (mu, -1), (nu, -1)),   P_{mu nu}(x) = U_mu(x) U_nu(x+mu) U_mu(x+nu)^-1 U_nu(x)^-1.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import (
    coordinates,
    extents,
    flat_index,
    flatten_links,
    infer_dim,
    site_axis,
    volume,
)
from lattice_flows.groups import Group
from lattice_flows.kernels import link_products

Path = tuple[tuple[int, int], ...]


class Walk(NamedTuple):
    """A path laid on a lattice: flat link indices `(steps, n)` from n starting sites, and each step's orientation."""

    links: Tensor
    forward: tuple[bool, ...]


def rectangle(mu: int, r: int, nu: int, t: int) -> Path:
    """The closed path r steps along mu, t along nu, and back.

    Example:
        >>> rectangle(0, 2, 1, 1)
        ((0, 2), (1, 1), (0, -2), (1, -1))
    """
    return ((mu, r), (nu, t), (mu, -r), (nu, -t))


def unit_steps(path: Path) -> Path:
    """The same path in steps of length 1."""
    return tuple((mu, 1 if steps > 0 else -1) for mu, steps in path for _ in range(abs(steps)))


def loops_through(path: Path, mu: int) -> list[Path]:
    """Every cyclic turn of a closed path, or of its reverse, that begins with a forward step along mu.

    Their products from x are the loops through the link U_mu(x): what a force or a heat bath sums over.

    Example:
        >>> loops_through(rectangle(0, 1, 1, 1), 1)
        [((1, 1), (0, -1), (1, -1), (0, 1)), ((1, 1), (0, 1), (1, -1), (0, -1))]
    """
    forward = unit_steps(path)
    backward = tuple((nu, -sign) for nu, sign in reversed(forward))
    return [turn[k:] + turn[:k] for turn in (forward, backward) for k, step in enumerate(turn) if step == (mu, 1)]


def lay(path: Path, sites: tuple[int, ...], start: Path = ()) -> Walk:
    """Lay a path on a lattice of extents `sites`, from every site x in flat order, displaced first by `start`."""
    position = coordinates(sites)
    for mu, steps in start:
        position[mu] += steps
    rows, forward = [], []
    for mu, sign in unit_steps(path):
        if sign < 0:
            position[mu] -= 1
        rows.append(mu * volume(sites) + flat_index(position, sites))
        forward.append(sign > 0)
        if sign > 0:
            position[mu] += 1
    return Walk(torch.stack(rows), tuple(forward))


@functools.lru_cache(maxsize=512)
def _lay_on(path: Path, sites: tuple[int, ...], start: Path, device: torch.device) -> Walk:
    walk = lay(path, sites, start)
    return Walk(walk.links.to(device), walk.forward)


def follow(flat_links: Tensor, walk: Walk, group: Group) -> Tensor:
    """The product of links along a walk, `(*batch, n, *element)`, from links `(*batch, dim * V, *element)`."""
    if group.element_shape:
        return link_products(flat_links, walk.links, walk.forward)
    axis = site_axis(group)
    # one gather for the whole walk: the gradient of every gather is a field of zeros to be filled
    gathered = flat_links.index_select(axis, walk.links.flatten()).unflatten(axis, walk.links.shape)
    steps = gathered.unbind(axis - 1)
    oriented = (link if forward else group.inverse(link) for link, forward in zip(steps, walk.forward, strict=True))
    return functools.reduce(group.compose, oriented)


def path_product(links: Tensor, path: Path, group: Group, *, start: Path = (), dim: int | None = None) -> Tensor:
    """The product of links along any path from every site x (from x displaced by `start`): a loop field.

    Args:
        links: the links (see `lattice_flows.fields.layout`).
        path: directions and signed numbers of steps; it need not close.
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: the path has no steps or leaves the dimensions of the lattice.
    """
    dim = infer_dim(links, group, dim)
    if not unit_steps(path) or any(not 0 <= mu < dim for mu, _ in (*path, *start)):
        raise InvalidInput(f"a path in {dim} dimensions needs steps along directions 0 ... {dim - 1}, got {path}")
    sites = extents(links, group, dim)
    product = follow(flatten_links(links, group, dim), _lay_on(path, sites, start, links.device), group)
    return product.unflatten(site_axis(group), sites)


def closed_path(links: Tensor, path: Path, group: Group, *, dim: int | None = None) -> Tensor:
    """The untraced loop along a path that ends where it began, if need be around the lattice.

    Raises:
        InvalidInput: the path does not close.

    Example:
        >>> from lattice_flows import U1
        >>> links = U1().identity(2, 4, 6)
        >>> closed_path(links, rectangle(0, 2, 1, 1), U1()).shape
        torch.Size([4, 6])
    """
    dim = infer_dim(links, group, dim)
    sites = extents(links, group, dim)
    for mu in range(dim):
        if sum(steps for nu, steps in path if nu == mu) % sites[mu]:
            raise InvalidInput(f"path {path} does not close on a lattice of extents {sites}")
    return path_product(links, path, group, dim=dim)


def plaquette(links: Tensor, mu: int, nu: int, group: Group, *, dim: int | None = None) -> Tensor:
    """The untraced plaquettes P_{mu nu}(x) = U_mu(x) U_nu(x+mu) U_mu(x+nu)^-1 U_nu(x)^-1, a loop field.

    Raises:
        InvalidInput: mu and nu are not two different directions of the lattice.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> group = SU(2)
        >>> links = group.haar(2, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> plaquette(links, 0, 1, group).shape
        torch.Size([8, 8, 2, 2])
    """
    if mu == nu:
        raise InvalidInput(f"a plaquette needs two different directions, got mu = nu = {mu}")
    return path_product(links, rectangle(mu, 1, nu, 1), group, dim=dim)


def staple(links: Tensor, mu: int, nu: int, group: Group, *, side: int = 1, dim: int | None = None) -> Tensor:
    """The staple that closes U_mu(x): U_mu(x) @ staple is the plaquette based at x on the side +nu or -nu of the link.

    Args:
        side: +1 or -1.
    """
    if side not in (1, -1):
        raise InvalidInput(f"side must be +1 or -1, got {side}")
    return path_product(links, ((nu, side), (mu, -1), (nu, -side)), group, start=((mu, 1),), dim=dim)


def polyakov_loop(links: Tensor, mu: int, group: Group, *, dim: int | None = None) -> Tensor:
    """The untraced loop that winds once around the lattice along mu, from every site."""
    dim = infer_dim(links, group, dim)
    return path_product(links, ((mu, extents(links, group, dim)[mu]),), group, dim=dim)
