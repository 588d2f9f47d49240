"""Actions improved with 1 x 2 rectangles."""

from lattice_flows.actions.base import ActionEntry, BetaSettings
from lattice_flows.actions.loops import LoopAction
from lattice_flows.lattice import GaugeField


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
