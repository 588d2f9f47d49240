"""Flows of one layer that integrates forces of loop operators, in any dimension."""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from lattice_flows.actions import ActionLike
from lattice_flows.config.rules import Settings, at_least, at_most
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.layers.gradient_flow import GradientFlow
from lattice_flows.operators import WeightedSum, merged, production

SETS: dict[str, Callable[[Group, int], Sequence[WeightedSum]]] = {
    "plaquette": lambda group, dim: production(group, dim)[:1],
    "production": production,
    "next_to_leading": merged,
}
"""The sets of operators by name."""
Number = Annotated[int, at_least(1), at_most(1000)]


def gradient(
    group: Group,
    lattice: Lattice | Sequence[int],
    *,
    operators: str = "next_to_leading",
    knots: int = 5,
    steps: int = 12,
    dtype: torch.dtype | None = None,
) -> Flow:
    """A flow from Haar's measure along the forces of loop operators, with coefficients that depend on time.

    It is the identity at first: `lattice_flows.training` fits it. Its coefficients serve lattices of any extents.

    Source: M. Luscher, 0907.5491.

    Args:
        lattice: a `Lattice`, or its extents, each longer than the loops.
        operators: "plaquette"; "production", the plaquette and Q'; or "next_to_leading", all that
            `lattice_flows.operators.merged` has.
        knots: the number of times at which each coefficient has a value; it is a polynomial between them.
        steps: the number of steps of the integrator.
        dtype: float32 or float64. Default: torch's.

    Raises:
        InvalidInput: the lattice is too short, a name is unknown, or numbers are out of range.

    Example:
        >>> from lattice_flows import SU
        >>> gradient(SU(3), (4, 4, 4, 4))
        Flow: SU(3) on 4x4x4x4, 1 layers (GradientFlow), 40 parameters
    """
    space = GaugeField(group, lattice)
    if operators not in SETS:
        raise InvalidInput(f"operators must be one of {', '.join(SETS)}, got {operators!r}")
    layer = GradientFlow(space, SETS[operators](group, space.dim), knots=knots, steps=steps, dtype=dtype)
    same = functools.partial(gradient, group, operators=operators, knots=knots, steps=steps, dtype=dtype)
    return Flow(space, [layer], rebuild=same)


@torch.no_grad()
def step_errors(flow: Flow, action: ActionLike, x: Tensor) -> Tensor:
    """The errors of log w `(n,)` by the steps of gradient flows: its change to that of steps half as long.

    These have a sixteenth of the errors. The ESS does not see them: they shift log Z and, as far as they vary, means.

    Shapes: x `(n, *shape)`, configurations of the prior.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.actions import Wilson
        >>> flow = gradient(SU(2), (4, 4), operators="plaquette", steps=4)
        >>> _ = flow.layers[0].coefficients.data.fill_(0.1)
        >>> x = flow.sample_prior(8, torch.Generator().manual_seed(0))
        >>> bool(step_errors(flow, Wilson(flow.space, beta=0.5), x).abs().max() < 1e-3)
        True
    """
    fine, found = copy.deepcopy(flow), []
    for layer in fine.layers:
        if isinstance(layer, GradientFlow):
            layer.steps *= 2
    for own in (flow, fine):
        y, log_q = own.transform(x)
        found.append(-action(y).double() - log_q.double())
    return found[0] - found[1]


@dataclass(frozen=True, kw_only=True)
class GradientSettings(Settings):
    """The operators whose forces are integrated; the values of each coefficient; the steps of the integrator."""

    operators: Literal["plaquette", "production", "next_to_leading"] = "next_to_leading"
    knots: Number = 5
    steps: Number = 12
