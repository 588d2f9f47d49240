"""The lattice and the shape legend: how fields lie in tensors.

    links    (*batch, dim, *sites, *element)     U(1): element = ()      real angle in [-pi, pi)
                                                 SU(N): element = (N, N) complex
    scalars  (*batch, *sites)  real              a scalar field
    loop     (*batch, *sites, *element)          plaquettes, untraced loops, gauge functions
    logdet, log_q, log_w, action  (*batch,)      real, per configuration

U_mu(x), the link from x to x + mu, is `links[..., mu, *x, ...]`. The lattice is periodic in every direction, and the
extents may differ. All quantities are in lattice units (a = 1). Axes are counted from the right, so any number of batch
axes works.

Sites and links also have flat indices. That of site x is its row-major position among the V sites, and that of link
U_mu(x) is mu * V + x. Partitions and paths are tensors of flat indices.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lattice_flows.config.text import shown
from lattice_flows.errors import InvalidInput

SITES = 2**31
"""The sites of the largest lattice."""


@dataclass(frozen=True)
class Lattice:
    """A periodic lattice of 2, 3 or 4 dimensions.

    Args:
        extents: the number of sites in each direction, >= 2; or another lattice.

    Raises:
        InvalidInput: the extents are not 2 to 4 integers >= 2.

    Example:
        >>> lattice = Lattice((4, 6))
        >>> lattice.dim, lattice.volume, str(lattice)
        (2, 24, '4x6')
    """

    extents: tuple[int, ...]

    def __init__(self, extents: "Sequence[int] | Lattice"):
        extents = extents.extents if isinstance(extents, Lattice) else extents
        whole = isinstance(extents, Sequence) and all(type(extent) is int and extent >= 2 for extent in extents)
        if not whole or not 2 <= len(extents) <= 4:
            raise InvalidInput(f"a lattice has 2, 3 or 4 integer extents >= 2, got {shown(extents)}")
        if math.prod(extents) > SITES:
            raise InvalidInput(f"a lattice of at most {SITES:,} sites is expected, got {shown(extents)}")
        object.__setattr__(self, "extents", tuple(extents))

    @property
    def dim(self) -> int:
        """The number of directions."""
        return len(self.extents)

    @property
    def volume(self) -> int:
        """The number of sites V."""
        return math.prod(self.extents)

    def coordinates(self) -> Tensor:
        """Coordinates `(dim, V)` of the sites in flat order."""
        return torch.stack([axis.flatten() for axis in torch.meshgrid(*map(torch.arange, self.extents), indexing="ij")])

    def index(self, position: Tensor) -> Tensor:
        """Flat site indices `(...)` of coordinates `(dim, ...)`, taken modulo the extents."""
        index = torch.zeros_like(position[0])
        for axis, extent in zip(position, self.extents, strict=True):
            index = index * extent + axis % extent
        return index

    def neighbours(self, mu: int, steps: int = 1) -> Tensor:
        """Flat indices `(V,)` of the sites x + steps mu.

        Example:
            >>> Lattice((2, 3)).neighbours(1)
            tensor([1, 2, 0, 4, 5, 3])
        """
        position = self.coordinates()
        position[mu] += steps
        return self.index(position)

    def wave(self, mu: int, reach: int = 1) -> Tensor:
        """A number 0, 1, ... `(V,)` of the sites: those 1 to `reach` steps apart along mu differ in it.

        It counts the steps in blocks of reach + 1 or, where the extent leaves a rest, some more.

        Example:
            >>> Lattice((2, 5)).wave(1), Lattice((2, 7)).wave(1, reach=2)[:7]
            (tensor([0, 1, 0, 1, 2, 0, 1, 0, 1, 2]), tensor([0, 1, 2, 0, 1, 2, 3]))
        """
        extent = self.extents[mu]
        blocks = max(1, extent // (reach + 1))
        starts = [k * extent // blocks for k in range(blocks + 1)]
        values = torch.cat([torch.arange(end - start) for start, end in itertools.pairwise(starts)])
        return values[self.coordinates()[mu]]

    def colours(self, mu: int | None = None, reach: int = 1) -> Tensor:
        """Colours `(V,)` of the sites: those 1 to `reach` steps apart along any direction but mu differ in colour.

        The colour is the sum over nu != mu of the `wave` of nu, modulo the largest number of values that one has.

        Example:
            >>> Lattice((2, 4)).colours(mu=0), Lattice((3, 2)).colours(mu=1)
            (tensor([0, 1, 0, 1, 0, 1, 0, 1]), tensor([0, 0, 1, 1, 2, 2]))
        """
        waves = torch.stack([self.wave(nu, reach) for nu in range(self.dim) if nu != mu])
        return waves.sum(0) % (waves.max() + 1)

    def n_colours(self, mu: int | None = None) -> int:
        """The number of `colours`: 2 where all extents but that along mu are even, else 3.

        Example:
            >>> Lattice((2, 4)).n_colours(), Lattice((3, 2)).n_colours(mu=1)
            (2, 3)
        """
        return int(self.colours(mu).max()) + 1

    def __str__(self) -> str:
        return "x".join(map(str, self.extents))
