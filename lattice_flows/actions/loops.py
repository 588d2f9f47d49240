"""Actions of plaquettes and 1 x 2 rectangles."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.actions.base import OperatorAction
from lattice_flows.actions.local import Cell, Conditional, LinkConditional, link_cells
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.space import gauge_field
from lattice_flows.operators import Operator, plaquettes, rectangles


class LoopAction(OperatorAction):
    """S = -(beta / N) sum over x and planes of [c0 Re tr P_{1x1} + c1 sum over both orientations of Re tr P_{1x2}].

    Args:
        beta: the inverse coupling, > 0.
        c1: the weight of the 1 x 2 rectangles; c0 = 1 - 8 c1 keeps the classical continuum limit.

    Raises:
        InvalidInput: the space is not one of links, or beta is not a finite number > 0.
    """

    batch_invariant = True
    space: GaugeField
    beta: float

    def __init__(self, space: GaugeField, beta: float, c1: float = 0.0):
        super().__init__(gauge_field(space), beta)
        self.c1 = c1

    def terms(self) -> list[tuple[float, Operator]]:
        terms: list[tuple[float, Operator]] = [(-self.beta * (1 - 8 * self.c1), plaquettes(self.space))]
        return terms + ([(-self.beta * self.c1, rectangles(self.space))] if self.c1 else [])

    def cells(self, device: torch.device | str = "cpu") -> Sequence[Cell]:
        # links of one cell would meet in other terms than plaquettes
        return super().cells(device) if self.c1 else link_cells(self.space.lattice, torch.device(device))

    def conditional(self, flat: Tensor, cell: Cell) -> Conditional:
        if self.c1:
            return super().conditional(flat, cell)
        group = self.space.group
        return LinkConditional(group, group.link_sums(flat, cell.walks, cell.forward), self.beta / group.n)
