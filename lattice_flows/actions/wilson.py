"""The Wilson action."""

from lattice_flows.actions.base import ActionEntry, BetaSettings
from lattice_flows.actions.loops import LoopAction
from lattice_flows.lattice import GaugeField


class Wilson(LoopAction):
    """S = -(beta / N) sum_{x, mu < nu} Re tr P_{mu nu}(x), without a constant; for U(1), -beta sum cos(arg P).

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Raises:
        InvalidInput: the space is not one of links, or beta is not a finite number > 0.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> space = GaugeField(SU(3), (4, 4))
        >>> Wilson(space, beta=6.0)(space.cold(5))
        tensor([-96., -96., -96., -96., -96.])
    """

    def __init__(self, space: GaugeField, beta: float):
        super().__init__(space, beta)


WILSON = ActionEntry(BetaSettings, lambda space, settings: Wilson(space, settings.beta))
