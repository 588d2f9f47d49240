"""Context: gauge-invariant features of frozen loops, and networks from these features to parameters."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.kernels import periodic_conv
from lattice_flows.lattice.paths import Walk, follow
from lattice_flows.layers.partition import LinkPartition


def n_frozen_features(partition: LinkPartition, group: Group) -> int:
    """The number of channels of `frozen_features`."""
    return len(partition.frozen_paths) * group.n_class_features


def frozen_features(flat_links: Tensor, partition: LinkPartition, group: Group) -> Tensor:
    """The class features `(*batch, channels, *sites)` of frozen loops, where they begin; 0 elsewhere.

    Shapes: flat_links `(*batch, dim * V, *element)`.
    """
    lattice, channels = partition.lattice, {}
    alike: dict[tuple[bool, ...], list[int]] = {}  # loops of the same orientations, whose products are one call
    for k, (walk, _) in enumerate(loops := partition.frozen_loops()):
        alike.setdefault(walk.forward, []).append(k)
    for forward, places in alike.items():
        walks = Walk(torch.cat([loops[k][0].links for k in places], dim=1), forward)
        features = group.class_features(follow(flat_links, walks, group)).mT
        parts = features.split([len(loops[k][1]) for k in places], dim=-1)
        channels.update({k: _laid(part, loops[k][1], lattice.volume) for k, part in zip(places, parts, strict=True)})
    if not channels:
        batch = flat_links.shape[: flat_links.ndim - 1 - len(group.element_shape)]
        return flat_links.real.new_zeros(*batch, 0, *lattice.extents)
    return torch.cat([channels[k] for k in range(len(loops))], dim=-2).unflatten(-1, lattice.extents)


def _laid(features: Tensor, sites: Tensor, volume: int) -> Tensor:
    """Features `(*batch, channels, n)` at their sites of a lattice, and 0 elsewhere."""
    if len(sites) == volume:  # they are in order
        return features
    return features.new_zeros(*features.shape[:-1], volume).index_copy(-1, sites, features)


class PeriodicConv(nn.Module):
    """A convolution on a periodic lattice of 2, 3 or 4 dimensions, `(*batch, channels, *sites)`.

    The weights start as torch's do; in four dimensions every place along the first axis starts as three-dimensional.

    Args:
        kernel_size: the odd extent of the kernel in every direction.

    Example:
        >>> PeriodicConv(4, 2, 3, kernel_size=3)(torch.zeros(5, 2, 4, 4, 4, 6)).shape
        torch.Size([5, 3, 4, 4, 4, 6])
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InvalidInput(f"kernel_size must be odd, got {kernel_size}")
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *[kernel_size] * dim))
        self.bias = nn.Parameter(torch.empty(out_channels))
        largest = (in_channels * kernel_size ** min(dim, 3)) ** -0.5
        nn.init.uniform_(self.weight, -largest, largest)
        nn.init.uniform_(self.bias, -largest, largest)

    def forward(self, x: Tensor) -> Tensor:
        lead, sites = x.shape[: -1 - self.dim], x.shape[-self.dim :]
        y = periodic_conv(x.reshape(-1, *x.shape[-1 - self.dim :]), self.weight)
        return (y + self.bias.reshape(-1, *[1] * self.dim)).reshape(*lead, len(self.weight), *sites)


class ConvContext(nn.Module):
    """Periodic convolutions on features of frozen loops, then one linear map at the active sites alone.

    Args:
        partition: its frozen loops give the features, its active sites get the parameters.
        n_params: parameters per active link.
        hidden, kernel_size: the channels of the convolutions, and their odd extent.
    """

    active_sites: Tensor

    def __init__(
        self, partition: LinkPartition, group: Group, n_params: int, hidden: Sequence[int] = (16, 16), kernel_size=3
    ):
        super().__init__()
        channels = [n_frozen_features(partition, group), *hidden]
        if min(channels) < 1:
            raise InvalidInput(f"a context needs frozen loops and hidden channels >= 1, got channels {channels}")
        self.dim = partition.dim
        self.convs = nn.ModuleList(
            PeriodicConv(partition.dim, before, after, kernel_size) for before, after in itertools.pairwise(channels)
        )
        self.head = nn.Linear(channels[-1], n_params)
        # The layer starts near the identity, but not on it: at 0 the convolutions would have no gradient.
        nn.init.normal_(self.head.weight, std=0.4 / channels[-1] ** 0.5)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("active_sites", partition.active_sites, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Parameters `(*batch, n_active, n_params)` from features `(*batch, channels, *sites)`."""
        for conv in self.convs:
            features = functional.silu(conv(features))
        return self.head(features.flatten(-self.dim).index_select(-1, self.active_sites).mT)
