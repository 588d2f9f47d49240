"""A flow: a prior and layers, with exact samples and exact densities."""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.flows.prior import HaarPrior
from lattice_flows.groups import Group
from lattice_flows.layers.base import Transform, in_turn
from lattice_flows.layers.perceptron import Coupling


class Weighted(NamedTuple):
    """Links with the log-density of the model that drew them."""

    links: Tensor
    log_q: Tensor


class Flow(nn.Module):
    """Layers that carry the prior r to the model q: log q(y) = log r(x) - log|dy/dx|, relative to the Haar measure.

    Args:
        prior: the density of the links that the first layer is given.
        layers: transforms, in the order in which they act on a sample.

    Example:
        >>> import torch
        >>> from lattice_flows import flows, U1
        >>> flow = flows.stripes(U1(), (8, 8), layers=8, seed=0)
        >>> sample = flow.sample(10, generator=torch.Generator().manual_seed(0))
        >>> sample.links.shape, sample.log_q.shape
        (torch.Size([10, 2, 8, 8]), torch.Size([10]))
        >>> bool(torch.allclose(flow.log_prob(sample.links), sample.log_q, atol=1e-3))
        True
    """

    def __init__(self, prior: HaarPrior, layers: Iterable[Transform]):
        super().__init__()
        self.prior = prior
        self.layers = nn.ModuleList(layers)
        if not any(True for _ in self.parameters()):
            raise InvalidInput("a flow needs at least one layer with parameters")

    @property
    def group(self) -> Group:
        """The gauge group."""
        return self.prior.group

    @property
    def sites(self) -> tuple[int, ...]:
        """The extents of the lattice."""
        return self.prior.sites

    @property
    def coupling(self) -> Coupling | None:
        """The coupling that the flow is asked for, where its contexts see one."""
        return next((module for module in self.modules() if isinstance(module, Coupling)), None)

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _transforms(self) -> list[Transform]:
        return cast(list[Transform], list(self.layers))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Prior links x to model links y, with log|dy/dx| `(*batch,)`."""
        return in_turn(x, self._transforms())

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Model links y to prior links x, with log|dx/dy| `(*batch,)`."""
        return in_turn(y, [layer.inverse for layer in reversed(self._transforms())])

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n sets of prior links, in the precision and on the device of the parameters."""
        like = next(self.parameters())
        return self.prior.sample(n, generator, dtype=like.dtype, device=like.device)

    def push(self, x: Tensor) -> Weighted:
        """What prior links become, with gradients to the parameters (the reparametrisation trick)."""
        y, logdet = self(x)
        return Weighted(y, self.prior.log_prob(x) - logdet)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Weighted:
        """n independent samples: `.links` and `.log_q`, in the precision and on the device of the parameters."""
        return self.push(self.draw(n, generator))

    def log_prob(self, links: Tensor) -> Tensor:
        """log q `(*batch,)` of given links."""
        x, logdet = self.inverse(links)
        return self.prior.log_prob(x) + logdet

    def __repr__(self) -> str:
        extents = "x".join(map(str, self.sites))
        kinds = ", ".join(dict.fromkeys(map(_describe, self._transforms())))
        return f"Flow: {self.group} on {extents}, {len(self.layers)} layers ({kinds}), {self.n_parameters:,} parameters"


def _describe(layer: Transform) -> str:
    conjugation = getattr(layer, "conjugation", None)
    return type(layer).__name__ + (f" with {conjugation}" if conjugation is not None else "")
