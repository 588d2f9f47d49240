"""The interface of layers: plain tensors in, plain tensors and a log-determinant out."""

from abc import abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor, nn


class Transform(nn.Module):
    """An invertible map of configurations, with its log-determinant relative to the measure of their space.

    To add one, implement `forward` and `inverse`, and run the laws of `lattice_flows.testing` on it.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x to y; give y and log|dy/dx| `(*batch,)`."""

    @abstractmethod
    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map y back to x; give x and log|dx/dy| `(*batch,)`."""


def in_turn(x: Tensor, steps: Iterable[Callable[[Tensor], tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
    """Apply at least one transform in order; return the result and the summed log-determinants."""
    total = None
    for step in steps:
        x, logdet = step(x)
        total = logdet if total is None else total + logdet
    assert total is not None
    return x, total


class ConjugationMap(nn.Module):
    """An invertible map h of group elements with h(V W V^-1 | p) = V h(W | p) V^-1 for every V in the group.

    Both directions give the factor g `(..., *element)` that moves W, and the log-determinant of the map at W `(...)`.
    Parameters `(..., n_params)` are unconstrained; the map is the identity where they are 0.

    To add one, implement `forward` and `inverse`, set `n_params`, and run `assert_conjugation_map` on it.
    """

    n_params: int

    @abstractmethod
    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """h(W) W^-1 and log|dh/dW|."""

    @abstractmethod
    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """h^-1(W) W^-1 and log|dh^-1/dW|."""
