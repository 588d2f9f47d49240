"""Which links a coupling layer moves, which loop each is closed with, and which loops it may look at."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites, coordinates, volume
from lattice_flows.fields.loops import Path, Walk, lay, rectangle, unit_steps
from lattice_flows.layers.rectangles import halves


class LinkPartition(nn.Module):
    """Active links in one direction, each closed by a loop that no other active link touches.

    A loop is active if it is the one that an active link is closed with, passive if another loop runs through an
    active link, and frozen if none does. Frozen loops are the context of the coupling. Passive and frozen are derived
    here from the active links and the paths of the loops.

    Args:
        sites: the extents of the lattice.
        mu: the direction of the active links.
        active: where they begin, bool `(*sites)`.
        path: the closed path of the active loops, beginning with a forward step along mu.
        context: the paths of the loops that can be context. Default: the plaquettes of every plane and, in two
            dimensions, the rectangles of two plaquettes.
        boundary: the path of a frozen loop from where an active link begins, of whose inside the active loop is the
            boundary of a part. With it, this loop alone is the context of each active link.

    Raises:
        InvalidInput: an active link is not closed by a loop of its own, or its boundary is not frozen.

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
        sites,
        mu: int,
        active: Tensor,
        path: Path,
        context: Sequence[Path] | None = None,
        boundary: Path | None = None,
    ):
        super().__init__()
        self.sites = check_sites(sites)
        self.dim = len(self.sites)
        self.mu = mu
        self.path = path
        if tuple(active.shape) != self.sites or active.dtype != torch.bool or not active.any():
            raise InvalidInput(f"active must mark at least one site of {self.sites}, as a bool tensor of that shape")
        if unit_steps(path)[0] != (mu, 1):
            raise InvalidInput(f"the active loop must begin with a forward step along mu = {mu}, got {path}")
        active_sites = active.flatten().nonzero().squeeze(-1)
        self.register_buffer("active_sites", active_sites, persistent=False)
        self.register_buffer("active_links", mu * volume(self.sites) + active_sites, persistent=False)
        loops = lay(path, self.sites)
        self.register_buffer("_loop_links", loops.links[:, active_sites], persistent=False)
        self._loop_forward = loops.forward
        if (self._touches(path)[active_sites] != 1).any():
            raise InvalidInput(
                f"extents {self.sites} are too small, or of the wrong parity, for this partition: the loop {path} of "
                f"an active link runs through another active link"
            )
        self.boundary = boundary
        if boundary is not None:
            if not self.frozen(boundary).flatten()[active_sites].all():
                raise InvalidInput(f"the boundary {boundary} of an active link runs through an active link")
            self.register_buffer("_boundary_links", lay(boundary, self.sites).links[:, active_sites], persistent=False)
            context = ()
        self.frozen_paths = tuple(
            path for path in (_small_loops(self.dim) if context is None else context) if self.frozen(path).any()
        )
        for k, frozen_path in enumerate(self.frozen_paths):
            where = self.frozen(frozen_path).flatten().nonzero().squeeze(-1)
            self.register_buffer(f"_frozen_sites_{k}", where, persistent=False)
            self.register_buffer(f"_frozen_links_{k}", lay(frozen_path, self.sites).links[:, where], persistent=False)

    def _touches(self, path: Path) -> Tensor:
        """How many steps `(V,)` of the loop from each site run through active links."""
        return torch.isin(lay(path, self.sites).links, self.active_links).sum(0)

    def frozen(self, path: Path) -> Tensor:
        """Where, bool `(*sites)`, the loop along a path begins that runs through no active link."""
        return (self._touches(path) == 0).reshape(self.sites)

    def passive(self, path: Path) -> Tensor:
        """Where, bool `(*sites)`, a loop along a path begins that is neither active nor frozen."""
        passive = ~self.frozen(path)
        if unit_steps(path) == unit_steps(self.path):
            passive.view(-1)[self.active_sites] = False
        return passive

    @property
    def n_active(self) -> int:
        """The number of active links."""
        return len(self.active_links)

    @property
    def active_loops(self) -> Walk:
        """The walks of the loops that the active links are closed with, `(steps, n_active)`."""
        return Walk(self._loop_links, self._loop_forward)

    @property
    def boundary_loops(self) -> Walk:
        """The walks of the boundaries, `(steps, n_active)`, of a partition that has them."""
        assert self.boundary is not None
        return Walk(self.get_buffer("_boundary_links"), tuple(sign > 0 for _, sign in unit_steps(self.boundary)))

    def frozen_loops(self) -> list[tuple[Walk, Tensor]]:
        """For every path with frozen loops: their walks `(steps, n)`, and the flat sites `(n,)` where they begin."""
        return [
            (
                Walk(self.get_buffer(f"_frozen_links_{k}"), tuple(sign > 0 for _, sign in unit_steps(path))),
                self.get_buffer(f"_frozen_sites_{k}"),
            )
            for k, path in enumerate(self.frozen_paths)
        ]

    @classmethod
    def stripes(cls, sites, mu: int, offset: int) -> "LinkPartition":
        """Two dimensions: the links along mu on every fourth line (G. Kanwar et al., 2003.06413).

        Each is closed by the plaquette on the side of the other direction nu. Where the extent along nu is no multiple
        of 4, the lines are spread evenly, three to five apart.

        Raises:
            InvalidInput: not two dimensions, or the extent along nu is below 3.
        """
        sites = check_sites(sites)
        if len(sites) != 2 or mu not in (0, 1):
            raise InvalidInput(f"stripes are for two dimensions and mu = 0 or 1, got sites {sites}, mu = {mu}")
        nu = 1 - mu
        lines = stripe_lines(sites[nu])
        marked = torch.isin(coordinates(sites)[nu], (torch.tensor(lines) + offset) % sites[nu])
        return cls(sites, mu, marked.reshape(sites), rectangle(mu, 1, nu, 1))

    @classmethod
    def checkerboard(cls, sites, mu: int, parity: int, nu: int | None = None) -> "LinkPartition":
        """Three and four dimensions: the links along mu from the sites of one parity.

        Every plaquette through direction mu then holds exactly one active link, and all planes without mu are frozen.

        Args:
            sites: the extents of the lattice; even in every direction but mu.
            mu: the direction of the active links.
            parity: 0 or 1, of the sum of the coordinates.
            nu: the plaquette in the (mu, nu) plane is active. Default: the direction after mu.

        Raises:
            InvalidInput: fewer than three dimensions, or an extent is odd.
        """
        sites = check_sites(sites)
        if len(sites) == 2:
            raise InvalidInput(
                f"checkerboard needs 3 or 4 dimensions (in 2 nothing would be frozen), got sites {sites}"
            )
        dim = len(sites)
        nu = (mu + 1) % dim if nu is None else nu
        if not 0 <= mu < dim or not 0 <= nu < dim or mu == nu or parity not in (0, 1):
            raise InvalidInput(
                f"checkerboard needs different directions mu, nu below {dim} and parity 0 or 1, "
                f"got mu = {mu}, nu = {nu}, parity = {parity}"
            )
        if any(extent % 2 for direction, extent in enumerate(sites) if direction != mu):
            raise InvalidInput(f"checkerboard needs even extents in every direction but mu = {mu}, got sites {sites}")
        even = coordinates(sites).sum(0) % 2 == parity
        return cls(sites, mu, even.reshape(sites), rectangle(mu, 1, nu, 1))

    @classmethod
    def rectangles(cls, sites, shape: Sequence[int], corners: Sequence[Sequence[int]] | None = None) -> "LinkPartition":
        """Two dimensions: rectangles of one shape, each cut in two by a line of links across its longer side.

        One link of the line is active, its first. Its loop W_a is the boundary of the part at the lower corner, and
        the boundary W of the rectangle is frozen: from where the active link begins, W = W_b W_a with W_b around the
        other part (A. A. Migdal, Sov. Phys. JETP 42 (1975) 413).

        Args:
            sites: the extents of the lattice.
            shape: the extents of the rectangles, at most those of the lattice.
            corners: their lowest corners; the rectangles must not overlap. Default: as many as fit side by side.

        Raises:
            InvalidInput: not two dimensions, or rectangles that do not fit, overlap, or are single plaquettes.

        Example:
            >>> LinkPartition.rectangles((8, 8), (2, 4))
            LinkPartition(8x8, mu=0, active links: 8 of 128, each with the boundary of its rectangle)
        """
        sites, shape = check_sites(sites), tuple(shape)
        if len(sites) != 2 or len(shape) != 2:
            raise InvalidInput(f"rectangles are for two dimensions, got sites {sites}, shape {shape}")
        if min(shape) < 1 or max(shape) < 2 or any(s > extent for s, extent in zip(shape, sites, strict=True)):
            raise InvalidInput(f"rectangles to be cut need two plaquettes or more and fit {sites}, got shape {shape}")
        if corners is None:
            fit = (range(0, extent - s + 1, s) for s, extent in zip(shape, sites, strict=True))
            corners = list(itertools.product(*fit))
        covered = torch.zeros(sites, dtype=torch.int64)
        active = torch.zeros(sites, dtype=torch.bool)
        across, first, rest = halves((shape[0], shape[1]))
        along = 1 - across
        for corner in corners:
            x, y = (torch.arange(c, c + s) % extent for c, s, extent in zip(corner, shape, sites, strict=True))
            covered[x[:, None], y[None, :]] += 1
            start = [corner[direction] + first * (direction == across) for direction in (0, 1)]
            active[start[0] % sites[0], start[1] % sites[1]] = True
        if covered.max() > 1:
            raise InvalidInput(f"rectangles of shape {shape} overlap at corners {corners}")
        line = shape[along]
        part = ((along, line), (across, -first), (along, -line), (across, first))
        whole = ((across, rest), (along, line), (across, -shape[across]), (along, -line), (across, first))
        return cls(sites, along, active, part, boundary=whole)

    def __repr__(self) -> str:
        frozen = ", ".join(
            f"{len(where)} of {path}" for path, (_, where) in zip(self.frozen_paths, self.frozen_loops(), strict=True)
        )
        extents = "x".join(map(str, self.sites))
        links = self.dim * volume(self.sites)
        context = (
            f"frozen loops: {frozen or 'none'}" if self.boundary is None else "each with the boundary of its rectangle"
        )
        return f"LinkPartition({extents}, mu={self.mu}, active links: {self.n_active} of {links}, {context})"


def _small_loops(dim: int) -> list[Path]:
    paths = [rectangle(mu, 1, nu, 1) for mu, nu in itertools.combinations(range(dim), 2)]
    return [*paths, rectangle(0, 2, 1, 1), rectangle(0, 1, 1, 2)] if dim == 2 else paths


def stripe_lines(extent: int) -> list[int]:
    """The lines, out of `extent`, that hold active links at offset 0: every fourth, or as near to that as divides.

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
