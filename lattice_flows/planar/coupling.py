"""The coupling layer of rectangles: a part moves, given the boundary of the whole."""

import torch
from torch import Tensor, nn

from lattice_flows.groups import Group
from lattice_flows.lattice.paths import follow
from lattice_flows.layers.base import ConjugationMap
from lattice_flows.layers.coupling import LinkCoupling
from lattice_flows.planar.maps import LoopMap, RectangleMap
from lattice_flows.planar.partition import RectanglePartition
from lattice_flows.planar.perceptron import boundary_features


class RectangleCoupling(LinkCoupling):
    """U' = g U on the active link of each rectangle, g = h(Y | W) Y^-1 with Y = W_a W^-s the centred loop.

    A principal power of a covariant loop is covariant. With s = 0, Y is the loop W_a around the first part; with s = 1,
    it is the inverse of the loop around the second part.

    Args:
        group: the gauge group.
        partition: the rectangles.
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
    conjugation: RectangleMap

    def __init__(
        self,
        group: Group,
        partition: RectanglePartition,
        conjugation: RectangleMap | ConjugationMap,
        context: nn.Module,
        centre: float = 0.0,
    ):
        sighted = LoopMap(conjugation) if isinstance(conjugation, ConjugationMap) else conjugation
        super().__init__(group, partition, sighted, context)
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
        if self.conjugation.n_features:
            features = torch.cat((features, self.conjugation.features(loop, boundary)), dim=-1)
        return loop, self.context(features), boundary
