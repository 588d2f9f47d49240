"""Flows of couplings: stripes of links in two dimensions, checkerboards in three and four; affine ones of scalars."""

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
from lattice_flows.flows.recipe import Bins, Layers, Recipe, Widths, check_size, keywords, seeded
from lattice_flows.groups import Group
from lattice_flows.lattice import Lattice, ScalarField, Space
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.affine import AffineCoupling, FreeField
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
    gaps = (itertools.pairwise([*stripe_lines(extent), extent]) for extent in lattice.extents)
    offsets = max(after - before for lines in gaps for before, after in lines)
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
    turns = itertools.product(range(1, dim), range(dim), (0, 1))
    partitions = [LinkPartition.checkerboard(lattice, mu, parity, (mu + turn) % dim) for turn, mu, parity in turns]
    return _flow(checkerboard, group, partitions, layers, bins, hidden, kernel_size, seed).to(dtype)


def _flow(builder, group: Group, partitions, layers: int, bins: int, hidden, kernel_size: int, seed) -> Flow:
    """Couplings on partitions in turn; `builder` makes the like on another lattice."""

    def coupling(k: int) -> GaugeCoupling:
        partition, conjugation = partitions[k % len(partitions)], SpectralMap(group, bins)
        context = ConvContext(partition, group, conjugation.n_params, hidden, kernel_size)
        return GaugeCoupling(group, partition, conjugation, context)

    couplings = _stack(coupling, layers, seed)
    same = functools.partial(builder, group, layers=layers, bins=bins, hidden=hidden, kernel_size=kernel_size, seed=0)
    return Flow(couplings[0].space, couplings, rebuild=functools.partial(_on_same_directions, same, couplings))


def _on_same_directions(same: Callable[..., Flow], own: list[GaugeCoupling], lattice: Lattice) -> Flow:
    """The flow on another lattice; its layers must move links along the same directions."""
    flow, original = same(lattice), own[0].space.lattice
    if any(a.partition.mu != b.partition.mu for a, b in zip(flow.layers, own, strict=True)):  # type: ignore[union-attr]
        raise InvalidInput(
            f"the layers of a flow on {original} would move other directions on {lattice}: "
            "take extents with the same remainder of 4, or train on this lattice"
        )
    return flow


def affine(
    lattice: Lattice | Sequence[int],
    *,
    layers: int = 8,
    hidden: Sequence[int] = (16, 16),
    kernel_size: int = 5,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    """White noise becomes a free field with a learned spectrum, then affine couplings act on one colour after another.

    The density of the flow is even under phi -> -phi. It is near a free field at first. Its parameters fit any lattice
    of the same dimension whose extents are all even, or not all.

    Source: M. S. Albergo, G. Kanwar, P. E. Shanahan, 1904.12072, for affine couplings; the free field is added here.

    Args:
        layers: the number of couplings; two move every site once, or three where an extent is odd.
        hidden: channels of the convolution in each coupling, then widths of the layers after it.
        kernel_size, seed, dtype: as for `stripes`.

    Raises:
        InvalidInput: numbers out of range.

    Example:
        >>> affine((6, 6), layers=8, hidden=(16, 16), seed=0)
        Flow: scalar field on 6x6, 9 layers (FreeField, AffineCoupling), 3,854 parameters
    """
    lattice = Lattice(lattice)
    colours = lattice.n_colours()
    same = functools.partial(affine, layers=layers, hidden=hidden, kernel_size=kernel_size, seed=0)
    couplings = _stack(lambda k: AffineCoupling(lattice, k % colours, hidden, kernel_size), layers, seed)
    rebuild = functools.partial(_on_same_colours, same, colours)
    return Flow(ScalarField(lattice), [FreeField(lattice), *couplings], rebuild=rebuild).to(dtype)


def _on_same_colours(same, colours: int, lattice: Lattice) -> Flow:
    """The flow on another lattice, whose layers move as many colours."""
    if lattice.n_colours() != colours:
        raise InvalidInput(
            f"a flow whose couplings move {colours} colours in turn does not fit {lattice}: a lattice has 2 colours "
            "where all extents are even, else 3; train on this lattice"
        )
    return same(lattice)


def _stack(make: Callable[[int], Any], layers: int, seed: int | None) -> list[Any]:
    """make(k) for every k below the number of layers, with initial weights from the seed."""
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InvalidInput(f"layers must be an integer >= 1, got {layers!r}")
    with seeded(seed):
        return [make(k) for k in range(layers)]


class _StackSettings(Settings):
    def check(self, config: Any) -> None:
        """Refuse a flow that no machine has the memory for, by InvalidInput."""
        super().check(config)
        own: Any = self
        check_size(config.lattice.extents, own.layers, own.hidden, own.kernel_size)


@dataclass(frozen=True, kw_only=True)
class CouplingSettings(_StackSettings):
    """The number of couplings; the spline bins of each; the channels and the odd extent of its convolutions."""

    layers: Layers = 16
    bins: Bins = 8
    hidden: Widths = (16, 16)
    kernel_size: Annotated[int, Rule("odd, from 1 to 99", lambda v: 1 <= v <= 99 and v % 2 == 1)] = 3


@dataclass(frozen=True, kw_only=True)
class AffineSettings(_StackSettings):
    """The number of couplings; the widths of the network in each and the odd extent of its convolution."""

    layers: Layers = 8
    hidden: Widths = (16, 16)
    kernel_size: Annotated[int, Rule("odd, from 3 to 99", lambda v: 3 <= v <= 99 and v % 2 == 1)] = 5


def _build(builder, space: Space, settings: CouplingSettings, action: Action | None = None, **weights) -> Flow:
    space = gauge_field(space)
    return builder(space.group, space.lattice, **keywords(settings, CouplingSettings), **weights)


def _build_affine(space: Space, settings: AffineSettings, action: Action | None = None, **weights) -> Flow:
    if not isinstance(space, ScalarField):
        raise InvalidInput(f"affine couplings move a scalar field, got {space}; take stripes or checkerboard")
    return affine(space.lattice, **keywords(settings, AffineSettings), **weights)


STRIPES = Recipe(
    CouplingSettings, functools.partial(_build, stripes), suits=lambda field, dim: field == "gauge" and dim == 2
)
CHECKERBOARD = Recipe(
    CouplingSettings, functools.partial(_build, checkerboard), suits=lambda field, dim: field == "gauge" and dim > 2
)
AFFINE = Recipe(AffineSettings, _build_affine, suits=lambda field, dim: field == "scalar")
