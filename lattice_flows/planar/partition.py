"""Partitions by rectangles, and the cuts that divide a lattice into plaquettes."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import Walk, lay
from lattice_flows.layers.partition import LinkPartition


def halves(shape: tuple[int, int]) -> tuple[int, int, int]:
    """The direction of a rectangle's longer side, and the lengths of its two parts.

    Example:
        >>> halves((4, 3)), halves((3, 5))
        ((0, 2, 2), (1, 2, 3))
    """
    across = 0 if shape[0] >= shape[1] else 1
    first = shape[across] // 2
    return across, first, shape[across] - first


class RectanglePartition(LinkPartition):
    """Two dimensions: rectangles of one shape, each cut in two by a line of links across its longer side.

    The first link of the line is active. Its loop W_a is the boundary of the part at the lower corner. The boundary W
    of the rectangle is frozen. From where the active link begins, W = W_b W_a with W_b around the other part.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413.

    Args:
        lattice: a `Lattice` of two dimensions, or its extents.
        shape: the extents of the rectangles, at most those of the lattice.
        corners: the lowest corners of the rectangles, which must not overlap. Default: as many as fit side by side.

    Raises:
        InvalidInput: not two dimensions; or rectangles that do not fit, overlap, or are single plaquettes.

    Attributes:
        areas: the numbers of plaquettes A and B of the part at the lower corner, and of the other part.

    Example:
        >>> RectanglePartition((8, 8), (2, 4))
        RectanglePartition(8x8, mu=0, active links: 8 of 128, each with the boundary of its rectangle)
    """

    _boundary_links: Tensor

    def __init__(
        self, lattice: Lattice | Sequence[int], shape: Sequence[int], corners: Sequence[tuple[int, int]] | None = None
    ):
        lattice, shape = Lattice(lattice), tuple(shape)
        extents = lattice.extents
        if lattice.dim != 2 or len(shape) != 2:
            raise InvalidInput(f"rectangles are for two dimensions, got lattice {lattice}, shape {shape}")
        if min(shape) < 1 or max(shape) < 2 or any(s > extent for s, extent in zip(shape, extents, strict=True)):
            raise InvalidInput(f"rectangles to be cut need two plaquettes or more and fit {lattice}, got shape {shape}")
        if corners is None:
            x, y = (range(0, extent - s + 1, s) for s, extent in zip(shape, extents, strict=True))
            corners = list(itertools.product(x, y))
        across, first, rest = halves((shape[0], shape[1]))
        along, line = 1 - across, shape[1 - across]
        covered = torch.zeros(extents, dtype=torch.int64)
        active = torch.zeros(extents, dtype=torch.bool)
        for corner in corners:
            rows, columns = (
                torch.arange(c, c + s) % extent for c, s, extent in zip(corner, shape, extents, strict=True)
            )
            covered[rows[:, None], columns[None, :]] += 1
            start = [corner[direction] + first * (direction == across) for direction in (0, 1)]
            active[start[0] % extents[0], start[1] % extents[1]] = True
        if covered.max() > 1:
            raise InvalidInput(f"rectangles of shape {shape} overlap at corners {corners}")
        part = ((along, line), (across, -first), (along, -line), (across, first))
        super().__init__(lattice, along, active, part, context=())
        self.shape, self.corners, self.areas = shape, tuple(corners), (first * line, rest * line)
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
    if lattice.dim != 2:
        raise InvalidInput(f"a hierarchy of rectangles is for two dimensions, got lattice {lattice}")
    todo: dict[tuple[int, int], list[tuple[int, int]]] = {(lattice.extents[0], lattice.extents[1]): [(0, 0)]}
    done = []
    while todo:
        shape = max(todo, key=lambda shape: (shape[0] * shape[1], shape))
        corners = todo.pop(shape)
        if shape == (1, 1):
            break
        done.append(RectanglePartition(lattice, shape, corners))
        across, first, rest = halves(shape)
        for x, y in corners:
            for start, length in ((0, first), (first, rest)):
                part = (length, shape[1]) if across == 0 else (shape[0], length)
                corner = (x + start, y) if across == 0 else (x, y + start)
                todo.setdefault(part, []).append(corner)
    return done
