"""The hierarchical flow of two dimensions, which cuts rectangles in two down to plaquettes."""

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch

from lattice_flows.actions import Action
from lattice_flows.config.rules import Rule, Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.recipe import Bins, Recipe, Widths, keywords, seeded
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField, Lattice, Space
from lattice_flows.lattice.space import gauge_field
from lattice_flows.planar.level import Level, check_design
from lattice_flows.planar.level_training import LevelTraining, level_stages
from lattice_flows.planar.partition import RectanglePartition, cuts
from lattice_flows.planar.perceptron import BetaInput


class HierarchicalFlow(Flow):
    """A flow whose layers are levels, from the largest rectangles to the smallest; see `hierarchical`."""

    @property
    def beta_input(self) -> BetaInput | None:
        """The coupling beta that the contexts see, where they see one."""
        return BetaInput.of(self)

    def on(self, lattice: Lattice | Sequence[int]) -> "HierarchicalFlow":
        """A copy on another lattice. Each level takes the parameters of the level whose areas are nearest.

        A level of larger rectangles than any here starts as the identity.

        Raises:
            InvalidInput: not two dimensions.

        Example:
            >>> from lattice_flows import U1
            >>> hierarchical(U1(), (8, 8), seed=0).on((16, 12))
            Flow: U(1) on 16x12, 9 layers (Level), 27,833 parameters
        """
        own = cast(list[Level], list(self.layers))
        largest = max(sum(level.areas) for level in own)
        beta_input = copy.deepcopy(self.beta_input)
        levels = []
        for partition in cuts(lattice):
            level = min(own, key=functools.partial(_distance, partition)).copy(partition, partition.areas, beta_input)
            if sum(level.areas) > largest:
                level.reset()
            levels.append(level)
        like = next(self.parameters())
        return HierarchicalFlow(self.space.on(lattice), levels).to(like.device, like.dtype)


def _distance(partition: RectanglePartition, level: Level) -> tuple[float, bool]:
    apart = sum(abs(math.log(own / other)) for own, other in zip(level.areas, partition.areas, strict=True))
    # two shapes can have parts of the same areas, and levels of their own
    return apart, level.partition.shape != partition.shape


def transfer(flow: Flow, lattice: Lattice | Sequence[int]) -> Flow:
    """A copy of a flow on another lattice: `flow.on(lattice)`."""
    return flow.on(lattice)


def hierarchical(
    group: Group,
    lattice: Lattice | Sequence[int],
    *,
    levels: Sequence[str] = ("cab", "c"),
    bins: int = 8,
    hidden: Sequence[int] = (32, 32),
    beta_range: Sequence[float] | None = None,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> HierarchicalFlow:
    """Two dimensions: rectangles, at first the whole lattice, are cut in two down to plaquettes.

    W_a is the loop around the first part (area A), and W that around the rectangle (area A + B). In two dimensions

        p(W_a | W) ~ f_A(W_a) f_B(W W_a^-1),   f_A the density of a loop of area A,

    depends on nothing else. So small conditional flows, one for each shape, make the theory. They start as the
    identity. Large loops are nearly Haar elements: their levels hardly have to leave it.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413, for the decomposition.

    Args:
        group: the gauge group.
        lattice: a `Lattice` of two dimensions, or any two extents.
        levels: designs of the levels (see `lattice_flows.planar.level.SUBLAYERS`), for rectangles of 2 plaquettes, of
            up to 4, of up to 8, and so on; all larger ones have the last design.
        bins, hidden: spline bins, and widths of the perceptron in each context.
        beta_range: the lowest and the highest beta, which becomes an input of the contexts.
        seed, dtype: of the initial weights. Default: torch's global stream, and torch's dtype.

    Raises:
        InvalidInput: not two dimensions, numbers out of range, or unknown designs.

    Example:
        >>> from lattice_flows import SU
        >>> hierarchical(SU(3), (8, 8), levels=("crab", "ca", "c"), seed=0)
        Flow: SU(3) on 8x8, 6 layers (Level), 31,890 parameters
    """
    if not levels or isinstance(levels, str):
        raise InvalidInput(f"levels must be a list of designs, at least one, got {levels!r}")
    for design in levels:
        check_design(design)
    beta_input = None if beta_range is None else BetaInput(*beta_range)
    with seeded(seed):
        layers = []
        for cut in cuts(lattice):
            design = levels[min(math.ceil(math.log2(sum(cut.areas))), len(levels)) - 1]
            layers.append(
                Level.of_design(design, group, cut, cut.areas, bins=bins, hidden=hidden, beta_input=beta_input)
            )
    return HierarchicalFlow(GaugeField(group, lattice), layers).to(dtype)


Designs = Annotated[tuple[str, ...], Rule('designs of levels, such as ["crab", "c"]', lambda v: bool(v and all(v)))]
Range = Annotated[tuple[float, ...], Rule("two couplings, 0 < low < high", lambda v: len(v) == 2 and 0 < v[0] < v[1])]


@dataclass(frozen=True, kw_only=True)
class HierarchicalSettings(Settings):
    """Designs of levels, spline bins, widths of perceptrons, and the range of beta of a flow that sees beta.

    A flow with a `beta_range` is trained at couplings in this range, and then takes that of `[action]`.
    """

    levels: Designs = ("cab", "c")
    beta_range: Range | None = None
    bins: Bins = 8
    hidden: Widths = (16, 16)

    def check(self, config: Any) -> None:
        """Refuse by InvalidInput a `beta_start` beside a `beta_range`."""
        super().check(config)
        if self.beta_range is not None and config.training.beta_start is not None:
            raise InvalidInput(
                "a flow with a beta_range is trained at all its couplings: it cannot be annealed as well"
            )


def _build(
    space: Space,
    settings: HierarchicalSettings,
    action: Action | None = None,
    *,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> HierarchicalFlow:
    space = gauge_field(space)
    flow = hierarchical(space.group, space.lattice, **keywords(settings, HierarchicalSettings), seed=seed, dtype=dtype)
    if flow.beta_input is not None:
        beta = None if action is None else action.beta
        if beta is None:
            raise InvalidInput(f"a flow with a beta_range needs an action with a coupling beta, got {action}")
        flow.beta_input.set(beta)
    return flow


HIERARCHICAL = Recipe(
    HierarchicalSettings,
    _build,
    suits=lambda field, dim: field == "gauge" and dim == 2,
    stages=level_stages,
    training=LevelTraining,
)
