"""One level of a hierarchy on its own: one rectangle, cut in two, with the exact density as its target.

In two dimensions the density of the first part's loop W_a, given the loop W around both, is

    p(W_a | W) = f_A(W_a) f_B(W W_a^-1) / f_{A+B}(W),   f_A the density of a loop of area A.

A level that is trained on it sees none of the noise of the others. A flow with exact levels is exact.
"""

import torch
from torch import Tensor

from lattice_flows.actions import Action, Wilson
from lattice_flows.errors import InvalidInput
from lattice_flows.flows.flow import Flow, Prior
from lattice_flows.groups import Group
from lattice_flows.lattice import GaugeField, Lattice
from lattice_flows.lattice.paths import follow
from lattice_flows.planar.exact import wilson_loop
from lattice_flows.planar.level import Level
from lattice_flows.planar.loop_density import LoopDensity
from lattice_flows.planar.partition import RectanglePartition

RECTANGLE = Lattice((2, 3))
"""A lattice for one rectangle of two plaquettes; each of its links is another one."""

POOL = 2**15
"""The number of plaquettes, which are drawn once, and of the pairs of loops that they make."""
NEGLIGIBLE = 2e-3
"""A level needs no training where the Wilson loops of both parts are below this."""
BROAD = 0.25
"""The share of boundaries that cover the whole group: the others hardly ever meet the jump of a principal root."""


class SplitPrior(Prior):
    """A rectangle of two plaquettes on a lattice of its own, W from the density of its area, W_a from Haar measure.

    The first link of the boundary is W, the active link is W_a, and all others are 1. A level sees W_a and W alone:
    to it, rectangles of any area are rectangles of two plaquettes. A share of the boundaries are Haar elements, so that
    they cover the group; `target` draws its pairs of loops with weights to that end.

    Args:
        action: the Wilson action; its plaquettes have the density of the target.
        plaquettes: independent plaquettes `(n, *element)`; loops of areas A and B (`areas`) are their products.
        seed: of the order of the factors.
        broad: the share of boundaries that cover the group.
    """

    def __init__(self, action: Wilson, plaquettes: Tensor, areas: tuple[int, int], seed: int, broad: float = BROAD):
        self.group = action.space.group
        self.space = GaugeField(self.group, RECTANGLE)
        self.broad = broad
        self.partition = one_rectangle()
        generator = torch.Generator().manual_seed(seed)
        first, second = (_products(self.group, plaquettes, area, generator) for area in areas)
        self.first, self.boundary = first, self.group.compose(second, first)
        self.spread = (-LoopDensity(self.group, action.beta, sum(areas))(self.boundary)).softmax(0)

    def sample(self, n: int, generator=None, dtype=None, device=None) -> Tensor:
        """n rectangles `(n, *shape)`: W from its density, W_a from Haar measure."""
        count = int(self.broad * n)
        chosen = torch.randint(len(self.boundary), (n - count,), generator=generator, device=device)
        broad = self.group.haar(count, generator=generator, dtype=dtype, device=device)
        boundary = torch.cat((broad, self.boundary.to(broad)[chosen]))
        return self._links(self.group.haar(n, generator=generator, dtype=dtype, device=device), boundary)

    def log_prob(self, links: Tensor) -> Tensor:
        """The log-density `(*batch,)` of W_a given W, which is 0."""
        return self.space.log_prior(links)

    def target(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """n samples `(n, *shape)` of the target: W_a from its exact density given W."""
        device, kind = generator.device, self.group.element_dtype(dtype)
        chosen = torch.randint(len(self.boundary), (n,), generator=generator, device=device)
        if count := int(self.broad * n):
            spread = self.spread.to(device)
            chosen[:count] = torch.multinomial(spread, count, replacement=True, generator=generator)
        chosen = chosen.to(self.first.device)
        return self._links(*(part[chosen].to(device, kind) for part in (self.first, self.boundary)))

    def _links(self, active: Tensor, boundary: Tensor) -> Tensor:
        flat = self.space.flatten(self.space.cold(len(active), dtype=active.real.dtype, device=active.device))
        flat[:, self.partition.boundary_loops.links[0]] = boundary.unsqueeze(1)
        flat[:, self.partition.active_links] = active.unsqueeze(1)
        return flat.reshape(-1, *self.space.shape)


def _products(group: Group, plaquettes: Tensor, area: int, generator: torch.Generator) -> Tensor:
    """Products of `area` plaquettes by squaring; each factor is in another order."""

    def shuffled(loops: Tensor) -> Tensor:
        return loops[torch.randperm(len(loops), generator=generator)]

    product, factor = group.identity(len(plaquettes), dtype=plaquettes.real.dtype), plaquettes
    while area:
        if area % 2:
            product = group.compose(product, shuffled(factor))
        factor, area = group.compose(factor, shuffled(factor)), area // 2
    return product


class SplitAction(Action):
    """S = -log p(W_a | W) of the Wilson action and of areas A and B.

    It is normalised: the mean of log q + S is the divergence, and an exact level has log w = 0.
    """

    space: GaugeField

    def __init__(self, group: Group, beta: float, areas: tuple[int, int]):
        super().__init__(GaugeField(group, RECTANGLE), beta)
        self.areas = areas
        self.partition = one_rectangle()
        self.densities = torch.nn.ModuleList(LoopDensity(group, beta, area) for area in (*areas, sum(areas)))

    def at(self, beta: float) -> "SplitAction":
        return SplitAction(self.space.group, beta, self.areas)

    def on(self, lattice) -> "SplitAction":
        """Refuse by InvalidInput: one rectangle has its own lattice."""
        raise InvalidInput(f"the action of one rectangle is on its own lattice {RECTANGLE}, got {Lattice(lattice)}")

    def forward(self, links: Tensor) -> Tensor:
        group, axis = self.space.group, self.space.site_axis
        flat = self.space.flatten(self.space.check(links))
        walks = self.partition.active_loops, self.partition.boundary_loops
        first, whole = (follow(flat, walk, group).squeeze(axis) for walk in walks)
        rest = group.compose(whole, group.inverse(first))
        log_a, log_b, log_whole = (f(loop) for f, loop in zip(self.densities, (first, rest, whole), strict=True))
        return log_whole - log_a - log_b


def one_rectangle() -> RectanglePartition:
    """The partition of the rectangle on its own lattice."""
    return RectanglePartition(RECTANGLE, (1, 2), corners=[(0, 0)])


def split(
    level: Level, action: Wilson, plaquettes: Tensor, seed: int = 0, broad: float = BROAD
) -> tuple[Flow, SplitPrior, SplitAction]:
    """A level as a flow of one rectangle, with the level's own parameters; its prior; its target.

    The other arguments are those of `SplitPrior`.

    Example:
        >>> from lattice_flows import U1, GaugeField
        >>> from lattice_flows.planar.loop_density import plaquettes
        >>> generator = torch.Generator().manual_seed(0)
        >>> level = Level.of_design("cab", U1(), RectanglePartition((4, 4), (1, 2)), areas=(1, 1))
        >>> wilson = Wilson(GaugeField(U1(), (4, 4)), beta=2.0)
        >>> flow, _, action = split(level, wilson, plaquettes(U1(), 2.0, 1000, generator))
        >>> links, log_q = flow.sample(1000, generator=generator)
        >>> log_w = -action(links) - log_q
        >>> print(f"the untrained level has a divergence of {-log_w.mean():.0f}")
        the untrained level has a divergence of 2
    """
    prior = SplitPrior(action, plaquettes, level.areas, seed, broad)
    target = SplitAction(action.space.group, action.beta, level.areas)
    device = next(level.parameters()).device
    flow = Flow(prior.space, [level.on(one_rectangle())], prior=prior)
    return flow.to(device), prior, target.to(device)


def matters(level: Level, action: Wilson) -> bool:
    """Whether the loops of a level's parts are so far from Haar elements that the identity is not exact."""
    return wilson_loop(action.space.group, action.beta, min(level.areas)) > NEGLIGIBLE
