"""Coupling layers: the links of a partition move, each as a function of the loop that closes it."""

from abc import abstractmethod

from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField
from lattice_flows.lattice.paths import follow
from lattice_flows.layers.base import Transform
from lattice_flows.layers.context import frozen_features
from lattice_flows.layers.partition import LinkPartition


class LinkCoupling(Transform):
    """U' = g U on the active links U of a partition, g the factor that a map gives for the loop W that closes U.

    Haar measure is invariant under U -> W: the log-determinant is the sum of those of the map. To add a coupling,
    implement `arguments`.

    Args:
        partition: active links and their loops.
        conjugation: the map, a module with `n_params`, `forward` and `inverse`; both give g and the log-determinant.
        context: a module that makes the parameters of the map.
    """

    def __init__(self, group: Group, partition: LinkPartition, conjugation: nn.Module, context: nn.Module):
        super().__init__()
        self.space = GaugeField(group, partition.lattice)
        self.partition = partition
        self.conjugation = conjugation
        self.context = context

    @property
    def group(self) -> Group:
        """The gauge group."""
        return self.space.group

    @abstractmethod
    def arguments(self, flat: Tensor, loop: Tensor) -> tuple[Tensor, ...]:
        """The arguments of the map: the loop to move, the parameters `(*batch, n_active, n_params)`, and any others.

        They come from links `(*batch, dim * V, *element)` and the loops W of the active ones
        `(*batch, n_active, *element)`. Only the first may depend on active links.
        """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(x, self.conjugation.forward)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._move(y, self.conjugation.inverse)

    def _move(self, links: Tensor, conjugation) -> tuple[Tensor, Tensor]:
        group, active, axis = self.group, self.partition.active_links, self.space.site_axis
        flat = self.space.flatten(self.space.check(links))
        loop, params, *others = self.arguments(flat, follow(flat, self.partition.active_loops, group))
        wanted = (self.partition.n_active, self.conjugation.n_params)
        if params.shape[-2:] != wanted:
            raise InvalidInput(
                f"the context must give {wanted[1]} parameters a site, or {wanted} for the active links, "
                f"got shape {tuple(params.shape)}"
            )
        g, logdet = conjugation(loop, params, *others)
        moved = group.compose(g, flat.index_select(axis, active))
        return flat.index_copy(axis, active, moved).reshape(links.shape), logdet.sum(-1)


class GaugeCoupling(LinkCoupling):
    """U' = h(W | context) W^-1 U on the active links, W the loop that closes U (G. Kanwar et al., 2003.06413).

    W turns into h(W). A gauge transformation takes W to V W V^-1 and leaves the context as it is, so that the layer
    commutes with it.

    Args:
        conjugation: the map h, a `ConjugationMap` such as `SpectralMap`.
        context: any module that turns `frozen_features` `(*batch, channels, *sites)` into parameters
            `(*batch, n_params, *sites)` or, for the active links alone, `(*batch, n_active, n_params)`.

    Raises:
        InvalidInput: links of another group or lattice, or parameters of another shape.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.layers import LinkPartition, SpectralMap, n_frozen_features
        >>> group, generator = SU(2), torch.Generator().manual_seed(0)
        >>> partition, spectral_map = LinkPartition.stripes((8, 8), mu=0, offset=1), SpectralMap(group, bins=4)
        >>> channels = n_frozen_features(partition, group), spectral_map.n_params
        >>> net = torch.nn.Conv2d(*channels, 3, padding="same", padding_mode="circular")
        >>> links = GaugeField(group, (8, 8)).prior(10, generator)
        >>> y, logdet = GaugeCoupling(group, partition, spectral_map, net)(links)
        >>> y.shape, logdet.shape
        (torch.Size([10, 2, 8, 8, 2, 2]), torch.Size([10]))
    """

    def arguments(self, flat: Tensor, loop: Tensor) -> tuple[Tensor, ...]:
        features = frozen_features(flat, self.partition, self.group)
        params = self.context(features)
        if params.ndim == features.ndim:
            params = params.flatten(-self.partition.dim).index_select(-1, self.partition.active_sites).mT
        return loop, params
