"""Samplers that adapt their own numbers to an acceptance."""

import itertools
from abc import abstractmethod
from typing import Any, NamedTuple, Self

from torch import Tensor

from lattice_flows.errors import InvalidInput, NumericalFailure
from lattice_flows.sampling.base import ChainState, Sampler
from lattice_flows.streams import Streams


class Window(NamedTuple):
    """Updates of a chain after which a sampler is adapted, and the gain of that, 1 or less."""

    begin: int
    end: int
    gain: float


def windows(begin: int, end: int) -> list[Window]:
    """The windows of tuning between two updates: each has about twice as many updates as the one before.

    The gains 1, 2/3, 1/2, 2/5, ... let numbers change much in all windows together and little in the last ones. So
    they converge where the acceptance falls faster than expected, as it does at the edge of stability.

    Example:
        >>> [(window.begin, window.end) for window in windows(50, 150)]
        [(50, 51), (51, 53), (53, 56), (56, 62), (62, 75), (75, 100), (100, 150)]
    """
    ends = [begin + (end - begin >> k) for k in reversed(range((end - begin).bit_length()))]
    return [Window(*pair, 2 / (k + 2)) for k, pair in enumerate(itertools.pairwise([begin, *ends]))]


def gained(ratio: float, gain: float, most: float) -> float:
    """The ratio to the power of the gain, where a ratio beyond `most` or 1 / `most` counts as that."""
    return min(max(ratio, 1 / most), most) ** gain


class Tunable(Sampler):
    """A sampler that adapts its numbers to the acceptance of its own steps.

    To add one, set `target` and implement `tuned` and `adapted`; and `rate` where an info tells more than whether a
    change was accepted.
    """

    target: float
    """The acceptance that is asked for."""

    @property
    @abstractmethod
    def tuned(self) -> dict[str, float | int]:
        """The numbers that make the sampler again; there are none where it does not tune itself."""

    @abstractmethod
    def adapted(self, rate: float, target: float, gain: float) -> Self:
        """The sampler whose acceptance should be `target` where its own is `rate`, moved there by a part, the gain."""

    def rate(self, info: Any) -> Tensor:
        """The expected acceptance `(chains,)` of a step, from its info."""
        return info.acceptance

    def tune(self, state: ChainState, streams: Streams, target: float | None = None, updates: int = 64) -> Self:
        """The sampler that reaches the target, by its default `self.target`, in steps that begin at the state.

        Args:
            state: of chains in equilibrium, which stay where they are.
            updates: the number of steps.

        Raises:
            InvalidInput: the target is not between 0 and 1.
            NumericalFailure: nothing is accepted.
        """
        if target is not None and not 0 < target < 1:
            raise InvalidInput(f"target must be an acceptance between 0 and 1, got {target}")
        sampler, wanted = self, self.target if target is None else target
        for begin, end, gain in windows(0, updates if self.tuned else 0):
            rate = 0.0
            for _ in range(begin, end):
                state, info = sampler.step(state, streams)
                rate += float(sampler.rate(info).mean()) / (end - begin)
            if end == updates and rate < 0.01:
                raise NumericalFailure(
                    f"{type(self).__name__}: no acceptance of {wanted}, with {sampler.tuned} nothing is accepted: "
                    "are the chains in equilibrium, and is the force that of the action?"
                )
            sampler = sampler.adapted(rate, wanted, gain)
        return sampler
