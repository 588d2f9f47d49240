"""Actions that are sums over loops: the sum and its force from one description of the loops."""

import itertools

import torch
from torch import Tensor

from lattice_flows.actions.base import Action
from lattice_flows.fields.layout import infer_dim
from lattice_flows.fields.loops import loops_through, path_product, rectangle
from lattice_flows.groups import Group


class LoopAction(Action):
    """S = -(beta / N) sum over x and planes of [c0 Re tr P_{1x1} + c1 sum over both orientations of Re tr P_{1x2}].

    Args:
        group: the gauge group.
        beta: the inverse coupling, > 0.
        c1: the weight of the 1 x 2 rectangles; c0 = 1 - 8 c1 keeps the classical continuum limit.
        dim: the lattice dimension, where the shape of the links leaves it open.

    Raises:
        InvalidInput: beta is not a finite number > 0.
    """

    def __init__(self, group: Group, beta: float, c1: float = 0.0, dim: int | None = None):
        super().__init__(group, beta)
        self.c1 = c1
        self.dim = dim

    def _terms(self, dim: int):
        """Pairs of a loop and its weight."""
        for mu, nu in itertools.combinations(range(dim), 2):
            yield rectangle(mu, 1, nu, 1), 1 - 8 * self.c1
            if self.c1:
                yield rectangle(mu, 2, nu, 1), self.c1
                yield rectangle(mu, 1, nu, 2), self.c1

    def forward(self, links: Tensor) -> Tensor:
        dim = infer_dim(links, self.group, self.dim)
        total = torch.zeros((), device=links.device)
        for path, weight in self._terms(dim):
            loop = self.group.retrace(path_product(links, path, self.group, dim=dim))
            total = total + weight * loop.flatten(-dim).sum(-1)
        return -self.beta * total

    def force(self, links: Tensor) -> Tensor:
        """The force from the loops through each link (see `Action.force`), without autograd."""
        dim = infer_dim(links, self.group, self.dim)
        force = torch.zeros_like(links)
        for mu, along in enumerate(force.unbind(-1 - dim - len(self.group.element_shape))):
            for path, weight in self._terms(dim):
                for turn in loops_through(path, mu):
                    loop = path_product(links, turn, self.group, dim=dim)
                    along -= self.beta * weight * self.group.retrace_gradient(loop)
        return force
