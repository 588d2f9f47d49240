"""The hierarchical flow of two dimensions: rectangles cut in two, again and again."""

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import check_sites
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.prior import HaarPrior
from lattice_flows.flows.seeding import seeded
from lattice_flows.groups import Group
from lattice_flows.layers.level import Level, check_design
from lattice_flows.layers.partition import LinkPartition
from lattice_flows.layers.perceptron import Coupling
from lattice_flows.layers.rectangles import cuts


def hierarchical(
    group: Group,
    sites,
    *,
    levels: Sequence[str] = ("cab", "c"),
    bins: int = 8,
    hidden: Sequence[int] = (32, 32),
    beta_range: tuple[float, float] | None = None,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """Two dimensions: rectangles, at first the whole lattice, are cut in two down to plaquettes.

    In two dimensions p(W_a | W), W_a around the first part (area A) and W around the whole rectangle (area A + B),
    depends on nothing else: it is proportional to f_A(W_a) f_B(W W_a^-1), f_A the density of a loop of area A. So
    V - 1 small conditional flows, all of one shape of rectangle alike, make the theory. The flow is the identity at
    first; levels of large rectangles hardly have to leave it, because large loops are nearly Haar.

    Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413, for the decomposition.

    Args:
        group: the gauge group.
        sites: two extents, any.
        levels: designs of the levels (see `lattice_flows.layers.level.SUBLAYERS`), for rectangles of 2 plaquettes, of
            up to 4, of up to 8, and so on; the last design is that of all larger ones.
        bins: spline bins.
        hidden: widths of the perceptron in each context.
        beta_range: couplings between which the flow can be asked for any, as an input of its contexts.
        seed: of the initial weights. Default: torch's global stream.
        dtype: float32 or float64. Default: torch's.

    Raises:
        InvalidInput: not two dimensions, or numbers or designs out of range.

    Example:
        >>> from lattice_flows import SU
        >>> hierarchical(SU(3), (8, 8), levels=("crab", "ca", "c"), seed=0)
        Flow: SU(3) on 8x8, 6 layers (Level), 31,890 parameters
    """
    sites = check_sites(sites)
    if not levels or isinstance(levels, str):
        raise InvalidInput(f"levels must be a list of designs, at least one, got {levels!r}")
    for design in levels:
        check_design(design)
    coupling = None if beta_range is None else Coupling(*beta_range)
    with seeded(seed):
        layers = [
            Level.of_design(
                levels[min(math.ceil(math.log2(sum(cut.areas))), len(levels)) - 1],
                group,
                LinkPartition.rectangles(sites, cut.shape, cut.corners),
                cut.areas,
                bins=bins,
                hidden=hidden,
                coupling=coupling,
            )
            for cut in cuts(sites)
        ]
    return Flow(HaarPrior(group, sites), layers).to(dtype)


def transfer(flow: Flow, sites) -> Flow:
    """A copy of a hierarchical flow for other extents, with the parameters of rectangles of the same areas.

    A level that the flow has no rectangles for takes over the parameters of the nearest areas; one of larger
    rectangles than any there starts as the identity.

    Raises:
        InvalidInput: the flow is not hierarchical, or not two extents.

    Example:
        >>> from lattice_flows import U1
        >>> transfer(hierarchical(U1(), (8, 8), seed=0), (16, 12))
        Flow: U(1) on 16x12, 9 layers (Level), 27,833 parameters
    """
    trained = cast(list[Level], list(flow.layers))
    if not all(isinstance(level, Level) for level in trained):
        raise InvalidInput(f"only a hierarchical flow can be carried to other extents, got {flow}")
    largest = max(sum(level.areas) for level in trained)
    coupling = copy.deepcopy(flow.coupling)

    def distance(level: Level, areas: tuple[int, int], partition: LinkPartition) -> tuple[float, bool]:
        apart = sum(abs(math.log(own / other)) for own, other in zip(level.areas, areas, strict=True))
        # two shapes can have parts of the same areas, and levels of their own
        return apart, level.partition.boundary != partition.boundary

    levels = []
    for cut in cuts(sites):
        partition = LinkPartition.rectangles(sites, cut.shape, cut.corners)
        nearest = min(trained, key=lambda level: distance(level, cut.areas, partition))
        level = nearest.copy(partition, cut.areas, coupling)
        if sum(cut.areas) > largest:
            level.reset()
        levels.append(level)
    like = next(flow.parameters())
    return Flow(HaarPrior(flow.group, sites), levels).to(like.device, like.dtype)
