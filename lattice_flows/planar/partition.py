"""Partitions by rectangles, and the cuts that divide a lattice into plaquettes."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import Walk, lay
from lattice_flows.layers.partition import LinkPartition


class RectanglePartition(LinkPartition):
    """Two dimensions: rectangles of one shape, each cut in two by a line of links across its longer side.

    The first link of the line is active, and closes the loop W_a around the part at the lower corner. The boundary W of
    the rectangle is frozen. From where the active link begins, W = W_b W_a with W_b around the other part.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413.

    Args:
        lattice: a `Lattice` of two dimensions, or its extents.
        shape: the extents of the rectangles, at most those of the lattice.
        corners: the lowest corners of the rectangles, which must not overlap. Default: as many as fit side by side.

    Raises:
        InvalidInput: not two dimensions; or rectangles that do not fit, overlap, or are single plaquettes.

    Attributes:
        parts: shape of the part at the lower corner, and of the other part; each with its displacement.
        areas: their numbers of plaquettes A and B.

    Example:
        >>> RectanglePartition((8, 8), (2, 4))
        RectanglePartition(8x8, mu=0, active links: 8 of 128, each with the boundary of its rectangle)
    """

    _boundary_links: Tensor

    def __init__(
        self, lattice: Lattice | Sequence[int], shape: Sequence[int], corners: Sequence[tuple[int, int]] | None = None
    ):
        lattice, shape = Lattice(lattice), tuple(shape)
        if lattice.dim != 2 or len(shape) != 2:
            raise InvalidInput(f"rectangles are for two dimensions, got lattice {lattice}, shape {shape}")
        x, y = shape
        if min(shape) < 1 or max(shape) < 2 or x > lattice.extents[0] or y > lattice.extents[1]:
            raise InvalidInput(f"rectangles to be cut need two plaquettes or more and fit {lattice}, got shape {shape}")
        if corners is None:
            starts = (range(0, extent - s + 1, s) for s, extent in zip(shape, lattice.extents, strict=True))
            corners = list(itertools.product(*starts))  # type: ignore[arg-type]
        if x >= y:
            across, parts = 0, (((x // 2, y), (0, 0)), ((x - x // 2, y), (x // 2, 0)))
        else:
            across, parts = 1, (((x, y // 2), (0, 0)), ((x, y - y // 2), (0, y // 2)))
        origins = torch.tensor(corners, dtype=torch.int64).reshape(-1, 2)
        sites = origins[:, None] + torch.cartesian_prod(torch.arange(x), torch.arange(y))
        inside = lattice.index(sites.movedim(-1, 0))
        if len(inside.unique()) < inside.numel():
            raise InvalidInput(f"rectangles of shape {shape} overlap at corners {corners}")
        active = torch.zeros(lattice.volume, dtype=torch.bool)
        active[lattice.index((origins + torch.tensor(parts[1][1])).T)] = True
        along, line, first, rest = 1 - across, shape[1 - across], parts[0][0][across], parts[1][0][across]
        part = ((along, line), (across, -first), (along, -line), (across, first))
        super().__init__(lattice, along, active.reshape(lattice.extents), part, context=())
        self.shape, self.corners, self.parts, self.areas = shape, tuple(corners), parts, (first * line, rest * line)
        whole = ((across, rest), (along, line), (across, -shape[across]), (along, -line), (across, first))
        boundaries = lay(whole, lattice)
        self.register_buffer("_boundary_links", boundaries.links[:, self.active_sites], persistent=False)
        self._boundary_forward = boundaries.forward

    @property
    def boundary_loops(self) -> Walk:
        """The walks `(steps, n_active)` of the boundaries from where the active links begin."""
        return Walk(self._boundary_links, self._boundary_forward)

    def _frozen_words(self) -> str:
        return "each with the boundary of its rectangle"


def cuts(lattice: Lattice | Sequence[int]) -> list[RectanglePartition]:
    """The cuts, largest rectangles first, that divide a lattice of two dimensions into plaquettes.

    The first rectangle is the lattice itself, cut open along both axes. Its boundary is the commutator of the loops
    around the lattice. V plaquettes take V - 1 cuts of rectangles, in about log2(V) shapes.

    Raises:
        InvalidInput: not two dimensions.

    Example:
        >>> [(cut.shape, len(cut.corners)) for cut in cuts((4, 3))]
        [((4, 3), 1), ((2, 3), 2), ((2, 2), 2), ((2, 1), 2), ((1, 2), 4)]
    """
    lattice = Lattice(lattice)
    todo: dict[tuple[int, ...], list[tuple[int, int]]] = {lattice.extents: [(0, 0)]}
    done = []
    while (shape := max(todo, key=lambda shape: (math.prod(shape), shape))) != (1, 1):
        cut = RectanglePartition(lattice, shape, todo.pop(shape))
        done.append(cut)
        for (x, y), (part, (right, up)) in itertools.product(cut.corners, cut.parts):
            todo.setdefault(part, []).append((x + right, y + up))
    return done
