"""The Wilson action."""

from lattice_flows.actions.loops import LoopAction
from lattice_flows.groups import Group


class Wilson(LoopAction):
    """S = -(beta / N) sum_{x, mu < nu} Re tr P_{mu nu}(x), without a constant; for U(1), -beta sum cos(arg P).

    Source: K. G. Wilson, Phys. Rev. D 10 (1974) 2445.

    Raises:
        InvalidInput: beta is not a finite number > 0.

    Example:
        >>> from lattice_flows import SU
        >>> action = Wilson(SU(3), beta=6.0)
        >>> action(SU(3).identity(5, 2, 4, 4))
        tensor([-96., -96., -96., -96., -96.])
    """

    def __init__(self, group: Group, beta: float, *, dim: int | None = None):
        super().__init__(group, beta, dim=dim)
