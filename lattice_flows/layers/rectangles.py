"""How a periodic lattice of two dimensions is divided into plaquettes, a cut at a time, from coarse to fine."""

from typing import NamedTuple

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites


def halves(shape: tuple[int, int]) -> tuple[int, int, int]:
    """The direction of a rectangle's longer side, and the lengths of the two parts that it is cut in.

    Example:
        >>> halves((4, 3)), halves((3, 5))
        ((0, 2, 2), (1, 2, 3))
    """
    across = 0 if shape[0] >= shape[1] else 1
    first = shape[across] // 2
    return across, first, shape[across] - first


class Cut(NamedTuple):
    """Rectangles of one shape that are cut in two across their longer side."""

    shape: tuple[int, int]
    """The extents of the rectangles."""
    corners: tuple[tuple[int, int], ...]
    """Their lowest corners."""

    @property
    def areas(self) -> tuple[int, int]:
        """The numbers of plaquettes of the part at the lowest corner, and of the other part."""
        across, first, rest = halves(self.shape)
        return first * self.shape[1 - across], rest * self.shape[1 - across]


def cuts(sites) -> list[Cut]:
    """The cuts, largest rectangles first, that divide a lattice of two dimensions into plaquettes.

    The first rectangle is the lattice itself, cut open along both axes; its boundary is the commutator of the loops
    that wind around the lattice. V plaquettes take V - 1 cuts of rectangles, which come in about log2(V) shapes.

    Raises:
        InvalidInput: not two dimensions.

    Example:
        >>> [(cut.shape, len(cut.corners)) for cut in cuts((4, 3))]
        [((4, 3), 1), ((2, 3), 2), ((2, 2), 2), ((2, 1), 2), ((1, 2), 4)]
    """
    sites = check_sites(sites)
    if len(sites) != 2:
        raise InvalidInput(f"a hierarchy of rectangles is for two dimensions, got sites {sites}")
    todo: dict[tuple[int, int], list[tuple[int, int]]] = {(sites[0], sites[1]): [(0, 0)]}
    done = []
    while todo:
        shape = max(todo, key=lambda shape: (shape[0] * shape[1], shape))
        corners = todo.pop(shape)
        if shape == (1, 1):
            break
        done.append(Cut(shape, tuple(corners)))
        across, first, rest = halves(shape)
        for x, y in corners:
            for start, length in ((0, first), (first, rest)):
                part = (length, shape[1]) if across == 0 else (shape[0], length)
                corner = (x + start, y) if across == 0 else (x, y + start)
                todo.setdefault(part, []).append(corner)
    return done
