"""Local updates: sets of elements that may change at once, and the density of one element given all others."""

import functools
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lattice_flows.groups import Group
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import lay, loops_through, rectangle


class Cell(NamedTuple):
    """Elements that may change at once: no term of the action holds two of them."""

    active: Tensor
    """Flat indices `(n,)` of these elements."""
    walks: Tensor
    """Flat indices `(walks, steps, n)` of the elements in their energies: for links, the steps of their staples."""
    forward: tuple[tuple[bool, ...], ...] = ()
    """The orientations of these steps, for links."""


class Conditional(Protocol):
    """The density exp(-energy) of the active elements of a cell given all others, up to a constant.

    The digits of an energy must not depend on the rest of a batch.
    """

    def energy(self, elements: Tensor) -> Tensor:
        """The part of S `(*batch, n)` that depends on each of the elements `(*batch, n, *element)`."""


class LinkConditional(NamedTuple):
    """The density exp(strength Re tr(U S)) of links U given the sums S of their staples."""

    group: Group
    sums: Tensor
    """S `(*batch, n, *element)`, complex for every group."""
    strength: float
    """beta / N."""

    def energy(self, elements: Tensor) -> Tensor:
        """-strength Re tr(U S) `(*batch, n)`."""
        return -self.strength * self.group.alignment(elements, self.sums)


@functools.lru_cache(maxsize=32)
def link_cells(lattice: Lattice, device: torch.device) -> tuple[Cell, ...]:
    """All links in cells: the links of a cell share no plaquette, and the walks are their staples.

    Example:
        >>> [cell.active.tolist() for cell in link_cells(Lattice((2, 2)), torch.device("cpu"))]
        [[0, 2], [1, 3], [4, 5], [6, 7]]
    """
    found = []
    for mu in range(lattice.dim):
        others = (nu for nu in range(lattice.dim) if nu != mu)
        # the first step is the link itself
        walks = [lay(turn, lattice) for nu in others for turn in loops_through(rectangle(mu, 1, nu, 1), mu)]
        links = torch.stack([walk.links for walk in walks])
        forward = tuple(walk.forward[1:] for walk in walks)
        colour = lattice.colours(mu)
        for value in colour.unique():
            here = (colour == value).nonzero().squeeze(1)
            found.append(Cell(links[0, 0, here].to(device), links[:, 1:, here].to(device), forward))
    return tuple(found)
