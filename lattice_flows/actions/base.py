"""Actions: functions of the links, with their force."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lattice_flows.errors import InvalidInput
from lattice_flows.groups import Group

ActionLike = Callable[[Tensor], Tensor]
"""Any function links -> S `(*batch,)`, which does wherever only S is needed."""


class Action(nn.Module):
    """S(links), the target density being p = exp(-S) / Z relative to the Haar measure.

    A subclass gives `forward`; the force follows by autograd.
    """

    def __init__(self, group: Group, beta: float):
        super().__init__()
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not (math.isfinite(beta) and beta > 0):
            raise InvalidInput(f"beta must be a finite number > 0, got {beta!r}")
        self.group = group
        self.beta = float(beta)

    @abstractmethod
    def forward(self, links: Tensor) -> Tensor:
        """S `(*batch,)`."""

    def force(self, links: Tensor) -> Tensor:
        """The algebra field F, shaped like the links, with S(exp(t X) U) = S(U) + t sum inner(X, F) + O(t^2)."""
        with torch.enable_grad():
            links = links.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(links).sum(), links)
        return self.group.algebra_gradient(links.detach(), gradient)

    def extra_repr(self) -> str:
        return f"{self.group}, beta={self.beta:g}"
