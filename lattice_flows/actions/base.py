"""Actions: functions of configurations, with their force."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from lattice_flows.actions.local import Cell, Conditional
from lattice_flows.config.rules import POSITIVE, Positive, Rule, Settings, at_least
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import Lattice, Space
from lattice_flows.lattice.space import check_space
from lattice_flows.operators.base import Operator, autograd_force
from lattice_flows.streams import Streams

ActionLike = Callable[[Tensor], Tensor]
"""A function x -> S `(*batch,)`: enough wherever only S is needed."""


class Action(nn.Module):
    """S(x); the target density is p = exp(-S) / Z relative to the measure of the space.

    To add one, implement `forward`; the force follows by autograd. `forward` must read the coupling from `self.beta`
    at each call, or the action must override `at`. Further couplings are attributes of your own. Without a coupling
    beta is None.

    Raises:
        InvalidInput: `space` is no space, or beta is not a finite number > 0.
    """

    batch_invariant = False
    """Whether all digits of S and of the force are independent of the rest of a batch."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take local updates from an action whose S is another than theirs: it must bring its own."""
        super().__init_subclass__(**kwargs)

        def depth(name: str) -> int:
            return next((k for k, kind in enumerate(cls.__mro__) if name in vars(kind)), len(cls.__mro__))

        if min(map(depth, ("forward", "terms"))) < max(map(depth, ("cells", "conditional"))):
            cls.cells, cls.conditional = Action.cells, Action.conditional  # type: ignore[method-assign]
        if min(map(depth, ("forward", "terms", "force", "cells", "conditional"))) < depth("loop_weights"):
            cls.loop_weights = Action.loop_weights  # type: ignore[method-assign]

    def __init__(self, space: Space, beta: float | None = None):
        super().__init__()
        self.space = check_space(space, "an action")
        self.beta = None if beta is None else coupling("beta", beta, POSITIVE)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """S `(*batch,)`."""

    def force(self, x: Tensor) -> Tensor:
        """The tangent field F, shaped like x, with S(move(x, t X)) = S(x) + t inner(X, F) + O(t^2)."""
        return autograd_force(self, x, self.space)

    def at(self, beta: float) -> Self:
        """The same action at another coupling; InvalidInput if it has none, or beta is not a finite number >= 0."""
        if self.beta is None:
            raise InvalidInput(f"{self} has no coupling beta that could change")
        other = copy.copy(self)
        other.beta = coupling("beta", beta, at_least(0))
        return other

    def on(self, lattice: Lattice | Sequence[int]) -> Self:
        """The same action on another lattice."""
        other = copy.copy(self)
        other.space = self.space.on(lattice)
        return other

    def refreshed(self, x: Tensor, streams: Streams) -> "Action":
        """The action with new auxiliary fields, given x; most actions have none and return themselves.

        Fields of single chains need an action that is `batch_invariant`: any other is given chains in blocks.
        """
        return self

    def cells(self, device: torch.device | str = "cpu") -> Sequence[Cell]:
        """Sets of elements that local updates may change at once; each element is in one set.

        Raises:
            InvalidInput: the action has no local updates.
        """
        raise InvalidInput(f"{type(self).__name__} has no local updates: use hmc")

    def conditional(self, flat: Tensor, cell: Cell) -> Conditional:
        """The density of the active elements of a cell, given all others; errors as for `cells`.

        Shapes: flat `(*batch, n_elements, *element)`, as `Space.flatten` gives it.
        """
        raise InvalidInput(f"{type(self).__name__} has no local updates: use hmc")

    def loop_weights(self) -> Tensor | None:
        """The w `(dim, dim)`, float64, if S is minus the sum over x, mu < nu of w_{mu nu} Re tr P_{mu nu}(x).

        With rectangles, w and the v `(2, dim, dim)` of `lattice_flows.kernels.link_sweeps`, and where w depends on x,
        `(planes, *extents)`, as there; None for other actions.
        """
        return None

    def extra_repr(self) -> str:
        return f"{self.space}" + ("" if self.beta is None else f", beta={self.beta:g}")


class OperatorAction(Action):
    """S = the sum of coefficients times operators. To add one, implement `terms`."""

    @abstractmethod
    def terms(self) -> list[tuple[float, Operator]]:
        """Coefficients, at the present beta, and operators."""

    def forward(self, x: Tensor) -> Tensor:
        values = (coefficient * operator.value(x) for coefficient, operator in self.terms())
        return sum(values, start=torch.zeros((), device=x.device))

    def force(self, x: Tensor) -> Tensor:
        force = torch.zeros_like(self.space.check(x))
        for coefficient, operator in self.terms():
            force.add_(operator.force(x), alpha=coefficient)
        return force


@dataclass(frozen=True, kw_only=True)
class BetaSettings(Settings):
    """The coupling `beta` of an action."""

    beta: Positive


class ActionEntry(NamedTuple):
    """A named action of `[action]` in configs.

    To add one: a file with the action and its entry, and one line in `lattice_flows/config/registry.py`.
    """

    settings: type[Settings]
    """The keys of `[action]` beside `name`, one for each coupling."""
    build: Callable[[Any, Any], Action]
    """`(space, settings) -> Action`."""


def coupling(name: str, value: float, *rules: Rule) -> float:
    """The value, if it is a finite number that fits the rules; else InvalidInput."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not all(rule.holds(value) for rule in rules):
        words = " ".join(["a finite number", *(rule.expectation for rule in rules)])
        raise InvalidInput(f"{name} must be {words}, got {value!r}")
    return float(value)
