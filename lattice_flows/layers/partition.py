"""Partitions of links into those that a coupling moves and those that stay, with their loops."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.layout import Lattice
from lattice_flows.lattice.paths import Path, Walk, lay, rectangle, unit_steps


class LinkPartition(nn.Module):
    """Active links in one direction; a loop without other active links closes each.

    The loop that closes an active link is active. Any other loop is passive if it runs through an active link, and
    frozen if it does not. Frozen loops are the context of the coupling.

    Args:
        mu: the direction of the active links.
        active: where they begin, bool `(*sites)`.
        path: the closed path of the active loops, beginning with a forward step along mu.
        context: paths of loops; the frozen ones are the context. Default: the plaquettes of every plane and, in two
            dimensions, the rectangles of two plaquettes.

    Raises:
        InvalidInput: an active link is not closed by a loop of its own.

    Example:
        >>> partition = LinkPartition.stripes((8, 8), mu=0, offset=1)
        >>> partition
        LinkPartition(8x8, mu=0, active links: 16 of 128, frozen loops: 32 of ((0, 1), (1, 1), (0, -1), (1, -1)),
        32 of ((0, 2), (1, 1), (0, -2), (1, -1)), 32 of ((0, 1), (1, 2), (0, -1), (1, -2)))
    """

    active_sites: Tensor
    """Flat indices `(n_active,)` of the sites where the active links begin."""
    active_links: Tensor
    """Flat indices `(n_active,)` of the active links."""
    _loop_links: Tensor

    def __init__(
        self,
        lattice: Lattice | Sequence[int],
        mu: int,
        active: Tensor,
        path: Path,
        context: Sequence[Path] | None = None,
    ):
        super().__init__()
        self.lattice, self.mu = Lattice(lattice), mu
        extents = self.lattice.extents
        if tuple(active.shape) != extents or active.dtype != torch.bool or not active.any():
            raise InvalidInput(f"active must mark at least one site of {extents}, as a bool tensor of that shape")
        if unit_steps(path)[0] != (mu, 1):
            raise InvalidInput(f"the active loop must begin with a forward step along mu = {mu}, got {path}")
        active_sites = active.flatten().nonzero().squeeze(-1)
        self.register_buffer("active_sites", active_sites, persistent=False)
        self.register_buffer("active_links", mu * self.lattice.volume + active_sites, persistent=False)
        loops = lay(path, self.lattice)
        self.register_buffer("_loop_links", loops.links[:, active_sites], persistent=False)
        self._loop_forward = loops.forward
        if (torch.isin(self._loop_links, self.active_links).sum(0) != 1).any():
            raise InvalidInput(
                f"extents {extents} are too small, or of the wrong parity, for this partition: the loop {path} of an "
                "active link runs through another active link"
            )
        paths = _small_loops(self.dim) if context is None else context
        self.frozen_paths = tuple(path for path in paths if self.frozen(path).any())
        for k, frozen_path in enumerate(self.frozen_paths):
            where = self.frozen(frozen_path).flatten().nonzero().squeeze(-1)
            self.register_buffer(f"_frozen_sites_{k}", where, persistent=False)
            self.register_buffer(f"_frozen_links_{k}", lay(frozen_path, self.lattice).links[:, where], persistent=False)

    def frozen(self, path: Path) -> Tensor:
        """A mask `(*sites)` of the sites where the loop along a path is frozen."""
        touched = torch.isin(lay(path, self.lattice).links, self.active_links).any(0)
        return ~touched.reshape(self.lattice.extents)

    @property
    def dim(self) -> int:
        """The number of directions of the lattice."""
        return self.lattice.dim

    @property
    def n_active(self) -> int:
        """The number of active links."""
        return len(self.active_links)

    @property
    def active_loops(self) -> Walk:
        """The walks `(steps, n_active)` of the active loops."""
        return Walk(self._loop_links, self._loop_forward)

    def frozen_loops(self) -> list[tuple[Walk, Tensor]]:
        """The walks `(steps, n)` of the frozen loops of each path, and the flat sites `(n,)` where they begin."""
        loops = []
        for k, path in enumerate(self.frozen_paths):
            forward = tuple(sign > 0 for _, sign in unit_steps(path))
            walk = Walk(self.get_buffer(f"_frozen_links_{k}"), forward)
            loops.append((walk, self.get_buffer(f"_frozen_sites_{k}")))
        return loops

    @staticmethod
    def stripes(lattice: Lattice | Sequence[int], mu: int, offset: int) -> "LinkPartition":
        """Two dimensions: the links along mu on every fourth line (G. Kanwar et al., 2003.06413).

        A plaquette towards the other direction nu closes each. The lines are those of `stripe_lines`, plus the offset.

        Raises:
            InvalidInput: not two dimensions, or the extent along nu is below 3.
        """
        lattice = Lattice(lattice)
        if lattice.dim != 2 or mu not in (0, 1):
            raise InvalidInput(f"stripes are for two dimensions and mu = 0 or 1, got {lattice} and mu = {mu}")
        nu, extent = 1 - mu, lattice.extents[1 - mu]
        marked = torch.isin(lattice.coordinates()[nu], (torch.tensor(stripe_lines(extent)) + offset) % extent)
        return LinkPartition(lattice, mu, marked.reshape(lattice.extents), rectangle(mu, 1, nu, 1))

    @staticmethod
    def checkerboard(lattice: Lattice | Sequence[int], mu: int, parity: int, nu: int | None = None) -> "LinkPartition":
        """Three and four dimensions: the links along mu from the sites of one parity.

        Every plaquette through direction mu then holds exactly one active link, and all planes without mu are frozen.

        Args:
            parity: 0 or 1, of the sum of the coordinates.
            nu: the plaquette in the (mu, nu) plane is active. Default: the direction after mu.

        Raises:
            InvalidInput: fewer than three dimensions, or an extent is odd in a direction other than mu.
        """
        lattice = Lattice(lattice)
        if (dim := lattice.dim) == 2:
            raise InvalidInput(f"checkerboard needs 3 or 4 dimensions (in 2 nothing would be frozen), got {lattice}")
        nu = (mu + 1) % dim if nu is None else nu
        if not 0 <= mu < dim or not 0 <= nu < dim or mu == nu or parity not in (0, 1):
            raise InvalidInput(
                f"checkerboard needs different directions mu, nu below {dim} and parity 0 or 1, "
                f"got mu = {mu}, nu = {nu}, parity = {parity}"
            )
        if any(extent % 2 for direction, extent in enumerate(lattice.extents) if direction != mu):
            raise InvalidInput(f"checkerboard needs even extents in every direction but mu = {mu}, got {lattice}")
        even = lattice.coordinates().sum(0) % 2 == parity
        return LinkPartition(lattice, mu, even.reshape(lattice.extents), rectangle(mu, 1, nu, 1))

    def __repr__(self) -> str:
        active = f"active links: {self.n_active} of {self.dim * self.lattice.volume}"
        return f"{type(self).__name__}({self.lattice}, mu={self.mu}, {active}, {self._frozen_words()})"

    def _frozen_words(self) -> str:
        loops = zip(self.frozen_paths, self.frozen_loops(), strict=True)
        return f"frozen loops: {', '.join(f'{len(where)} of {path}' for path, (_, where) in loops) or 'none'}"


def _small_loops(dim: int) -> list[Path]:
    paths = [rectangle(mu, 1, nu, 1) for mu, nu in itertools.combinations(range(dim), 2)]
    return [*paths, rectangle(0, 2, 1, 1), rectangle(0, 1, 1, 2)] if dim == 2 else paths


def stripe_lines(extent: int) -> list[int]:
    """The lines with active links at offset 0: of `extent` lines every fourth, as nearly as can be.

    Where the extent is no multiple of 4, they are three to five apart.

    Raises:
        InvalidInput: below an extent of 3 no loop is frozen.

    Example:
        >>> stripe_lines(8), stripe_lines(10)
        ([0, 4], [0, 3, 6])
    """
    if extent < 3:
        raise InvalidInput(f"extents too small for stripes: need >= 3 lines across, got {extent}")
    n = (extent + 2) // 4
    return [k * extent // n for k in range(n)]
