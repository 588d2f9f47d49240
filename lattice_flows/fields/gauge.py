"""Gauge transformations."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.fields.layout import extents, infer_dim
from lattice_flows.groups import Group


def gauge_transform(links: Tensor, V: Tensor, group: Group, *, dim: int | None = None) -> Tensor:
    """U_mu(x) -> V(x) U_mu(x) V(x+mu)^-1.

    Args:
        links: the links (see `lattice_flows.fields.layout`).
        V: the gauge function, a loop field `(*batch, *sites, *element)`; its batch axes broadcast.

    Raises:
        InvalidInput: the two fields lie on different lattices.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> from lattice_flows.fields import plaquette
        >>> group, generator = SU(3), torch.Generator().manual_seed(0)
        >>> links, V = group.haar(2, 4, 4, generator=generator), group.haar(4, 4, generator=generator)
        >>> before, after = plaquette(links, 0, 1, group), plaquette(gauge_transform(links, V, group), 0, 1, group)
        >>> bool(torch.allclose(group.retrace(before), group.retrace(after), atol=1e-5))
        True
    """
    dim = infer_dim(links, group, dim)
    e = len(group.element_shape)
    sites = extents(links, group, dim)
    if V.shape[V.ndim - dim - e :] != (*sites, *group.element_shape):
        raise InvalidInput(
            f"the gauge function must be (*batch, {', '.join(map(str, sites))}, *{group.element_shape}) "
            f"for these links, got shape {tuple(V.shape)}"
        )
    ahead = torch.stack([torch.roll(V, -1, mu - dim - e) for mu in range(dim)], dim=-1 - dim - e)
    return group.compose(group.compose(V.unsqueeze(-1 - dim - e), links), group.inverse(ahead))
