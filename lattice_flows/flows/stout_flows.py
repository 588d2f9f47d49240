"""Flows of stout couplings: masked steps of stout smearing, in any dimension."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lattice_flows.actions import Action
from lattice_flows.config.rules import Settings
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow
from lattice_flows.flows.recipe import Layers, Recipe, check_size, keywords
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField, Lattice, Space
from lattice_flows.lattice.space import gauge_field
from lattice_flows.layers.stout import StoutCoupling


def stout(
    group: Group,
    lattice: Lattice | Sequence[int],
    *,
    sweeps: int = 8,
    rho: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Flow:
    """Sweeps of stout couplings: each moves every link once, one direction and one colour after the other.

    With rho = 0 the flow is the identity at first. Its parameters fit any lattice with as many colours. As a layer of
    `lattice_flows.sampling.Annealing` it makes a stochastic flow.

    Source: A. Bulgarelli, E. Cellini, A. Nada, 2412.00200.

    Args:
        lattice: a `Lattice`, or its extents.
        sweeps: their number.
        rho: the coefficient of all staples at first.
        dtype: float32 or float64. Default: torch's.

    Raises:
        InvalidInput: numbers out of range.

    Example:
        >>> from lattice_flows import SU
        >>> stout(SU(3), (4, 4, 4, 4), sweeps=2)
        Flow: SU(3) on 4x4x4x4, 16 layers (StoutCoupling), 48 parameters
    """
    if isinstance(sweeps, bool) or not isinstance(sweeps, int) or sweeps < 1:
        raise InvalidInput(f"sweeps must be an integer >= 1, got {sweeps!r}")
    space = GaugeField(group, lattice)
    masks = [(mu, colour) for mu in range(space.dim) for colour in range(space.lattice.n_colours(mu))]
    layers = [StoutCoupling(space, *mask, rho=rho, dtype=dtype) for mask in sweeps * masks]
    return Flow(space, layers, rebuild=functools.partial(stout, group, sweeps=sweeps, dtype=dtype))


@dataclass(frozen=True, kw_only=True)
class StoutSettings(Settings):
    """The number of sweeps, each of which moves every link once."""

    sweeps: Layers = 8

    def check(self, config: Any) -> None:
        """Refuse a flow that no machine has the memory for, by InvalidInput."""
        super().check(config)
        check_size(config.lattice.extents, self.sweeps, ())


def _build(space: Space, settings: StoutSettings, action: Action | None = None, *, seed=None, dtype=None) -> Flow:
    space = gauge_field(space)
    return stout(space.group, space.lattice, **keywords(settings, StoutSettings), dtype=dtype)


STOUT = Recipe(StoutSettings, _build, suits=lambda field, dim: False)
