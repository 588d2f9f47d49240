"""What a layer is: plain tensors in, plain tensors and a log-determinant out."""

from abc import abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor, nn


class Transform(nn.Module):
    """An invertible map of links with its log-determinant relative to the Haar measure."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log|dy/dx| `(*batch,)`."""

    @abstractmethod
    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log|dx/dy| `(*batch,)`."""


def in_turn(x: Tensor, steps: Iterable[Callable[[Tensor], tuple[Tensor, Tensor]]]) -> tuple[Tensor, Tensor]:
    """What at least one transform, or several one after the other, make of x, and the sum of their logdets."""
    total = None
    for step in steps:
        x, logdet = step(x)
        total = logdet if total is None else total + logdet
    assert total is not None
    return x, total


class ConjugationMap(nn.Module):
    """An invertible map h of group elements with h(V W V^-1 | p) = V h(W | p) V^-1 for every V in the group.

    Both directions give the factor that moves W there, g = h(W) W^-1 (or h^-1(W) W^-1) `(..., *element)`, and the
    log-determinant of the map at each element `(...)`. Parameters are unconstrained, `(..., n_params)`, and the map
    is the identity where they are 0.

    A map that `sees_boundary` is given the frozen loop W that the active loop is a part of as a third argument, and
    turns with both: h(V W_a V^-1 | p, V W V^-1) = V h(W_a | p, W) V^-1. Its parameters may then depend on invariants of
    both that it leaves as they are, its `features`.
    """

    n_params: int
    sees_boundary: bool = False
    n_features: int = 0

    @abstractmethod
    def forward(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """h(W) W^-1 and log|dh/dW|."""

    @abstractmethod
    def inverse(self, loop: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """h^-1(W) W^-1 and log|dh^-1/dW|."""

    def features(self, loop: Tensor, boundary: Tensor) -> Tensor:
        """Invariants `(..., n_features)` that the map does not change, for its context."""
        return loop.real.new_empty((*boundary.shape[:-2], 0))
