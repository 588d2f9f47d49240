"""The gauge-equivariant coupling layer."""

from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import flatten_links, site_axis
from lattice_flows.fields.loops import follow
from lattice_flows.groups import Group
from lattice_flows.layers.base import ConjugationMap, Transform
from lattice_flows.layers.context import frozen_features
from lattice_flows.layers.partition import LinkPartition


class GaugeCoupling(Transform):
    """U' = h(W | context) W^-1 U on the active links, W the loop that closes U (G. Kanwar et al., 2003.06413).

    W turns into h(W), and since W -> V W V^-1 under a gauge transformation while the context does not change, the
    layer commutes with gauge transformations. Only active links are computed. The log-determinant is that of h,
    because Haar measure is invariant under U -> W.

    Args:
        group: the gauge group.
        partition: active links, their loops, and the frozen loops.
        conjugation: the map h, `PhaseMap` for U(1) or `SpectralMap` for SU(N).
        context: any module that turns features `(*batch, channels, *sites)` of frozen loops into parameters, either
            `(*batch, n_params, *sites)` or, for the active links alone, `(*batch, n_active, n_params)`. The number of
            channels is `lattice_flows.layers.n_frozen_features(partition, group)`.

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

    def __init__(self, group: Group, partition: LinkPartition, conjugation: ConjugationMap, context: nn.Module):
        super().__init__()
        self.group = group
        self.partition = partition
        self.conjugation = conjugation
        self.context = context

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(x, self.conjugation.forward)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(y, self.conjugation.inverse)

    def _move(self, links: Tensor, conjugation) -> tuple[Tensor, Tensor]:
        group, partition = self.group, self.partition
        dim, axis = partition.dim, site_axis(group)
        lattice = links.shape[links.ndim - len(group.element_shape) - dim - 1 :]
        if lattice != (dim, *partition.sites, *group.element_shape):
            raise InvalidInput(
                f"this layer acts on {group} links (*batch, {dim}, {', '.join(map(str, partition.sites))}"
                f"{', N, N' if group.element_shape else ''}), got shape {tuple(links.shape)}"
            )
        flat = flatten_links(links, group, dim)
        params = self._params(flat)
        g, logdet = conjugation(follow(flat, partition.active_loops, group), params)
        active = group.compose(g, flat.index_select(axis, partition.active_links))
        return flat.index_copy(axis, partition.active_links, active).reshape(links.shape), logdet.sum(-1)

    def _params(self, flat: Tensor) -> Tensor:
        features = frozen_features(flat, self.partition, self.group)
        params = self.context(features)
        if params.ndim == features.ndim:
            params = params.flatten(-self.partition.dim).index_select(-1, self.partition.active_sites).mT
        if params.shape[-2:] != (self.partition.n_active, self.conjugation.n_params):
            raise InvalidInput(
                f"the context must give {self.conjugation.n_params} parameters a site, or ({self.partition.n_active}, "
                f"{self.conjugation.n_params}) for the active links, got shape {tuple(params.shape)}"
            )
        return params
