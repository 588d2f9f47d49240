"""Smearing: links averaged with their staples, whose loops see less of the noise at short distances."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.groups.base import Orientations
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.lattice.space import gauge_field

HYP = (0.75, 0.6, 0.3)
"""The parameters of HYP smearing in four dimensions; fewer directions take the last of them."""

_Blocks = tuple[tuple[int, int, int], ...]
"""Of every direction nu of staples: nu, and the blocks of V links that hold their sides and their middle."""


def ape_smear(
    links: Tensor, space: GaugeField, alpha: float, steps: int = 1, directions: Sequence[int] | None = None
) -> Tensor:
    """Replace U_mu(x), in every step, by the projection of (1 - alpha) U_mu(x) + (alpha / n) sum of its n staples.

    Staples run from x to x + mu through the other `directions`; the projection is `Group.project_group`. Gradients do
    not pass.

    Shapes: links `(*batch, dim, *sites, *element)` -> the same.

    Args:
        alpha: the weight of the staples, 0 <= alpha < 1; the projection of two staples alone would be ambiguous.
        directions: those of the links that are smeared, and of their staples; default: all. Spatial links alone are
            smeared in `range(dim - 1)`.

    Raises:
        InvalidInput: alpha or steps out of range, fewer than two directions, or links that do not fit the space.

    Source: M. Albanese et al. (APE), Phys. Lett. B 192 (1987) 163; the normalisation is that of A. Hasenfratz and
    F. Knechtli, hep-lat/0103029.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import average_plaquette
        >>> space = GaugeField(SU(3), (4, 4, 4))
        >>> links = space.prior(1, torch.Generator().manual_seed(0))
        >>> print(f"{average_plaquette(space)(ape_smear(links, space, alpha=0.5, steps=10)).item():.1f}")
        0.9
    """
    along, group = _directions(space, directions), space.group
    _check_weights(alpha)

    def step(flat: Tensor) -> list[Tensor]:
        staples = {mu: tuple((nu, nu, mu) for nu in along if nu != mu) for mu in along}
        return [group.project_group(_mean(flat, space, alpha, mu, mu, staples[mu])) for mu in along]

    return _repeat(links, space, steps, along, step)


def hyp_smear(
    links: Tensor,
    space: GaugeField,
    alphas: Sequence[float] | None = None,
    steps: int = 1,
    directions: Sequence[int] | None = None,
) -> Tensor:
    """Replace every link, in every step, by an average within the hypercubes around it.

    V_{mu; S} is the projection of (1 - a) U_mu + (a / n) sum of the n staples, with sides V_{nu; S + mu} and middle
    V_{mu; S + nu}, in the `directions` nu outside S; a belongs to the size of S. The new links are V_{mu; S} with an
    empty S. In two dimensions this is `ape_smear`.

    Shapes, other arguments and errors: as `ape_smear`.

    Args:
        alphas: weights as alpha, one less than there are directions, those of the empty S first; default: the last of
            0.75, 0.6, 0.3.

    Source: A. Hasenfratz and F. Knechtli, hep-lat/0103029.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import average_plaquette
        >>> space = GaugeField(SU(2), (4, 4, 4, 4))
        >>> links = space.prior(1, torch.Generator().manual_seed(0))
        >>> print(f"{average_plaquette(space)(hyp_smear(links, space, steps=3)).item():.1f}")
        0.9
    """
    along = _directions(space, directions)
    weights = HYP[1 - len(along) :] if alphas is None else tuple(alphas)
    if len(weights) != len(along) - 1:
        raise InvalidInput(f"HYP smearing in {len(along)} directions has {len(along) - 1} weights, got {list(weights)}")
    _check_weights(*weights)
    group, axis = space.group, space.site_axis

    def step(flat: Tensor) -> list[Tensor]:
        @functools.cache
        def smeared(mu: int, done: frozenset[int]) -> Tensor:
            own, others = _block(flat, mu, space), [nu for nu in along if nu != mu and nu not in done]
            if not others:
                return own
            pairs = [(smeared(nu, done | {mu}), smeared(mu, done | {nu})) for nu in others]
            fields = torch.cat([own, *(field for pair in pairs for field in pair)], axis)
            staples = tuple((nu, 2 * i + 1, 2 * i + 2) for i, nu in enumerate(others))
            return group.project_group(_mean(fields, space, weights[len(done)], mu, 0, staples))

        return [smeared(mu, frozenset()) for mu in along]

    return _repeat(links, space, steps, along, step)


def stout_smear(
    links: Tensor, space: GaugeField, rho: float, steps: int = 1, directions: Sequence[int] | None = None
) -> Tensor:
    """Move every link, in every step, to exp(-rho sum of project_algebra(P)) U_mu(x), P its plaquettes from x.

    P begins with U_mu(x) and comes back on a side of one of the other `directions`. In all directions, this is Euler's
    step rho of the Wilson flow.

    Shapes, other arguments and errors: as `ape_smear`.

    Args:
        rho: the weight of each plaquette, >= 0.

    Source: C. Morningstar and M. Peardon, hep-lat/0311018.

    Example:
        >>> from lattice_flows import SU
        >>> from lattice_flows.observables import average_plaquette
        >>> space = GaugeField(SU(3), (4, 4, 4, 4))
        >>> links = space.prior(1, torch.Generator().manual_seed(0))
        >>> print(f"{average_plaquette(space)(stout_smear(links, space, rho=0.1, steps=10)).item():.1f}")
        0.8
    """
    along, group = _directions(space, directions), space.group
    if not 0 <= rho < math.inf:
        raise InvalidInput(f"rho of stout smearing must be a finite number >= 0, got {rho}")

    def step(flat: Tensor) -> list[Tensor]:
        moved = []
        for mu in along:
            staples = tuple((nu, nu, mu) for nu in along if nu != mu)
            tables, forward = _staples(mu, staples, space.lattice, flat.device)
            # backwards, each staple closes its link
            closing = tables.flip(1), tuple(tuple(not ahead for ahead in reversed(walk)) for walk in forward)
            active = torch.arange(mu * space.volume, (mu + 1) * space.volume, device=flat.device)
            force = group.link_forces(flat, *closing, active)
            moved.append(group.compose(group.exp(force * (rho * group.bare_coupling)), _block(flat, mu, space)))
        return moved

    return _repeat(links, space, steps, along, step)


@dataclass(frozen=True)
class Smearing:
    """A smearing with its parameters, as a function of links and their space.

    Args:
        kind: `ape`, `hyp` or `stout`.
        weights: alpha, the alphas of HYP (none: the default ones), or rho.
        spatial: smear the links of all directions but the last, which is that of time.

    Raises:
        InvalidInput: another kind, or another number of weights.

    Example:
        >>> from lattice_flows import SU
        >>> smear, space = Smearing.parse("stout:rho=0.1,steps=3,spatial"), GaugeField(SU(3), (4, 4, 4))
        >>> print(smear, smear(space.cold(5), space).shape)
        stout:rho=0.1,steps=3,spatial torch.Size([5, 3, 4, 4, 4, 3, 3])
    """

    kind: str
    weights: tuple[float, ...]
    steps: int = 1
    spatial: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _WEIGHT or (self.kind != "hyp" and len(self.weights) != 1):
            raise InvalidInput(f"ape and stout have one weight, hyp has several, got {self.kind} of {self.weights}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ape:alpha=A`, `hyp`, `hyp:alpha=A/B/C` or `stout:rho=R`, each with `,steps=N` and `,spatial` or not.

        Raises:
            InvalidInput: the text is none of them.
        """
        kind, _, rest = text.partition(":")
        words = dict(word.partition("=")[::2] for word in rest.split(",") if word)
        try:
            steps, spatial = int(words.pop("steps", "1")), words.pop("spatial", None) == ""
            weights = tuple(float(weight) for weight in words.pop(_WEIGHT[kind], "").split("/") if weight)
            if words:
                raise ValueError
            return cls(kind, weights, steps, spatial)
        except (KeyError, ValueError):
            forms = "ape:alpha=0.5,steps=20 or hyp:alpha=0.75/0.6/0.3 or stout:rho=0.1,steps=3,spatial"
            raise InvalidInput(f"a smearing such as {forms} is expected, got {text!r}") from None

    def __call__(self, links: Tensor, space: GaugeField) -> Tensor:
        """The smeared links; errors are those of the smearing."""
        directions = range(space.dim - 1) if self.spatial else None
        if self.kind == "hyp":
            return hyp_smear(links, space, self.weights or None, self.steps, directions)
        smear = ape_smear if self.kind == "ape" else stout_smear
        return smear(links, space, self.weights[0], self.steps, directions)

    def __str__(self) -> str:
        weights = f"{_WEIGHT[self.kind]}={'/'.join(f'{weight:g}' for weight in self.weights)}," if self.weights else ""
        return f"{self.kind}:{weights}steps={self.steps}{',spatial' if self.spatial else ''}"


_WEIGHT = {"ape": "alpha", "hyp": "alpha", "stout": "rho"}


def _directions(space: GaugeField, directions: Iterable[int] | None) -> tuple[int, ...]:
    dim = gauge_field(space).dim
    along = tuple(range(dim) if directions is None else directions)
    if len(set(along)) != len(along) or len(along) < 2 or not all(0 <= mu < dim for mu in along):
        raise InvalidInput(f"smearing needs two or more of the directions 0 ... {dim - 1}, got {list(along)}")
    return along


def _check_weights(*weights: float) -> None:
    if not all(0 <= weight < 1 for weight in weights):
        raise InvalidInput(f"the weight alpha of staples must be >= 0 and < 1, got {', '.join(map(str, weights))}")


def _repeat(
    links: Tensor, space: GaugeField, steps: int, along: Sequence[int], step: Callable[[Tensor], list[Tensor]]
) -> Tensor:
    """Replace the flat links of some directions by those of a step, `steps` times."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InvalidInput(f"smearing takes a number of steps >= 0, got {steps!r}")
    flat = space.flatten(space.check(links))
    for _ in range(steps):
        new = dict(zip(along, step(flat), strict=True))
        flat = torch.cat([new.get(mu, _block(flat, mu, space)) for mu in range(space.dim)], space.site_axis)
    return flat.reshape(links.shape)


def _block(flat: Tensor, block: int, space: GaugeField) -> Tensor:
    """One block of V of the flat links."""
    return flat.narrow(space.site_axis, block * space.volume, space.volume)


def _mean(flat: Tensor, space: GaugeField, alpha: float, mu: int, own: int, staples: _Blocks) -> Tensor:
    """(1 - alpha) U + (alpha / n) sum of the n staples, with U in the block `own`, as complex numbers or matrices."""
    sums = space.group.link_sums(flat, *_staples(mu, staples, space.lattice, flat.device))
    at = torch.arange(own * space.volume, (own + 1) * space.volume, device=flat.device)
    link = space.group.link_sums(flat, at[None, None], ((True,),))
    return (1 - alpha) * link + alpha / (2 * len(staples)) * sums


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)  # it may be made in that mode, and serve others
def _staples(mu: int, staples: _Blocks, lattice: Lattice, device: torch.device) -> tuple[Tensor, Orientations]:
    """The walks from all x to x + mu along staples: indices `(2 * directions, 3, V)`, and their orientations."""
    here, ahead = torch.arange(lattice.volume), lattice.neighbours(mu)
    walks, forward = [], []
    for nu, side, middle in staples:
        above, below = lattice.neighbours(nu), lattice.neighbours(nu, -1)
        position = lattice.coordinates()
        position[mu] += 1
        position[nu] -= 1
        sides, middles = side * lattice.volume, middle * lattice.volume
        walks.append(torch.stack((sides + here, middles + above, sides + ahead)))
        walks.append(torch.stack((sides + below, middles + below, sides + lattice.index(position))))
        forward += [(True, True, False), (False, True, True)]
    return torch.stack(walks).to(device), tuple(forward)
