"""Products of links along paths: plaquettes, staples, rectangles, Polyakov loops and any other path.

A path is a tuple of (direction, signed number of steps): the plaquette in the (mu, nu) plane is

    ((mu, 1), (nu, 1), (mu, -1), (nu, -1)),   P_{mu nu}(x) = U_mu(x) U_nu(x+mu) U_mu(x+nu)^-1 U_nu(x)^-1.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.space import GaugeField, gauge_field

Path = tuple[tuple[int, int], ...]


class Walk(NamedTuple):
    """A path laid on a lattice: flat link indices `(steps, n)` from n sites, and the orientations of the steps."""

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
    """All cyclic turns of a closed path, or of its reverse, that begin with a forward step along mu.

    Their products from x are the loops through the link U_mu(x). Forces and heat baths sum over these loops.

    Example:
        >>> loops_through(rectangle(0, 1, 1, 1), 1)
        [((1, 1), (0, -1), (1, -1), (0, 1)), ((1, 1), (0, 1), (1, -1), (0, -1))]
    """
    forward = unit_steps(path)
    backward = tuple((nu, -sign) for nu, sign in reversed(forward))
    return [turn[k:] + turn[:k] for turn in (forward, backward) for k, step in enumerate(turn) if step == (mu, 1)]


def lay(path: Path, lattice: Lattice, start: Path = ()) -> Walk:
    """Lay a path on a lattice from every site x in flat order, or from x displaced by `start`."""
    position = lattice.coordinates()
    for mu, steps in start:
        position[mu] += steps
    rows, units = [], unit_steps(path)
    for mu, sign in units:
        position[mu] += min(sign, 0)  # a step backwards follows the link that ends here
        rows.append(mu * lattice.volume + lattice.index(position))
        position[mu] += max(sign, 0)
    return Walk(torch.stack(rows), tuple(sign > 0 for _, sign in units))


@functools.lru_cache(maxsize=512)
@torch.inference_mode(False)  # it may be made in that mode, and serve gradients later
def _lay_on(path: Path, lattice: Lattice, start: Path, device: torch.device) -> Walk:
    walk = lay(path, lattice, start)
    return Walk(walk.links.to(device), walk.forward)


def follow(flat_links: Tensor, walk: Walk, group: Group) -> Tensor:
    """The product of links along a walk, `(*batch, n, *element)`, from links `(*batch, dim * V, *element)`."""
    return group.link_products(flat_links, *walk)


def path_product(links: Tensor, path: Path, space: GaugeField, *, start: Path = ()) -> Tensor:
    """The product of links along any path from every site x, or from x displaced by `start`: a loop field.

    Raises:
        InvalidInput: the path has no steps or leaves the dimensions of the lattice, or the links do not fit the space.
    """
    dim = gauge_field(space).dim
    if not unit_steps(path) or any(not 0 <= mu < dim for mu, _ in (*path, *start)):
        raise InvalidInput(f"a path in {dim} dimensions needs steps along directions 0 ... {dim - 1}, got {path}")
    walk = _lay_on(path, space.lattice, start, links.device)
    product = follow(space.flatten(space.check(links)), walk, space.group)
    return product.unflatten(space.site_axis, space.lattice.extents)


def check_closed(path: Path, lattice: Lattice) -> None:
    """Raise InvalidInput if a path does not end at its first site, perhaps after a turn around the lattice."""
    if any(sum(steps for nu, steps in path if nu == mu) % extent for mu, extent in enumerate(lattice.extents)):
        raise InvalidInput(f"path {path} does not close on a lattice of extents {lattice}")


def closed_path(links: Tensor, path: Path, space: GaugeField) -> Tensor:
    """The untraced loop along a path that closes, perhaps after a turn around the lattice.

    Raises:
        InvalidInput: the path does not close, or as `path_product`.

    Example:
        >>> from lattice_flows import U1
        >>> space = GaugeField(U1(), (4, 6))
        >>> closed_path(space.cold(5), rectangle(0, 2, 1, 1), space).shape
        torch.Size([5, 4, 6])
    """
    check_closed(path, gauge_field(space).lattice)
    return path_product(links, path, space)


def plaquette(links: Tensor, mu: int, nu: int, space: GaugeField) -> Tensor:
    """The untraced plaquettes P_{mu nu}(x) = U_mu(x) U_nu(x+mu) U_mu(x+nu)^-1 U_nu(x)^-1, a loop field.

    Raises:
        InvalidInput: mu and nu are not two different directions of the lattice.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(2), (8, 8))
        >>> plaquette(space.cold(5), 0, 1, space).shape
        torch.Size([5, 8, 8, 2, 2])
    """
    if mu == nu:
        raise InvalidInput(f"a plaquette needs two different directions, got mu = nu = {mu}")
    return path_product(links, rectangle(mu, 1, nu, 1), space)


def staple(links: Tensor, mu: int, nu: int, space: GaugeField, *, side: int = 1) -> Tensor:
    """The staple that closes U_mu(x): U_mu(x) @ staple is the plaquette from x on the side +nu or -nu of the link.

    Raises:
        InvalidInput: side is not +1 or -1.
    """
    if side not in (1, -1):
        raise InvalidInput(f"side must be +1 or -1, got {side}")
    return path_product(links, ((nu, side), (mu, -1), (nu, -side)), space, start=((mu, 1),))


def polyakov_loop(links: Tensor, mu: int, space: GaugeField) -> Tensor:
    """The untraced loop from every site that winds once around the lattice along mu.

    Raises:
        InvalidInput: mu is not a direction of the lattice.
    """
    if not 0 <= mu < gauge_field(space).dim:
        raise InvalidInput(f"direction must be from 0 to {space.dim - 1} in {space.dim} dimensions, got {mu}")
    return path_product(links, ((mu, space.lattice.extents[mu]),), space)
