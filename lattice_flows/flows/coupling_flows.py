"""Flows of gauge couplings: stripes in two dimensions, checkerboards in three and four."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from lattice_flows.actions import Action
from lattice_flows.config.rules import Rule, Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.recipe import Bins, Layers, Recipe, Widths, check_size, keywords
from lattice_flows.flows.seeding import seeded
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField, Lattice, Space
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.conjugation import SpectralMap
from lattice_flows.layers.context import ConvContext
from lattice_flows.layers.coupling import GaugeCoupling
from lattice_flows.layers.partition import LinkPartition, stripe_lines


def stripes(
    group: Group,
    lattice: Lattice | Sequence[int],
    *,
    layers: int = 16,
    bins: int = 8,
    hidden: Sequence[int] = (16, 16),
    kernel_size: int = 3,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """Two dimensions: couplings that move links on every fourth line, at every offset in both directions in turn.

    Source: G. Kanwar et al., 2003.06413 (U(1)); D. Boyda et al., 2008.05456 (SU(N)).

    Args:
        group: the gauge group.
        lattice: a `Lattice` of two extents >= 3, best multiples of 4, or these extents.
        layers: the number of couplings; eight move every link once where extents are multiples of 4.
        bins: spline bins.
        hidden: channels of the convolutions in each context network.
        kernel_size: their odd extent.
        seed: of the initial weights. Default: torch's global stream.
        dtype: float32 or float64. Default: torch's.

    Raises:
        InvalidInput: the lattice has no such partition, or numbers are out of range.

    Example:
        >>> from lattice_flows import SU
        >>> stripes(SU(3), (8, 8), layers=16, seed=0)
        Flow: SU(3) on 8x8, 16 layers (GaugeCoupling with SpectralMap(SU(3), bins=8)), 64,256 parameters
    """
    lattice = Lattice(lattice)
    if lattice.dim != 2:
        raise InvalidInput(f"stripes are for two dimensions, got lattice {lattice}; use checkerboard")
    offsets = max(_widest(stripe_lines(extent), extent) for extent in lattice.extents)
    # Downwards: a line's passive loops are those of the line below, which is moved next and not again.
    partitions = [LinkPartition.stripes(lattice, mu, offset) for mu in (0, 1) for offset in reversed(range(offsets))]
    return _flow(stripes, group, partitions, layers, bins, hidden, kernel_size, seed).to(dtype)


def checkerboard(
    group: Group,
    lattice: Lattice | Sequence[int],
    *,
    layers: int = 24,
    bins: int = 8,
    hidden: Sequence[int] = (16, 16),
    kernel_size: int = 3,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """Three and four dimensions: couplings that move one direction and one parity at a time, in every plane in turn.

    Arguments and errors are those of `stripes`; the extents are even. 2 dim couplings move every link once, and
    2 dim (dim - 1) move it with every plaquette through it.

    Example:
        >>> from lattice_flows import U1
        >>> checkerboard(U1(), (4, 4, 6), layers=6, hidden=(8,), seed=0)
        Flow: U(1) on 4x4x6, 6 layers (GaugeCoupling with SpectralMap(U(1), bins=8)), 3,990 parameters
    """
    lattice = Lattice(lattice)
    dim = lattice.dim
    partitions = [
        LinkPartition.checkerboard(lattice, mu, parity, (mu + turn) % dim)
        for turn in range(1, dim)
        for mu in range(dim)
        for parity in (0, 1)
    ]
    return _flow(checkerboard, group, partitions, layers, bins, hidden, kernel_size, seed).to(dtype)


def _flow(
    builder: Callable[..., Flow],
    group: Group,
    partitions: Sequence[LinkPartition],
    layers: int,
    bins: int,
    hidden: Sequence[int],
    kernel_size: int,
    seed: int | None,
) -> Flow:
    """Couplings on partitions in turn; `builder` makes the like on another lattice."""
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InvalidInput(f"layers must be an integer >= 1, got {layers!r}")
    couplings = []
    with seeded(seed):
        for partition in itertools.islice(itertools.cycle(partitions), layers):
            conjugation = SpectralMap(group, bins)
            context = ConvContext(partition, group, conjugation.n_params, hidden, kernel_size)
            couplings.append(GaugeCoupling(group, partition, conjugation, context))
    same = functools.partial(builder, group, layers=layers, bins=bins, hidden=hidden, kernel_size=kernel_size)
    lattice, directions = partitions[0].lattice, [coupling.partition.mu for coupling in couplings]
    return Flow(GaugeField(group, lattice), couplings, rebuild=functools.partial(_on, same, lattice, directions))


def _on(same: Callable[..., Flow], original: Lattice, directions: list[int], lattice: Lattice) -> Flow:
    """The flow on another lattice; its layers must move links along the same directions."""
    flow = same(lattice, seed=0)
    if [coupling.partition.mu for coupling in flow.layers] != directions:  # type: ignore[union-attr]
        raise InvalidInput(
            f"the layers of a flow on {original} would move other directions on {lattice}: "
            "take extents with the same remainder of 4, or train on this lattice"
        )
    return flow


def _widest(lines: list[int], extent: int) -> int:
    return max(after - before for before, after in itertools.pairwise([*lines, extent]))


@dataclass(frozen=True, kw_only=True)
class CouplingSettings(Settings):
    """The number of couplings; the spline bins of each; the channels and the odd extent of its convolutions."""

    layers: Layers = 16
    bins: Bins = 8
    hidden: Widths = (16, 16)
    kernel_size: Annotated[int, Rule("odd, from 1 to 99", lambda v: 1 <= v <= 99 and v % 2 == 1)] = 3

    def check(self, config: Any) -> None:
        """Refuse a flow that no machine has the memory for, by InvalidInput."""
        super().check(config)
        check_size(config.lattice.extents, self.layers, self.hidden, self.kernel_size)


def _build(
    builder: Callable[..., Flow],
    space: Space,
    settings: CouplingSettings,
    action: Action | None = None,
    *,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    space = gauge_field(space)
    return builder(space.group, space.lattice, **keywords(settings, CouplingSettings), seed=seed, dtype=dtype)


STRIPES = Recipe(
    CouplingSettings, functools.partial(_build, stripes), suits=lambda field, dim: field == "gauge" and dim == 2
)
CHECKERBOARD = Recipe(
    CouplingSettings, functools.partial(_build, checkerboard), suits=lambda field, dim: field == "gauge" and dim > 2
)
