"""The context of rectangles: features of a boundary, a perceptron on them, and the beta that it may see."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group


def n_boundary_features(group: Group) -> int:
    """The number of channels of `boundary_features`."""
    return 4 * max(1, group.n - 1)


def boundary_features(boundary: Tensor, group: Group) -> Tensor:
    """Re and Im of tr W^(k/2) / N `(..., channels)` for k = 1 ... 2 max(1, N - 1), from loops W `(..., *element)`.

    They determine the class of W. Half powers jump where the principal root W^(1/2) does, and so may a function of a
    loop that this root centres.

    Example:
        >>> from lattice_flows import SU
        >>> boundary_features(SU(3).identity(5), SU(3)).shape
        torch.Size([5, 8])
    """
    phases, _ = group.eigenphases(boundary)
    k = torch.arange(1, n_boundary_features(group) // 2 + 1, dtype=phases.dtype, device=phases.device) / 2
    angles = phases.unsqueeze(-1) * k
    return torch.cat((angles.cos().mean(-2), angles.sin().mean(-2)), dim=-1)


class BoundaryContext(nn.Module):
    """A perceptron from the features of boundaries to parameters, which are 0 at first.

    The last layer also sees the features themselves. A cut of two plaquettes of U(1) needs no more.

    Args:
        group, n_params: the gauge group, and the number of parameters per active link.
        hidden: the widths of the hidden layers.
        beta_input, n_features: the `BetaInput`, and the number of features of the map, that the perceptron sees, too.

    Raises:
        InvalidInput: no hidden layer, or a width below 1.

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
        beta_input: "BetaInput | None" = None,
        n_features: int = 0,
    ):
        super().__init__()
        widths = [n_boundary_features(group) + n_features + (beta_input is not None), *hidden]
        if len(widths) < 2 or min(widths) < 1:
            raise InvalidInput(f"a perceptron needs hidden layers of widths >= 1, got {tuple(hidden)}")
        self.beta_input = beta_input
        steps = itertools.pairwise(widths)
        self.body = nn.Sequential(*(layer for step in steps for layer in (nn.Linear(*step), nn.SiLU())))
        self.head = nn.Linear(widths[-1] + widths[0], n_params)
        self.reset()

    def reset(self) -> None:
        """Make all parameters 0 for every boundary."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Parameters `(*batch, n_active, n_params)` from features `(*batch, n_active, channels)`."""
        if self.beta_input is not None:
            scaled = self.beta_input.scaled.to(features.dtype)
            features = torch.cat((features, scaled.expand(*features.shape[:-1], 1)), dim=-1)
        return self.head(torch.cat((self.body(features), features), dim=-1))


class BetaInput(nn.Module):
    """The coupling beta, from `low` to `high`, that the contexts of a flow see; they share this module.

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

    @classmethod
    def of(cls, module: nn.Module) -> "BetaInput | None":
        """The input that the contexts in a module share, or None where they see no beta."""
        return next((part for part in module.modules() if isinstance(part, cls)), None)

    def set(self, beta: float) -> None:
        """Take this coupling from now on; refuse one outside the range by InvalidInput."""
        if not self.low <= beta <= self.high:
            raise InvalidInput(f"beta must be from {self.low} to {self.high} for this flow, got {beta}")
        self.beta.fill_(beta)

    @property
    def scaled(self) -> Tensor:
        """-1 at the lowest and 1 at the highest coupling."""
        return (2 * self.beta - self.low - self.high) / (self.high - self.low)

    def extra_repr(self) -> str:
        return f"{self.low} <= beta <= {self.high}"
