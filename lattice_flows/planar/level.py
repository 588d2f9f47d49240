"""A level of a hierarchy: rectangles of one shape, all cut in two by the same couplings."""

import copy
from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group
from lattice_flows.layers.base import ConjugationMap, Transform, in_turn
from lattice_flows.layers.conjugation import SpectralMap
from lattice_flows.planar.coupling import RectangleCoupling, RectangleMap
from lattice_flows.planar.fourier import FourierMap
from lattice_flows.planar.partition import RectanglePartition
from lattice_flows.planar.perceptron import BetaInput, BoundaryContext
from lattice_flows.planar.residual import ResidualMap
from lattice_flows.planar.triangular import COORDINATES, TriangularMap

SUBLAYERS = {
    "c": "a spline map of the centred loop W_a W^-s, s = A / (A + B) its share of the area",
    "a": "a spline map of W_a, the loop around the first part",
    "b": "a spline map of W_a W^-1, the loop around the second part",
    "f": "a Fourier map of the centred loop, for U(1)",
    "r": "a residual step of the centred loop, for SU(N)",
    "t": "a triangular map of the centred loop in four steps, for SU(3)",
}
"""The sublayers that the letters of a design stand for."""


class Level(Transform):
    """At least one coupling in turn, all on one partition by rectangles; all rectangles share the parameters.

    `areas` are the numbers of plaquettes A and B of the two parts of each rectangle.
    """

    def __init__(self, areas: tuple[int, int], couplings: Iterable[RectangleCoupling]):
        super().__init__()
        self.areas = areas
        self.couplings = cast(Sequence[RectangleCoupling], nn.ModuleList(couplings))

    @classmethod
    def of_design(
        cls,
        design: str,
        group: Group,
        partition: RectanglePartition,
        areas: tuple[int, int],
        *,
        bins: int = 8,
        hidden: Iterable[int] = (32, 32),
        beta_input: BetaInput | None = None,
    ) -> "Level":
        """The level with a sublayer for each letter of a design (see `SUBLAYERS`). It is the identity at first.

        Raises:
            InvalidInput: an unknown letter, or none; or the group does not have the sublayer.

        Example:
            >>> from lattice_flows import SU
            >>> partition = RectanglePartition((8, 8), (1, 2))
            >>> level = Level.of_design("crab", SU(3), partition, areas=(1, 1))
            >>> level(SU(3).identity(5, 2, 8, 8))[0].shape
            torch.Size([5, 2, 8, 8, 3, 3])
        """
        check_design(design)
        couplings = []
        for letter in design:
            centre = {"a": 0.0, "b": 1.0}.get(letter, areas[0] / sum(areas))
            for conjugation in _maps(letter, group, centre, bins):
                n_features = getattr(conjugation, "n_features", 0)
                context = BoundaryContext(group, conjugation.n_params, tuple(hidden), beta_input, n_features)
                couplings.append(RectangleCoupling(group, partition, conjugation, context, centre))
        return cls(areas, couplings)

    @property
    def partition(self) -> RectanglePartition:
        """The rectangles that are cut."""
        return self.couplings[0].partition

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return in_turn(x, self.couplings)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return in_turn(y, [layer.inverse for layer in reversed(self.couplings)])

    def on(self, partition: RectanglePartition) -> "Level":
        """This level on other rectangles, with the same parameters."""
        return Level(self.areas, [layer.on(partition) for layer in self.couplings])

    def copy(
        self, partition: RectanglePartition, areas: tuple[int, int], beta_input: BetaInput | None = None
    ) -> "Level":
        """A copy with parameters of its own, for parts of other areas, and with this level's or another `BetaInput`."""
        share, own = (part[0] / sum(part) for part in (areas, self.areas))
        shared = {id(module): beta_input or module for module in self.modules() if isinstance(module, BetaInput)}
        level = copy.deepcopy(self.on(partition), shared)
        level.areas = areas
        for layer in level.couplings:
            layer.centre = share if layer.centre == own else layer.centre
            if isinstance(layer.conjugation, TriangularMap):
                layer.conjugation.share = share
        return level

    def reset(self) -> None:
        """Go back to the identity."""
        for layer in self.couplings:
            cast(BoundaryContext, layer.context).reset()


def check_design(design: str) -> None:
    """Refuse a design with an unknown letter or none, by InvalidInput."""
    if not design or set(design) - SUBLAYERS.keys():
        meaning = "; ".join(f"{letter}: {what}" for letter, what in SUBLAYERS.items())
        raise InvalidInput(f"a level is designed by letters ({meaning}), got {design!r}")


def _maps(letter: str, group: Group, centre: float, bins: int) -> Sequence[RectangleMap | ConjugationMap]:
    if letter == "r":
        return [ResidualMap(group)]
    if letter == "t":
        return [TriangularMap(group, coordinate, centre, bins) for coordinate in COORDINATES]
    return [FourierMap(group, bins) if letter == "f" else SpectralMap(group, bins)]
