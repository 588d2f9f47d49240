"""Gauge transformations."""

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.lattice.space import GaugeField, gauge_field


def gauge_transform(links: Tensor, V: Tensor, space: GaugeField) -> Tensor:
    """U_mu(x) -> V(x) U_mu(x) V(x+mu)^-1.

    Args:
        V: the gauge function, a loop field `(*batch, *sites, *element)`; its batch axes broadcast.

    Raises:
        InvalidInput: links or gauge function do not fit the space.

    Example:
        >>> import torch
        >>> from lattice_flows import SU, GaugeField
        >>> from lattice_flows.lattice import plaquette
        >>> space, generator = GaugeField(SU(3), (4, 4)), torch.Generator().manual_seed(0)
        >>> links, V = space.prior(2, generator), space.group.haar(4, 4, generator=generator)
        >>> before, after = (plaquette(x, 0, 1, space) for x in (links, gauge_transform(links, V, space)))
        >>> bool(torch.allclose(space.group.retrace(before), space.group.retrace(after), atol=1e-5))
        True
    """
    group, dim = gauge_field(space).group, space.dim
    space.check(links)
    shape = (*space.lattice.extents, *group.element_shape)
    if V.shape[max(0, V.ndim - len(shape)) :] != shape:
        raise InvalidInput(f"the gauge function must be (*batch, {', '.join(map(str, shape))}), got {tuple(V.shape)}")
    axis = dim - space.site_axis  # of the directions, counted from the right
    ahead = torch.stack([torch.roll(V, -1, mu - axis + 1) for mu in range(dim)], dim=-axis)
    return group.compose(group.compose(V.unsqueeze(-axis), links), group.inverse(ahead))
