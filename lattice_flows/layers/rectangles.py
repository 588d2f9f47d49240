"""How a periodic lattice of two dimensions is divided into plaquettes, a cut at a time, from coarse to fine."""

from typing import NamedTuple

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites


class Cut(NamedTuple):
    """Rectangles of one shape that are cut in two across their longer side."""

    shape: tuple[int, int]
    """The extents of the rectangles."""
    corners: tuple[tuple[int, int], ...]
    """Their lowest corners."""

    @property
    def areas(self) -> tuple[int, int]:
        """The numbers of plaquettes of the part at the lowest corner, and of the other part."""
        longer, shorter = max(self.shape), min(self.shape)
        return longer // 2 * shorter, (longer - longer // 2) * shorter


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
        across = 0 if shape[0] >= shape[1] else 1
        first = shape[across] // 2
        for x, y in corners:
            for start, length in ((0, first), (first, shape[across] - first)):
                part = (length, shape[1]) if across == 0 else (shape[0], length)
                corner = (x + start, y) if across == 0 else (x, y + start)
                todo.setdefault(part, []).append(corner)
    return done
