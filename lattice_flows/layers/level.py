"""A level of a hierarchy: rectangles of one shape, all cut in two by the same couplings."""

import copy
from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import SU, Group
from lattice_flows.layers.base import ConjugationMap, Transform, in_turn
from lattice_flows.layers.conjugation import conjugation_map
from lattice_flows.layers.coupling import GaugeCoupling
from lattice_flows.layers.fourier import FourierMap
from lattice_flows.layers.partition import LinkPartition
from lattice_flows.layers.perceptron import BoundaryContext, Coupling
from lattice_flows.layers.residual import ResidualMap
from lattice_flows.layers.triangular import COORDINATES, TriangularMap

SUBLAYERS = {
    "c": "a spline map of the centred loop W_a W^-s, s = A / (A + B) its share of the area",
    "a": "a spline map of W_a, the loop around the first part",
    "b": "a spline map of W_a W^-1, the loop around the second part",
    "f": "a Fourier map of the centred loop, for U(1)",
    "r": "a residual step of the centred loop, for SU(N)",
    "t": "a triangular map of the centred loop in four steps, for SU(3)",
}
"""What the letters of a design stand for."""


class Level(Transform):
    """Couplings on one partition by rectangles that act one after the other, with parameters shared by all rectangles.

    Args:
        areas: the numbers of plaquettes A and B of the two parts of each rectangle.
        couplings: layers on a partition of `LinkPartition.rectangles`.
    """

    def __init__(self, areas: tuple[int, int], couplings: Iterable[GaugeCoupling]):
        super().__init__()
        self.areas = areas
        self.couplings = nn.ModuleList(couplings)

    @classmethod
    def of_design(
        cls,
        design: str,
        group: Group,
        partition: LinkPartition,
        areas: tuple[int, int],
        *,
        bins: int = 8,
        hidden: Iterable[int] = (32, 32),
        coupling: Coupling | None = None,
    ) -> "Level":
        """The level with the sublayers that the letters of a design stand for (see `SUBLAYERS`); the identity at first.

        Raises:
            InvalidInput: another letter, or none; or a residual step for U(1).

        Example:
            >>> from lattice_flows import SU
            >>> partition = LinkPartition.rectangles((8, 8), (1, 2))
            >>> level = Level.of_design("crab", SU(3), partition, areas=(1, 1))
            >>> level(SU(3).identity(5, 2, 8, 8))[0].shape
            torch.Size([5, 2, 8, 8, 3, 3])
        """
        check_design(design)
        couplings = []
        for letter in design:
            centre = _centre(letter, areas)
            for conjugation in _maps(letter, group, centre, bins):
                context = BoundaryContext(group, conjugation.n_params, tuple(hidden), coupling, conjugation.n_features)
                couplings.append(GaugeCoupling(group, partition, conjugation, context, centre))
        return cls(areas, couplings)

    def _layers(self) -> list[GaugeCoupling]:
        return cast(list[GaugeCoupling], list(self.couplings))

    @property
    def partition(self) -> LinkPartition:
        """The rectangles that are cut."""
        return self._layers()[0].partition

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return in_turn(x, self._layers())

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return in_turn(y, [layer.inverse for layer in reversed(self._layers())])

    def on(self, partition: LinkPartition) -> "Level":
        """This level on other rectangles, with the same parameters."""
        return Level(self.areas, [layer.on(partition) for layer in self._layers()])

    def copy(self, partition: LinkPartition, areas: tuple[int, int], coupling: Coupling | None = None) -> "Level":
        """A copy of this level, with parameters of its own, for rectangles with parts of other areas.

        Args:
            coupling: what its contexts see in place of the `Coupling` that those of this level see. Default: the same.
        """
        share, own = (part[0] / sum(part) for part in (areas, self.areas))
        shared = {id(module): coupling or module for module in self.modules() if isinstance(module, Coupling)}
        couplings = copy.deepcopy(self.on(partition), shared)._layers()
        for layer in couplings:
            layer.centre = share if layer.centre == own else layer.centre
            if isinstance(layer.conjugation, TriangularMap):
                layer.conjugation.share = share
        return Level(areas, couplings)

    def reset(self) -> None:
        """Back to the identity."""
        for layer in self._layers():
            cast(BoundaryContext, layer.context).reset()


def check_design(design: str) -> None:
    """Raises InvalidInput unless every letter of a design stands for a sublayer, and there is one."""
    if not design or set(design) - SUBLAYERS.keys():
        meaning = "; ".join(f"{letter}: {what}" for letter, what in SUBLAYERS.items())
        raise InvalidInput(f"a level is designed by letters ({meaning}), got {design!r}")


def _maps(letter: str, group: Group, centre: float, bins: int) -> list[ConjugationMap]:
    if letter == "r":
        return [ResidualMap(cast(SU, group))]
    if letter == "f":
        return [FourierMap(group, bins)]
    if letter == "t":
        return [TriangularMap(cast(SU, group), coordinate, centre, bins) for coordinate in COORDINATES]
    return [conjugation_map(group, bins)]


def _centre(letter: str, areas: tuple[int, int]) -> float:
    return {"a": 0.0, "b": 1.0}.get(letter, areas[0] / sum(areas))
