"""The coupling layer of rectangles, where a part moves, given the boundary of the whole; the interface of its maps."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lattice_flows.groups import Group
from lattice_flows.lattice.paths import follow
from lattice_flows.layers.base import ConjugationMap
from lattice_flows.layers.coupling import LinkCoupling
from lattice_flows.planar.partition import RectanglePartition
from lattice_flows.planar.perceptron import boundary_features


class RectangleMap(nn.Module):
    """An invertible map h of a loop W_a, given the frozen loop W around the rectangle, that is covariant in both,

        h(V W_a V^-1 | p, V W V^-1) = V h(W_a | p, W) V^-1   for every V in the group.

    Shapes and parameters are those of `ConjugationMap`. The parameters may depend on W and on `features`.

    To add one, implement `forward` and `inverse`, set `n_params`, and run `assert_conjugation_map` on it with a
    boundary. A map with `n_features` > 0 implements `features`, too.
    """

    n_params: int
    n_features: int = 0

    @abstractmethod
    def forward(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """h(W_a) W_a^-1 and log|dh/dW_a|."""

    @abstractmethod
    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """h^-1(W_a) W_a^-1 and log|dh^-1/dW_a|."""

    def features(self, loop: Tensor, boundary: Tensor) -> Tensor:
        """Invariants `(..., n_features)` of both loops, which the map does not change."""
        raise NotImplementedError


class RectangleCoupling(LinkCoupling):
    """U' = g U on the active link of each rectangle, g = h(Y | W) Y^-1 with Y = W_a W^-s the centred loop.

    A principal power of a covariant loop is covariant. With s = 0, Y is the loop W_a around the first part; with s = 1,
    it is the inverse of the loop around the second part.

    Args:
        group, partition: the gauge group and the rectangles.
        conjugation: the map h, a `RectangleMap`, or a `ConjugationMap` that does not look at the boundary.
        context: any module that turns features `(*batch, n_active, channels)` into parameters
            `(*batch, n_active, n_params)`. The channels are the `n_boundary_features(group)` of W, then those of h.
        centre: the power s.

    Raises:
        InvalidInput: links of another group or lattice, or parameters of another shape.

    Example:
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.planar.perceptron import BoundaryContext
        >>> from lattice_flows.planar.residual import ResidualMap
        >>> group, residual = SU(2), ResidualMap(SU(2))
        >>> context = BoundaryContext(group, residual.n_params)
        >>> coupling = RectangleCoupling(group, RectanglePartition((8, 8), (1, 2)), residual, context, centre=0.5)
        >>> coupling(GaugeField(group, (8, 8)).prior(10))[1].shape
        torch.Size([10])
    """

    partition: RectanglePartition
    conjugation: RectangleMap | ConjugationMap

    def __init__(
        self,
        group: Group,
        partition: RectanglePartition,
        conjugation: RectangleMap | ConjugationMap,
        context: nn.Module,
        centre: float = 0.0,
    ):
        super().__init__(group, partition, conjugation, context)
        self.centre = centre

    def on(self, partition: RectanglePartition) -> "RectangleCoupling":
        """This layer on another partition, with the same map, context and parameters."""
        return RectangleCoupling(self.group, partition, self.conjugation, self.context, self.centre)

    def arguments(self, flat: Tensor, loop: Tensor) -> tuple[Tensor, ...]:
        group = self.group
        boundary = follow(flat, self.partition.boundary_loops, group)
        if self.centre:
            loop = group.compose(loop, group.inverse(group.power(boundary, self.centre)))
        features = boundary_features(boundary, group)
        if isinstance(self.conjugation, ConjugationMap):
            return loop, self.context(features)
        if self.conjugation.n_features:
            features = torch.cat((features, self.conjugation.features(loop, boundary)), dim=-1)
        return loop, self.context(features), boundary
