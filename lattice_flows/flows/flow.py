"""A flow: a prior and layers, with exact samples and exact densities."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, cast

import torch
from torch import Generator, Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.groups.base import Device
from lattice_flows.lattice import Lattice, Space
from lattice_flows.lattice.space import check_space, gauge_field
from lattice_flows.layers.base import Transform, in_turn
from lattice_flows.streams import Streams


class Weighted(NamedTuple):
    """Configurations with the log-density of the model that drew them."""

    x: Tensor
    """`(n, *shape)`."""
    log_q: Tensor
    """`(n,)`."""

    @property
    def links(self) -> Tensor:
        """The configurations of a gauge field."""
        return self.x


class Prior(Protocol):
    """A density r of the configurations that enter a flow."""

    def sample(
        self, n: int, generator: Generator | None = None, dtype: torch.dtype | None = None, device: Device = None
    ) -> Tensor:
        """n independent configurations `(n, *shape)`."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log r `(*batch,)`."""


class Flow(nn.Module):
    """Layers that carry the prior r to the model q: log q(y) = log r(x) - log|dy/dx|.

    Densities are relative to the measure of the space. A flow is a `Proposal` of samplers, with log w = -log q.

    Args:
        space: of the configurations.
        layers: transforms, in the order of sampling.
        prior: the density r. Default: that of the space.
        rebuild: a function from a `Lattice` to a flow with the same names of parameters, for `on`.

    Raises:
        InvalidInput: `space` is none, or no layer has parameters.

    Example:
        >>> from lattice_flows import flows, U1
        >>> flow = flows.stripes(U1(), (8, 8), layers=8, seed=0)
        >>> sample = flow.sample(10, generator=torch.Generator().manual_seed(0))
        >>> sample.links.shape, sample.log_q.shape
        (torch.Size([10, 2, 8, 8]), torch.Size([10]))
        >>> bool(torch.allclose(flow.log_prob(sample.links), sample.log_q, atol=1e-3))
        True
    """

    def __init__(
        self,
        space: Space,
        layers: Iterable[Transform],
        prior: Prior | None = None,
        rebuild: Callable[[Lattice], "Flow"] | None = None,
    ):
        super().__init__()
        self.space = check_space(space, "a flow")
        self.prior = prior
        self.layers = nn.ModuleList(layers)
        self._rebuild = rebuild
        if not any(True for _ in self.parameters()):
            raise InvalidInput("a flow needs at least one layer with parameters")

    @property
    def group(self) -> Group:
        """The gauge group; InvalidInput if the configurations are not links."""
        return gauge_field(self.space).group

    @property
    def lattice(self) -> Lattice:
        """The lattice."""
        return self.space.lattice

    @property
    def n_parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Carry prior configurations x to model configurations y; give y and log|dy/dx| `(*batch,)`."""
        return in_turn(x, self.layers)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Carry model configurations y back to prior configurations x; give x and log|dx/dy| `(*batch,)`."""
        return in_turn(y, (layer.inverse for layer in cast(Iterable[Transform], reversed(self.layers))))

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """n prior configurations, in the precision and on the device of the parameters."""
        like = next(self.parameters())
        draw = self.space.prior if self.prior is None else self.prior.sample
        return draw(n, generator, dtype=like.dtype, device=like.device)

    def log_prior(self, x: Tensor) -> Tensor:
        """log r `(*batch,)`."""
        return self.space.log_prior(x) if self.prior is None else self.prior.log_prob(x)

    def transform(self, x: Tensor) -> Weighted:
        """Model configurations from prior ones, with gradients to the parameters (the reparametrisation trick)."""
        y, logdet = self(x)
        return Weighted(y, self.log_prior(x) - logdet)

    @torch.no_grad()
    def sample(self, n: int, *, generator: Generator | None = None) -> Weighted:
        """n independent samples, in the precision and on the device of the parameters."""
        return self.transform(self.sample_prior(n, generator))

    def log_prob(self, x: Tensor) -> Tensor:
        """log q `(*batch,)` of given configurations."""
        origin, logdet = self.inverse(x)
        return self.log_prior(origin) + logdet

    def draw(self, n: int, streams: Streams) -> tuple[Tensor, Tensor]:
        """n independent samples and log w = -log q, from one stream; else InvalidInput."""
        if not isinstance(streams, Streams):
            raise InvalidInput(
                f"a proposal is drawn from streams, got {streams!r}; flow.sample_prior(n, generator) gives prior "
                "configurations, and flow.sample(n, generator=generator) samples"
            )
        if len(streams) != 1:
            raise InvalidInput(f"a proposal is drawn from one stream, got {len(streams)}: take streams.child(k)")
        x, log_q = self.sample(n, generator=streams.generators()[0])
        return x, -log_q

    @torch.no_grad()
    def log_w(self, x: Tensor) -> Tensor:
        """log w = -log q `(*batch,)` of given configurations, without gradients."""
        return -self.log_prob(x)

    def on(self, lattice: Lattice | Sequence[int]) -> "Flow":
        """A copy of this flow on another lattice, with the same parameters.

        Raises:
            InvalidInput: the flow has no `rebuild`, or its layers do not fit the lattice.

        Example:
            >>> from lattice_flows import U1, flows
            >>> flows.stripes(U1(), (8, 8), layers=8, seed=0).on((8, 12))
            Flow: U(1) on 8x12, 8 layers (GaugeCoupling with SpectralMap(U(1), bins=8)), 29,000 parameters
        """
        if self._rebuild is None:
            raise InvalidInput(
                "a flow that is built from layers stays on its lattice: build it with stripes, checkerboard or "
                "hierarchical, or give Flow(rebuild=...)"
            )
        like, lattice = next(self.parameters()), Lattice(lattice)
        other = self._rebuild(lattice).to(like.device, like.dtype)
        try:
            other.load_state_dict(self.state_dict())
        except RuntimeError:
            raise InvalidInput(f"the parameters on {self.lattice} do not fit the layers on {lattice}") from None
        return other.train(self.training)

    def __repr__(self) -> str:
        facts = self.space.facts
        field = facts.get("group", f"{facts['field']} field")
        maps = [f" with {layer.conjugation}" if hasattr(layer, "conjugation") else "" for layer in self.layers]
        names = [type(layer).__name__ + words for layer, words in zip(self.layers, maps, strict=True)]
        kinds = f"{len(names)} layers ({', '.join(dict.fromkeys(names))})"
        return f"Flow: {field} on {self.lattice}, {kinds}, {self.n_parameters:,} parameters"
