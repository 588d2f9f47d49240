"""Several quantities that should be zero: which one is farthest off, and whether that is chance."""

from collections.abc import Mapping
from typing import NamedTuple

import scipy

from lattice_flows.statistics.estimate import Estimate

CHANCE = 0.0027
"""The probability of three errors, here that of any of the quantities."""


class Pulls(NamedTuple):
    """Values over their errors by name, the name of the worst, and the size below which chance leaves all of them."""

    pulls: dict[str, float]
    worst: str | None
    allowed: float

    @property
    def wrong(self) -> bool:
        """Whether the worst one is more than chance."""
        return self.worst is not None and abs(self.pulls[self.worst]) > self.allowed


def pulls_of(zeros: Mapping[str, Estimate]) -> Pulls:
    """The pulls of quantities whose exact value is zero; those without an error have none.

    Example:
        >>> zeros = {"a": Estimate(0.2, 0.1, 0.5, 0.0, 0, 100), "b": Estimate(-0.5, 0.1, 0.5, 0.0, 0, 100)}
        >>> found = pulls_of(zeros)
        >>> found.worst, f"{found.pulls['b']:.1f}", f"{found.allowed:.1f}", found.wrong
        ('b', '-5.0', '3.2', True)
    """
    pulls = {name: own.value / own.error for name, own in zeros.items() if own.error > 0}
    worst = max(pulls, key=lambda name: abs(pulls[name]), default=None)
    return Pulls(pulls, worst, float(-scipy.special.ndtri(CHANCE / 2 / max(1, len(pulls)))))
