"""The prior of a flow."""

import torch
from torch import Tensor

from lattice_flows.fields.layout import check_sites
from lattice_flows.groups import Group


class HaarPrior:
    """Independent Haar links: the strong-coupling limit, with log-density 0.

    Example:
        >>> import torch
        >>> from lattice_flows import SU
        >>> HaarPrior(SU(3), (4, 6)).sample(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2, 4, 6, 3, 3])
    """

    def __init__(self, group: Group, sites):
        self.group = group
        self.sites = check_sites(sites)

    @property
    def dim(self) -> int:
        """The lattice dimension."""
        return len(self.sites)

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Links `(n, dim, *sites, *element)`."""
        return self.group.haar(n, self.dim, *self.sites, generator=generator, dtype=dtype, device=device)

    def log_prob(self, links: Tensor) -> Tensor:
        """Zeros `(*batch,)`."""
        batch = links.shape[: links.ndim - len(self.group.element_shape) - self.dim - 1]
        return links.real.new_zeros(batch)

    def __repr__(self) -> str:
        return f"HaarPrior({self.group}, {'x'.join(map(str, self.sites))})"
