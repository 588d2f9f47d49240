"""The context of rectangles: a perceptron on the class of a boundary."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.layers.context import n_boundary_features


class BoundaryContext(nn.Module):
    """A perceptron from the features of boundaries to parameters, 0 at first: a layer with it starts as the identity.

    The last layer sees the features beside the hidden units: cutting two plaquettes of U(1) takes no more than that.

    Args:
        group: the gauge group.
        n_params: parameters per active link.
        hidden: the widths of the hidden layers.
        coupling: a `Coupling` that the perceptron sees beside the features.
        n_features: how many features it sees beside those of the boundary, of a map.

    Example:
        >>> from lattice_flows import SU
        >>> context = BoundaryContext(SU(3), n_params=10, hidden=(32, 32))
        >>> context(torch.zeros(5, 7, n_boundary_features(SU(3)))).shape
        torch.Size([5, 7, 10])
    """

    def __init__(
        self,
        group: Group,
        n_params: int,
        hidden: Sequence[int] = (32, 32),
        coupling: "Coupling | None" = None,
        n_features: int = 0,
    ):
        super().__init__()
        widths = [n_boundary_features(group) + n_features + (coupling is not None), *hidden]
        if len(widths) < 2 or min(widths) < 1:
            raise InvalidInput(f"a perceptron needs hidden layers of widths >= 1, got {tuple(hidden)}")
        self.coupling = coupling
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] + widths[0], n_params)
        self.reset()

    def reset(self) -> None:
        """Parameters 0 for every boundary."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Parameters `(*batch, n_active, n_params)` from features `(*batch, n_active, channels)`."""
        if self.coupling is not None:
            scaled = self.coupling.scaled.to(features.dtype)
            features = torch.cat((features, scaled.expand(*features.shape[:-1], 1)), dim=-1)
        return self.head(torch.cat((self.body(features), features), dim=-1))


class Coupling(nn.Module):
    """The coupling beta that a flow is asked for, one value for all contexts that share this module.

    Args:
        low, high: the range of couplings that the flow is made for.

    Raises:
        InvalidInput: not 0 < low < high.
    """

    beta: Tensor

    def __init__(self, low: float, high: float):
        super().__init__()
        if not 0 < low < high:
            raise InvalidInput(f"a range of couplings needs 0 < low < high, got {low}, {high}")
        self.low, self.high = low, high
        self.register_buffer("beta", torch.tensor((low + high) / 2, dtype=torch.float64), persistent=False)

    def set(self, beta: float) -> None:
        """Ask for this coupling from now on.

        Raises:
            InvalidInput: it is outside the range.
        """
        if not self.low <= beta <= self.high:
            raise InvalidInput(f"beta must be from {self.low} to {self.high} for this flow, got {beta}")
        self.beta.fill_(beta)

    @property
    def scaled(self) -> Tensor:
        """-1 at the lowest and 1 at the highest coupling."""
        return (2 * self.beta - self.low - self.high) / (self.high - self.low)

    def extra_repr(self) -> str:
        return f"{self.low} <= beta <= {self.high}"
