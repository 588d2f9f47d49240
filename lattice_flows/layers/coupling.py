"""The gauge-equivariant coupling layer."""

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import flatten_links, site_axis
from lattice_flows.fields.loops import follow
from lattice_flows.groups import Group
from lattice_flows.layers.base import ConjugationMap, Transform
from lattice_flows.layers.context import boundary_features, frozen_features
from lattice_flows.layers.partition import LinkPartition


class GaugeCoupling(Transform):
    """U' = h(W | context) W^-1 U on the active links, W the loop that closes U (G. Kanwar et al., 2003.06413).

    W turns into h(W), and since W -> V W V^-1 under a gauge transformation while the context does not change, the
    layer commutes with gauge transformations. Only active links are computed. The log-determinant is that of h,
    because Haar measure is invariant under U -> W.

    Where the partition has boundaries B, the loop can be centred: W B^-s moves as W did. A principal power of a
    covariant loop is covariant, and s = 1 is the loop around the rest of the rectangle.

    Args:
        group: the gauge group.
        partition: active links, their loops, and the frozen loops.
        conjugation: the map h, such as `PhaseMap` for U(1) or `SpectralMap` for SU(N).
        context: any module that turns features `(*batch, channels, *sites)` of frozen loops into parameters, either
            `(*batch, n_params, *sites)` or, for the active links alone, `(*batch, n_active, n_params)`. The number of
            channels is `lattice_flows.layers.n_frozen_features(partition, group)`. Where the partition has boundaries,
            the features are `(*batch, n_active, channels)`, `n_boundary_features(group)` of the boundary and then
            those of the map.
        centre: the power s of the boundary.

    Raises:
        InvalidInput: a centre, or a map that sees the boundary, without boundaries; or links of other shapes.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> from lattice_flows.layers import LinkPartition, SpectralMap, n_frozen_features
        >>> group, generator = SU(2), torch.Generator().manual_seed(0)
        >>> partition, spectral_map = LinkPartition.stripes((8, 8), mu=0, offset=1), SpectralMap(group, bins=4)
        >>> channels = n_frozen_features(partition, group), spectral_map.n_params
        >>> net = torch.nn.Conv2d(*channels, 3, padding="same", padding_mode="circular")
        >>> links = group.haar(10, 2, 8, 8, generator=generator)
        >>> y, logdet = GaugeCoupling(group, partition, spectral_map, net)(links)
        >>> y.shape, logdet.shape
        (torch.Size([10, 2, 8, 8, 2, 2]), torch.Size([10]))
    """

    def __init__(
        self,
        group: Group,
        partition: LinkPartition,
        conjugation: ConjugationMap,
        context: nn.Module,
        centre: float = 0.0,
    ):
        super().__init__()
        if partition.boundary is None and (centre or conjugation.sees_boundary):
            raise InvalidInput(
                f"centre = {centre} and {conjugation} need a partition with boundaries, as LinkPartition.rectangles has"
            )
        self.group = group
        self.partition = partition
        self.conjugation = conjugation
        self.context = context
        self.centre = centre

    def on(self, partition: LinkPartition) -> "GaugeCoupling":
        """This layer on another partition, with the same map, context and parameters."""
        return GaugeCoupling(self.group, partition, self.conjugation, self.context, self.centre)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(x, self.conjugation.forward)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(y, self.conjugation.inverse)

    def _move(self, links: Tensor, conjugation) -> tuple[Tensor, Tensor]:
        group, partition = self.group, self.partition
        dim, axis = partition.dim, site_axis(group)
        lattice = links.shape[links.ndim - len(group.element_shape) - dim - 1 :]
        fits = links.is_complex() if group.element_shape else links.is_floating_point()
        if not fits or lattice != (dim, *partition.sites, *group.element_shape):
            raise InvalidInput(
                f"this layer acts on {group} links (*batch, {dim}, {', '.join(map(str, partition.sites))}"
                f"{', N, N), complex' if group.element_shape else '), angles'}; got {links.dtype} {tuple(links.shape)}"
            )
        flat = flatten_links(links, group, dim)
        loop = follow(flat, partition.active_loops, group)
        if partition.boundary is None:
            g, logdet = conjugation(loop, self._params(frozen_features(flat, partition, group)))
        else:
            boundary = follow(flat, partition.boundary_loops, group)
            if self.centre:
                loop = group.compose(loop, group.inverse(group.power(boundary, self.centre)))
            features = boundary_features(boundary, group)
            if self.conjugation.n_features:
                features = torch.cat((features, self.conjugation.features(loop, boundary)), dim=-1)
            params = self._params(features)
            g, logdet = conjugation(loop, params, *([boundary] if self.conjugation.sees_boundary else []))
        active = group.compose(g, flat.index_select(axis, partition.active_links))
        return flat.index_copy(axis, partition.active_links, active).reshape(links.shape), logdet.sum(-1)

    def _params(self, features: Tensor) -> Tensor:
        partition, params = self.partition, self.context(features)
        if partition.boundary is None and params.ndim == features.ndim:
            params = params.flatten(-partition.dim).index_select(-1, partition.active_sites).mT
        if params.shape[-2:] != (partition.n_active, self.conjugation.n_params):
            raise InvalidInput(
                f"the context must give {self.conjugation.n_params} parameters a site, or ({partition.n_active}, "
                f"{self.conjugation.n_params}) for the active links, got shape {tuple(params.shape)}"
            )
        return params
