"""Wilson's action with couplings that vary over the lattice: open boundaries, anisotropy, twists."""

import cmath
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lattice_flows.actions.base import Action, ActionEntry, BetaSettings, coupling
from lattice_flows.actions.local import Cell, Conditional, LinkConditional, link_cells
from lattice_flows.actions.loops import Wilson
from lattice_flows.config.rules import POSITIVE, Positive
from lattice_flows.errors import InvalidInput
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.lattice.paths import plaquette
from lattice_flows.lattice.space import gauge_field

Twist = tuple[int, int, int]


class WeightedWilson(Action):
    """S = -(beta / N) sum over x and mu < nu of w_{mu nu}(x) Re [z_{mu nu}(x) tr P_{mu nu}(x)].

    The last direction is time. The weights w are products of these:

    - of an open boundary, time-like plaquettes from the last time to the first have weight 0, and space-like ones of
      both times 1/2; nothing depends on the time-like links of the last time, which are independent of all others;
    - of an anisotropy xi, time-like plaquettes have weight xi, and all others 1 / xi.

    A twist (mu, nu, k) is the 't Hooft flux k through the planes along mu and nu: z = exp(2 pi i k / N) on the plaquette
    of each of them at the last coordinates along mu and nu. All other z are 1.

    Args:
        beta: the inverse coupling, > 0.
        boundary: of time.
        anisotropy: xi > 0.
        twist: triples (mu, nu, k) of two directions and an integer.

    Raises:
        InvalidInput: a number is out of range, U(1) or an open boundary is twisted along time, or a plane is named twice.

    Source: M. Luscher and S. Schaefer, JHEP 07 (2011) 036, 1105.4749, for open boundaries; T. R. Klassen, Nucl. Phys. B
    533 (1998) 557, hep-lat/9803010, for anisotropy; G. 't Hooft, Nucl. Phys. B 153 (1979) 141, for the twist.

    Example:
        >>> from lattice_flows import SU
        >>> space = GaugeField(SU(3), (4, 4, 4))
        >>> WeightedWilson(space, beta=6.0, boundary="open")(space.cold(1))  # 4^2 (3 + 3 * 2) plaquettes
        tensor([-864.])
        >>> WeightedWilson(space, beta=6.0, twist=[(0, 1, 1)])(space.cold(1))  # cos(2 pi / 3) - 1 = -3 / 2 of 4 of them
        tensor([-1116.])
    """

    beta: float
    space: GaugeField

    def __init__(
        self,
        space: GaugeField,
        beta: float,
        boundary: Literal["periodic", "open"] = "periodic",
        anisotropy: float = 1.0,
        twist: Sequence[Twist] = (),
    ):
        super().__init__(gauge_field(space), beta)
        if boundary not in ("periodic", "open"):
            raise InvalidInput(f"boundary must be periodic or open, got {boundary!r}")
        self.boundary, self.anisotropy = boundary, coupling("anisotropy", anisotropy, POSITIVE)
        self.twist = tuple(checked_twist(space, boundary, each) for each in twist)
        planes = [each[:2] for each in self.twist]
        if len(set(planes)) < len(planes):
            raise InvalidInput(f"a plane has one twist, got {[list(each) for each in twist]}")

    @property
    def weights(self) -> Tensor:
        """w z of the plaquettes, in units of beta / N: `(planes, *extents)`, float64, or complex128 for twists of SU(3) ...

        Planes are in the order 01, 02, ..., 12, ...
        """
        return _weights(self.space.lattice, self.space.group.n, self.boundary, self.anisotropy, self.twist)

    def forward(self, x: Tensor) -> Tensor:
        group, axes, total = self.space.group, tuple(range(-self.space.dim, 0)), torch.zeros((), device=x.device)
        for own, (mu, nu) in zip(self.weights.to(x.device), _planes(self.space.dim), strict=True):
            traces = group.trace(plaquette(x, mu, nu, self.space))
            total = total - self.beta * (own.to(traces.dtype) * traces).real.sum(axes)
        return total

    def cells(self, device: torch.device | str = "cpu") -> Sequence[Cell]:
        return link_cells(self.space.lattice, torch.device(device))

    def conditional(self, flat: Tensor, cell: Cell) -> Conditional:
        group, lattice = self.space.group, self.space.lattice
        own = dict(zip(_planes(lattice.dim), self.weights.flatten(1).to(flat.device), strict=True))
        own |= {(nu, mu): weights.conj() for (mu, nu), weights in own.items()}
        mu, sites = int(cell.active[0]) // lattice.volume, cell.active % lattice.volume
        weights: list[Tensor] = []
        for nu in (nu for nu in range(lattice.dim) if nu != mu):  # as the walks of `link_cells`
            behind = lattice.neighbours(nu, -1).to(flat.device)[sites]
            weights += [own[mu, nu][sites], own[nu, mu][behind]]
        sums = torch.zeros((), device=flat.device)
        for weight, walk, forward in zip(weights, cell.walks, cell.forward, strict=True):
            staples = group.link_sums(flat, walk[None], (forward,))
            sums = sums + weight.to(staples.dtype).reshape(-1, *[1] * (staples.ndim - 2)) * staples
        return LinkConditional(group, sums, self.beta / group.n)

    def loop_weights(self) -> Tensor:
        weights, dim = self.beta / self.space.group.n * self.weights, self.space.dim
        if self.boundary == "open" or self.twist:
            return weights
        planes = torch.zeros(dim, dim, dtype=torch.float64)  # each has one weight
        for own, (mu, nu) in zip(weights.flatten(1), _planes(dim), strict=True):
            planes[mu, nu] = planes[nu, mu] = own[0]
        return planes

    def extra_repr(self) -> str:
        parts = {"boundary": self.boundary != "periodic", "anisotropy": self.anisotropy != 1, "twist": self.twist}
        return ", ".join([super().extra_repr(), *(f"{name}={getattr(self, name)!r}" for name in parts if parts[name])])


def checked_twist(space: GaugeField, boundary: str, twist: Twist) -> Twist:
    """The twist with mu < nu and 0 <= k < N, if there is such a one; else InvalidInput."""
    fits = len(twist) == 3 and all(type(number) is int for number in twist)
    if not fits or not {*twist[:2]} <= {*range(space.dim)} or twist[0] == twist[1]:
        raise InvalidInput(
            f"a twist is [mu, nu, k] of two directions from 0 to {space.dim - 1} and an integer, got {list(twist)}"
        )
    if space.group.n == 1:
        raise InvalidInput(f"a twist needs SU(N): the links of {space.group} absorb every phase")
    mu, nu, k = twist
    if boundary == "open" and space.dim - 1 in (mu, nu):
        raise InvalidInput(f"twist {list(twist)} is along time, whose boundary is open: links there absorb it")
    return (mu, nu, k % space.group.n) if mu < nu else (nu, mu, -k % space.group.n)


def _planes(dim: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(dim), 2))


@functools.lru_cache(maxsize=16)
def _weights(lattice: Lattice, n: int, boundary: str, anisotropy: float, twist: tuple[Twist, ...]) -> Tensor:
    dim = lattice.dim
    phases = bool(twist) and n > 2
    weights = torch.ones(math.comb(dim, 2), *lattice.extents, dtype=torch.complex128 if phases else torch.float64)
    for own, plane in zip(weights, _planes(dim), strict=True):
        along_time = dim - 1 in plane
        own *= anisotropy if along_time else 1 / anisotropy
        if boundary == "open" and along_time:
            own[..., -1] = 0
        elif boundary == "open":
            own[..., 0] /= 2
            own[..., -1] /= 2
        for mu, nu, k in twist:
            if (mu, nu) == plane:
                last = tuple(-1 if axis in plane else slice(None) for axis in range(dim))
                own[last] *= cmath.exp(2j * math.pi * k / n) if phases else (-1) ** k
    return weights


@dataclass(frozen=True, kw_only=True)
class WilsonSettings(BetaSettings):
    """Beta, and how the coupling varies over the lattice; time is the last direction."""

    boundary: Literal["periodic", "open"] = "periodic"
    """The boundary of time."""
    anisotropy: Positive = 1.0
    """The weight of time-like plaquettes; that of all others is one over it."""
    twist: tuple[tuple[int, ...], ...] = ()
    """Triples mu, nu, k: a flux k through the planes along mu and nu."""


def _build(space: GaugeField, settings: WilsonSettings) -> Action:
    """Wilson's action where nothing varies, for which more is known and done."""
    varied = settings.boundary, settings.anisotropy, settings.twist
    return Wilson(space, settings.beta) if varied == ("periodic", 1.0, ()) else WeightedWilson(space, settings.beta, *varied)


WILSON = ActionEntry(WilsonSettings, _build)
