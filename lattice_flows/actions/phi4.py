"""The phi^4 action of a real scalar field."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from lattice_flows.actions.base import Action, ActionEntry, coupling
from lattice_flows.actions.local import Cell, Conditional
from lattice_flows.config.rules import FINITE, Settings, at_least
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice, ScalarField, Space


class Phi4(Action):
    """S = sum_x [ sum_mu (phi(x + mu) - phi(x))^2 + m2 phi(x)^2 + lambda phi(x)^4 ], without factors 1/2.

    It is symmetric under phi -> -phi. There is no beta.

    Args:
        space: of the field.
        m2: the bare mass squared m^2, which may be negative.
        lambda_: the bare coupling lambda, > 0; or 0 for the free field, with m2 > 0.

    Raises:
        InvalidInput: the space is not one of scalars, or S has no lower bound or no minimum.

    Source: M. S. Albergo, G. Kanwar, P. E. Shanahan, 1904.12072.

    Example:
        >>> space = ScalarField((4, 6))
        >>> Phi4(space, m2=-4.0, lambda_=6.975)(torch.ones(5, 4, 6))
        tensor([71.4000, 71.4000, 71.4000, 71.4000, 71.4000])
    """

    space: ScalarField

    def __init__(self, space: Space, m2: float, lambda_: float):
        if not isinstance(space, ScalarField):
            raise InvalidInput(f"phi^4 needs a space of scalars, such as ScalarField((8, 8)), got {space!r}")
        super().__init__(space)
        self.m2, self.lambda_ = coupling("m2", m2), coupling("lambda", lambda_)
        if self.lambda_ < 0 or (self.lambda_ == 0 and self.m2 <= 0):
            raise InvalidInput(f"lambda must be > 0, or 0 with m2 > 0, got lambda = {lambda_!r} and m2 = {m2!r}")

    def forward(self, x: Tensor) -> Tensor:
        square = self.space.check(x).square()
        density = (self.m2 + self.lambda_ * square) * square
        for axis in range(-self.space.dim, 0):
            density = density + (x.roll(-1, axis) - x).square()
        return density.flatten(-self.space.dim).sum(-1)

    def force(self, x: Tensor) -> Tensor:
        """F = (4 d + 2 m2 + 4 lambda phi^2) phi - 2 sum_mu [phi(x + mu) + phi(x - mu)] in d dimensions."""
        force = (4 * self.space.dim + 2 * self.m2 + 4 * self.lambda_ * self.space.check(x).square()) * x
        for axis in range(-self.space.dim, 0):
            force = force - 2 * (x.roll(-1, axis) + x.roll(1, axis))
        return force

    def cells(self, device: torch.device | str = "cpu") -> Sequence[Cell]:
        """The colours of the lattice; the walks lead to the neighbours."""
        return _site_cells(self.space.lattice, torch.device(device))

    def conditional(self, flat: Tensor, cell: Cell) -> Conditional:
        neighbours = (flat.index_select(-1, step) for step in cell.walks[:, 0])
        # not sum: its order of additions can depend on the batch
        return SiteConditional(functools.reduce(torch.add, neighbours), 2 * self.space.dim + self.m2, self.lambda_)

    def extra_repr(self) -> str:
        return f"{self.space}, m2={self.m2:g}, lambda={self.lambda_:g}"


class SiteConditional(NamedTuple):
    """The density exp(-quadratic phi^2 - quartic phi^4 + 2 h phi) of the field at single sites."""

    h: Tensor
    """The sum `(*batch, n)` over the neighbours."""
    quadratic: float
    quartic: float

    def energy(self, elements: Tensor) -> Tensor:
        """quadratic phi^2 + quartic phi^4 - 2 h phi `(*batch, n)`."""
        square = elements.square()
        return (self.quadratic + self.quartic * square) * square - 2 * self.h * elements


@functools.lru_cache(maxsize=32)
def _site_cells(lattice: Lattice, device: torch.device) -> tuple[Cell, ...]:
    around = [lattice.neighbours(mu, steps) for mu in range(lattice.dim) for steps in (1, -1)]
    walks, colour = torch.stack(around).unsqueeze(1), lattice.colours()
    sites = [(colour == value).nonzero().squeeze(1) for value in colour.unique()]
    return tuple(Cell(here.to(device), walks[..., here].to(device)) for here in sites)


@dataclass(frozen=True, kw_only=True)
class Phi4Settings(Settings):
    """The couplings `m2` and `lambda` of phi^4."""

    m2: Annotated[float, FINITE]
    lambda_: Annotated[float, FINITE, at_least(0)]


PHI4 = ActionEntry(Phi4Settings, lambda space, settings: Phi4(space, settings.m2, settings.lambda_))
