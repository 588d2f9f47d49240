"""One level of a hierarchy on its own: one rectangle, cut in two, with the exact density as its target.

In two dimensions the density of the first part's loop W_a, given the loop W around both, is

    p(W_a | W) = f_A(W_a) f_B(W W_a^-1) / f_{A+B}(W),

f_A being the density of a loop of area A. A level that is trained on it, on as many rectangles a step as one likes,
sees none of the noise of the others, and a flow whose levels are exact is exact.
"""

import torch
from torch import Tensor

from lattice_flows.actions import Action, Wilson
from lattice_flows.fields.layout import flatten_links, site_axis
from lattice_flows.fields.loops import follow
from lattice_flows.flows import Flow, HaarPrior
from lattice_flows.groups import Group
from lattice_flows.layers import LinkPartition
from lattice_flows.layers.level import Level
from lattice_flows.measurement.exact import wilson_loop
from lattice_flows.measurement.loop_density import LoopDensity

SITES = (2, 3)
"""A lattice for one rectangle of two plaquettes, on which each of its links occurs once."""

POOL = 2**15
"""How many plaquettes are drawn, once, and pairs of loops made of them."""
NEGLIGIBLE = 2e-3
"""Levels of which both parts have a Wilson loop below this are left as they are."""
BROAD = 0.25
"""The share of boundaries that are spread over the group: the others hardly ever are where a principal root jumps."""


class SplitPrior(HaarPrior):
    """A rectangle of two plaquettes on a lattice of its own, W from the density of its area, W_a from Haar measure.

    All links are 1 but the first of the boundary, which is W, and the active one, which is W_a. Rectangles of any area
    are rectangles of two plaquettes to a level: it sees W_a and W alone. So that W is covered everywhere, a quarter of
    the boundaries are Haar elements; in `target`, as near to that as the pairs of loops that there are allow.

    Args:
        action: whose plaquettes have the density of the target.
        plaquettes: independent plaquettes `(n, *element)`, of which loops of every area are products.
        areas: A and B.
        seed: of the order in which plaquettes are multiplied.
        broad: the share of boundaries that are spread over the group.
    """

    def __init__(self, action: Wilson, plaquettes: Tensor, areas: tuple[int, int], seed: int, broad: float = BROAD):
        super().__init__(action.group, SITES)
        self.broad = broad
        self.partition = one_rectangle()
        generator = torch.Generator().manual_seed(seed)
        first, second = (_products(self.group, plaquettes, area, generator) for area in areas)
        self.first, self.boundary = first, self.group.compose(second, first)
        self.spread = (-LoopDensity(self.group, action.beta, sum(areas))(self.boundary)).softmax(0)

    def sample(self, n, generator=None, dtype=None, device=None) -> Tensor:
        chosen = torch.randint(len(self.boundary), (n - int(self.broad * n),), generator=generator, device=device)
        broad = self.group.haar(int(self.broad * n), generator=generator, dtype=dtype, device=device)
        boundary = torch.cat((broad, self.boundary.to(broad)[chosen]))
        return self._links(self.group.haar(n, generator=generator, dtype=dtype, device=device), boundary)

    def target(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Samples `(n, dim, *sites, *element)` of the target: W_a from its exact density given W."""
        device, kind = generator.device, self.group.element_dtype(dtype)
        chosen = torch.randint(len(self.boundary), (n,), generator=generator, device=device)
        if count := int(self.broad * n):
            spread = self.spread.to(device)
            chosen[:count] = torch.multinomial(spread, count, replacement=True, generator=generator)
        chosen = chosen.to(self.first.device)
        return self._links(*(part[chosen].to(device, kind) for part in (self.first, self.boundary)))

    def _links(self, active: Tensor, boundary: Tensor) -> Tensor:
        group, axis = self.group, site_axis(self.group)
        links = group.identity(len(active), self.dim, *self.sites, dtype=active.real.dtype, device=active.device)
        flat = flatten_links(links, group, self.dim)
        where = self.partition.boundary_loops.links[0].to(flat.device)
        flat = flat.index_copy(axis, where, boundary.unsqueeze(axis))
        flat = flat.index_copy(axis, self.partition.active_links.to(flat.device), active.unsqueeze(axis))
        return flat.reshape(links.shape)


def _products(group: Group, plaquettes: Tensor, area: int, generator: torch.Generator) -> Tensor:
    """Products of `area` plaquettes, by squaring, each factor in another order."""

    def shuffled(loops: Tensor) -> Tensor:
        return loops[torch.randperm(len(loops), generator=generator)]

    product, factor = group.identity(len(plaquettes), dtype=plaquettes.real.dtype), plaquettes
    while area:
        if area % 2:
            product = group.compose(product, shuffled(factor))
        factor, area = group.compose(factor, shuffled(factor)), area // 2
    return product


class SplitAction(Action):
    """-log p(W_a | W), normalised: the mean of log q + S is the divergence, and log w is 0 for an exact level."""

    def __init__(self, group: Group, beta: float, areas: tuple[int, int]):
        super().__init__(group, beta)
        self.partition = one_rectangle()
        self.densities = torch.nn.ModuleList(LoopDensity(group, beta, area) for area in (*areas, sum(areas)))

    def forward(self, links: Tensor) -> Tensor:
        flat = flatten_links(links, self.group, 2)
        first = follow(flat, self.partition.active_loops, self.group).squeeze(site_axis(self.group))
        whole = follow(flat, self.partition.boundary_loops, self.group).squeeze(site_axis(self.group))
        rest = self.group.compose(whole, self.group.inverse(first))
        log_a, log_b, log_whole = (f(loop) for f, loop in zip(self.densities, (first, rest, whole), strict=True))
        return log_whole - log_a - log_b


def one_rectangle() -> LinkPartition:
    """The partition of the rectangle on its own lattice."""
    return LinkPartition.rectangles(SITES, (1, 2), corners=[(0, 0)])


def split(
    level: Level, action: Wilson, plaquettes: Tensor, seed: int = 0, broad: float = BROAD
) -> tuple[Flow, SplitPrior, SplitAction]:
    """A level as a flow of one rectangle, sharing the level's parameters, its prior, and its target.

    Args:
        action: whose plaquettes have the density of the target.
        plaquettes: independent ones, as `lattice_flows.measurement.loop_density.plaquettes` gives them.
        seed, broad: of the prior.

    Example:
        >>> from lattice_flows import U1, flows
        >>> from lattice_flows.measurement.loop_density import plaquettes
        >>> generator = torch.Generator().manual_seed(0)
        >>> level = flows.hierarchical(U1(), (4, 4), seed=0).layers[-1]
        >>> flow, _, action = split(level, Wilson(U1(), beta=2.0), plaquettes(U1(), 2.0, 1000, generator))
        >>> links, log_q = flow.sample(1000, generator=generator)
        >>> log_w = -action(links) - log_q
        >>> print(f"the untrained level has a divergence of {-log_w.mean():.0f}")
        the untrained level has a divergence of 2
    """
    like = next(level.parameters())
    prior = SplitPrior(action, plaquettes, level.areas, seed, broad)
    flow = Flow(prior, [level.on(one_rectangle())])
    return flow.to(like.device), prior, SplitAction(action.group, action.beta, level.areas).to(like.device)


def matters(level: Level, action: Wilson) -> bool:
    """Whether the loops of a level's parts are still far from Haar elements, to which the identity is exact."""
    return wilson_loop(action.group, action.beta, min(level.areas)) > NEGLIGIBLE
