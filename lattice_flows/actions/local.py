"""Local updates: sets of elements that may change at once, and the density of one element given all others."""

import functools
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import lay, loops_through, rectangle


class Walks(NamedTuple):
    """Walks of equal length along elements: flat indices `(walks, steps, n)`, and for links their orientations."""

    walks: Tensor
    forward: tuple[tuple[bool, ...], ...]


class Cell(NamedTuple):
    """Elements that may change at once: no term of the action holds two of them."""

    active: Tensor
    """Flat indices `(n,)` of these elements."""
    walks: Tensor
    """Flat indices `(walks, steps, n)` of the elements in their energies: for links, the steps of their staples."""
    forward: tuple[tuple[bool, ...], ...] = ()
    """The orientations of these steps, for links."""
    longer: Walks | None = None
    """Those of longer loops, if the action has any."""


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
def link_cells(lattice: Lattice, device: torch.device, rectangles: bool = False) -> tuple[Cell, ...]:
    """All links in cells: the links of a cell share no plaquette, and the walks are their staples.

    With rectangles they share no 1 x 2 rectangle either, and the `longer` walks are the rest of these.

    Raises:
        InvalidInput: a rectangle holds a link twice, on a lattice with an extent of 2.

    Example:
        >>> [cell.active.tolist() for cell in link_cells(Lattice((2, 2)), torch.device("cpu"))]
        [[0, 2], [1, 3], [4, 5], [6, 7]]
    """
    if rectangles and min(lattice.extents) < 3:
        raise InvalidInput(
            f"local updates of an action with rectangles need extents >= 3, got {lattice}: use hmc, or a larger lattice"
        )
    found = []
    for mu in range(lattice.dim):
        staples = _closing(mu, lattice, [(1, 1)])
        longer = _closing(mu, lattice, [(1, 2), (2, 1)]) if rectangles else None
        # two links in a row, the long side of a rectangle, differ, too
        colour = lattice.colours(mu, reach=2) + 5 * lattice.wave(mu) if rectangles else lattice.colours(mu)
        for value in colour.unique():
            here = (colour == value).nonzero().squeeze(1)
            active = here + mu * lattice.volume
            around = [Walks(x.walks[..., here].to(device), x.forward) for x in (staples, longer) if x]
            found.append(Cell(active.to(device), *around[0], *around[1:]))
    return tuple(found)


def _closing(mu: int, lattice: Lattice, sizes: list[tuple[int, int]]) -> Walks:
    """The walks that close all links of a direction to rectangles of these sizes."""
    loops = [rectangle(mu, r, nu, t) for nu in range(lattice.dim) if nu != mu for r, t in sizes]
    # the first step is the link itself
    walks = [lay(turn[1:], lattice, turn[:1]) for loop in loops for turn in loops_through(loop, mu)]
    return Walks(torch.stack([walk.links for walk in walks]), tuple(walk.forward for walk in walks))
