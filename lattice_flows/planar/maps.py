"""Maps of a part of a rectangle, given the boundary of the whole."""

from abc import abstractmethod

from torch import Tensor, nn

from lattice_flows.layers.base import ConjugationMap


class RectangleMap(nn.Module):
    """An invertible map h of a loop W_a, given the frozen loop W around the rectangle, that is covariant in both,

        h(V W_a V^-1 | p, V W V^-1) = V h(W_a | p, W) V^-1   for every V in the group.

    Shapes and parameters are those of `ConjugationMap`. The parameters may depend on W and on `features`.

    To add one, implement `forward` and `inverse`, set `n_params`, and run `assert_conjugation_map` on it with a
    boundary. A map with `n_features` > 0 implements `features`, too.
    """

    n_params: int
    n_features: int = 0

    @abstractmethod
    def forward(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """h(W_a) W_a^-1 and log|dh/dW_a|."""

    @abstractmethod
    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """h^-1(W_a) W_a^-1 and log|dh^-1/dW_a|."""

    def features(self, loop: Tensor, boundary: Tensor) -> Tensor:
        """Invariants `(..., n_features)` of both loops, which the map does not change."""
        raise NotImplementedError


class LoopMap(RectangleMap):
    """A `ConjugationMap`, which does not look at the boundary."""

    def __init__(self, conjugation: ConjugationMap):
        super().__init__()
        self.conjugation = conjugation
        self.n_params = conjugation.n_params

    def forward(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        return self.conjugation(loop, params)

    def inverse(self, loop: Tensor, params: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        return self.conjugation.inverse(loop, params)
