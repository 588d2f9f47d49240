"""Actions of plaquettes and 1 x 2 rectangles: Wilson's and the improved ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lattice_flows.actions.base import ActionEntry, BetaSettings, OperatorAction
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
        return link_cells(self.space.lattice, torch.device(device), rectangles=self.c1 != 0)

    def conditional(self, flat: Tensor, cell: Cell) -> Conditional:
        group = self.space.group
        sums = group.link_sums(flat, cell.walks, cell.forward)
        if cell.longer:
            sums = (1 - 8 * self.c1) * sums + self.c1 * group.link_sums(flat, *cell.longer)
        return LinkConditional(group, sums, self.beta / group.n)

    def loop_weights(self) -> Tensor | None:
        dim, unit = self.space.dim, self.beta / self.space.group.n
        planes, rectangles = ([[weight] * dim] * dim for weight in (unit * (1 - 8 * self.c1), unit * self.c1))
        return torch.tensor([planes, rectangles] if self.c1 else planes, dtype=torch.float64)


class Wilson(LoopAction):
    """S = -(beta / N) sum_{x, mu < nu} Re tr P_{mu nu}(x), without a constant; for U(1), -beta sum cos(arg P).

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(3), (4, 4))
        >>> Wilson(space, beta=6.0)(space.cold(5))
        tensor([-96., -96., -96., -96., -96.])
    """

    def __init__(self, space: GaugeField, beta: float):
        super().__init__(space, beta)


class Symanzik(LoopAction):
    """Tree-level improved (Luscher-Weisz) action, c1 = -1/12.

    Source: P. Weisz, Nucl. Phys. B 212 (1983) 1; M. Luscher and P. Weisz, Commun. Math. Phys. 97 (1985) 59.
    """

    def __init__(self, space: GaugeField, beta: float):
        super().__init__(space, beta, c1=-1 / 12)


class Iwasaki(LoopAction):
    """Iwasaki's renormalisation-group improved action, c1 = -0.331.

    Source: Y. Iwasaki, UTHEP-118 (1983), arXiv:1111.7054; Nucl. Phys. B 258 (1985) 141.
    """

    def __init__(self, space: GaugeField, beta: float):
        super().__init__(space, beta, c1=-0.331)


class DBW2(LoopAction):
    """The doubly blocked Wilson action, c1 = -1.4088.

    Source: T. Takaishi, Phys. Rev. D 54 (1996) 1050; P. de Forcrand et al. (QCD-TARO), hep-lat/9911033.
    """

    def __init__(self, space: GaugeField, beta: float):
        super().__init__(space, beta, c1=-1.4088)


SYMANZIK = ActionEntry(BetaSettings, lambda space, settings: Symanzik(space, settings.beta))
IWASAKI = ActionEntry(BetaSettings, lambda space, settings: Iwasaki(space, settings.beta))
DBW2_ENTRY = ActionEntry(BetaSettings, lambda space, settings: DBW2(space, settings.beta))
