"""Stout couplings: masked steps of stout smearing with their exact Jacobian and their inverse."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lattice_flows.actions.local import Cell, link_cells
from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.kernels import link_products, link_stout
from lattice_flows.kernels.link_stout import available
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.base import Transform
from lattice_flows.layers.residual import BOUND, Residual, algebra


class StoutCoupling(Transform):
    """U' = exp(Q) U on the links U along mu of one colour; no plaquette holds two of them.

    With S_nu the sum of the two staples that close U in the (mu, nu) plane,

        Q = -P [U M],   M = sum_nu rho_nu S_nu,

    P the projection on the algebra. With rho > 0 the plaquettes grow, as in `stout_smear`. The staples are frozen, so
    that the Jacobian is a matrix for each link: see `Residual`.

    A staple is an element of the group: |Z M| <= 2 sum_nu |rho_nu| |Z| in the norm of Frobenius. Where that factor is
    below 1 the layer has one inverse, which `Residual` proves and finds. Free parameters c keep it below B = 0.9:

        rho = c tanh(s) / s,   s = 2 sum_nu |c_nu| / B.

    The bound is sharp: with M = -1 the Jacobian vanishes at U = 1.

    Derivatives with respect to links and parameters are exact in both directions. Translations that keep the colour,
    reflections, and exchanges of directions with equal rho commute with the layer.

    Args:
        space: of the links.
        mu: their direction.
        colour: one of `space.lattice.colours(mu)`, 0 ... `n_colours(mu)` - 1.
        rho: the value of all rho_nu at first.
        dtype: of the parameters.

    Raises:
        InvalidInput: there are no such links, or rho is out of bounds.

    Source: C. Morningstar, M. Peardon, hep-lat/0311018, for the step; A. Bulgarelli, E. Cellini, A. Nada, 2412.00200,
    for it on a part of the links, as a layer of stochastic flows.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import average_plaquette
        >>> space = GaugeField(SU(3), (4, 4, 4))
        >>> layer = StoutCoupling(space, mu=0, colour=1, rho=0.1)
        >>> links = space.prior(100, torch.Generator().manual_seed(0))
        >>> moved, logdet = layer(links)
        >>> print(f"{average_plaquette(space)(moved).mean().item():.2f}")
        0.03
    """

    c: nn.Parameter
    """`(dim - 1,)`, for the directions nu != mu in order."""

    def __init__(self, space: GaugeField, mu: int, colour: int, *, rho: float = 0.0, dtype: torch.dtype | None = None):
        super().__init__()
        self.space, self.mu, self.colour = gauge_field(space), mu, colour
        lattice, planes = self.space.lattice, self.space.dim - 1
        colours = [lattice.n_colours(nu) for nu in range(lattice.dim)]
        if mu not in range(lattice.dim) or colour not in range(colours[mu]):
            raise InvalidInput(
                f"links on {lattice} have directions 0 ... {planes} of {colours} colours, got mu = {mu!r} and colour = "
                f"{colour!r}"
            )
        self._cell = sum(colours[:mu]) + colour
        # the kernel is for SU(N) alone
        self._special = len(self.space.group.generators()) == self.space.group.n**2 - 1
        if not 2 * planes * abs(rho) < BOUND:
            raise InvalidInput(f"|rho| must be < {BOUND / (2 * planes):.4g} in {self.space.dim} dimensions, got {rho}")
        c = math.copysign(BOUND * math.atanh(2 * planes * abs(rho) / BOUND) / (2 * planes), rho)
        self.c = nn.Parameter(torch.full((planes,), c, dtype=dtype))

    @property
    def rho(self) -> Tensor:
        """The coefficients `(dim - 1,)` of the staples."""
        # not 0 where c is: there c would have no gradient
        s = 2 * self.c.abs().sum() / BOUND + torch.finfo(self.c.dtype).tiny
        return self.c * (torch.tanh(s) / s)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        derivable = torch.is_grad_enabled() and (x.requires_grad or self.c.requires_grad)
        compiled = self._special and not derivable and available(x)
        return self._move(x, self._compiled if compiled else partial(self._derivable, Residual.forward))

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(y, partial(self._derivable, Residual.inverse))

    def _move(self, x: Tensor, step: Callable[[Tensor, Cell], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        cell = link_cells(self.space.lattice, x.device)[self._cell]
        flat = self.space.flatten(self.space.check(x))
        moved, logdet = step(flat, cell)
        return flat.index_copy(self.space.site_axis, cell.active, moved).reshape(x.shape), logdet.sum(-1)

    def _compiled(self, flat: Tensor, cell: Cell) -> tuple[Tensor, Tensor]:
        """The active links after the step, and the log-determinant of each, without derivatives."""
        weights = self.rho.double().repeat_interleave(2)  # one of each side
        return link_stout(flat, cell.walks, cell.forward, cell.active, weights)

    def _derivable(self, direction: Callable, flat: Tensor, cell: Cell) -> tuple[Tensor, Tensor]:
        """The same with derivatives, in a direction of `Residual`."""
        group = self.space.group
        links, rho = flat.index_select(self.space.site_axis, cell.active), self.rho.to(flat.real.dtype)
        sums = (rho[:, None, None, None] * _staples(group.matrices(flat), cell)).sum(-4)
        factor, logdet = direction(_Step(group, sums, 2 * rho.abs().sum().item()), links)
        return group.compose(factor, links), logdet

    def extra_repr(self) -> str:
        return f"{self.space}, mu={self.mu}, colour={self.colour}"


def _staples(matrices: Tensor, cell: Cell) -> Tensor:
    """The sums of both staples in each plane `(*batch, dim - 1, n, N, N)`, from all links as matrices."""
    sides = []
    for side in (0, 1):  # the walks lead to one side and to the other in turn
        table = cell.walks[side::2].transpose(0, 1)
        staples = link_products(matrices, table.flatten(1), cell.forward[side])
        sides.append(staples.unflatten(-3, table.shape[1:]))
    return sides[0] + sides[1]


class _Step(Residual):
    """The step of -U M, from sums M of staples `(..., N, N)`."""

    def __init__(self, group: Group, sums: Tensor, size: float):
        super().__init__(group, size)
        self.sums = sums

    def matrix(self, y: Tensor) -> Tensor:
        return -self.group.matrices(y) @ self.sums

    def step(self, y: Tensor) -> tuple[Tensor, Tensor]:
        m = self.matrix(y)
        q = self.components(m)
        products = algebra(self.group, q.dtype, q.device).products
        return q, (torch.view_as_real(m).flatten(-3) @ products).unflatten(-1, (q.shape[-1], -1))
