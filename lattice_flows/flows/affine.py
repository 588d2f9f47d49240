"""Flows of a scalar field: a free field, then affine couplings."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from lattice_flows.actions import Action
from lattice_flows.config.rules import Rule, Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.recipe import Layers, Recipe, Widths, check_size
from lattice_flows.flows.seeding import seeded
from lattice_flows.lattice import Lattice, ScalarField, Space
from lattice_flows.layers.affine import AffineCoupling
from lattice_flows.layers.base import Transform
from lattice_flows.layers.free_field import FreeField


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
        lattice: a `Lattice` of 2, 3 or 4 dimensions, or its extents.
        layers: the number of couplings; two move every site once, or three where an extent is odd.
        hidden: channels of the convolution in each coupling, then widths of the layers after it.
        kernel_size: the odd extent of the convolution.
        seed: of the initial weights. Default: torch's global stream.
        dtype: float32 or float64. Default: torch's.

    Raises:
        InvalidInput: numbers out of range.

    Example:
        >>> affine((6, 6), layers=8, hidden=(16, 16), seed=0)
        Flow: scalar field on 6x6, 9 layers (FreeField, AffineCoupling), 3,854 parameters
    """
    lattice = Lattice(lattice)
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise InvalidInput(f"layers must be an integer >= 1, got {layers!r}")
    colours = int(lattice.colours().max()) + 1
    same = functools.partial(affine, layers=layers, hidden=hidden, kernel_size=kernel_size, seed=0)
    with seeded(seed):
        couplings = [AffineCoupling(lattice, k % colours, hidden, kernel_size) for k in range(layers)]
    transforms: list[Transform] = [FreeField(lattice), *couplings]
    return Flow(ScalarField(lattice), transforms, rebuild=functools.partial(_on, same, colours)).to(dtype)


def _on(same, colours: int, lattice: Lattice) -> Flow:
    """The flow on another lattice, whose layers move as many colours."""
    if int(lattice.colours().max()) + 1 != colours:
        raise InvalidInput(
            f"a flow whose couplings move {colours} colours in turn does not fit {lattice}: a lattice has 2 colours "
            "where all extents are even, else 3; train on this lattice"
        )
    return same(lattice)


@dataclass(frozen=True, kw_only=True)
class AffineSettings(Settings):
    """The number of couplings; the widths of the network in each and the odd extent of its convolution."""

    layers: Layers = 8
    hidden: Widths = (16, 16)
    kernel_size: Annotated[int, Rule("odd, from 3 to 99", lambda v: 3 <= v <= 99 and v % 2 == 1)] = 5

    def check(self, config: Any) -> None:
        """Refuse a flow that no machine has the memory for, by InvalidInput."""
        super().check(config)
        check_size(config.lattice.extents, self.layers, self.hidden, self.kernel_size)


def _build(
    space: Space,
    settings: AffineSettings,
    action: Action | None = None,
    *,
    seed: int | None = None,
    dtype: torch.dtype | None = None,
) -> Flow:
    if not isinstance(space, ScalarField):
        raise InvalidInput(f"affine couplings move a scalar field, got {space}; take stripes or checkerboard")
    return affine(
        space.lattice,
        layers=settings.layers,
        hidden=settings.hidden,
        kernel_size=settings.kernel_size,
        seed=seed,
        dtype=dtype,
    )


AFFINE = Recipe(AffineSettings, _build, suits=lambda field, dim: field == "scalar")
