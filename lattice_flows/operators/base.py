"""The interface of operators."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lattice_flows.lattice import Space


class Operator(ABC):
    """A real function W of configurations, with its force.

    To add one, set `space` and implement `value`. The force follows by autograd until you write a faster one. An
    example is `operators/loops.py`. An action is a sum of coefficients times operators: see
    `lattice_flows.actions.OperatorAction`.
    """

    space: Space

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """W(x) `(*batch,)`."""

    def force(self, x: Tensor) -> Tensor:
        """The tangent field F `(*batch, *shape)` with W(move(x, t X)) = W(x) + t inner(X, F) + O(t^2)."""
        return autograd_force(self.value, x, self.space)


def autograd_force(function, x: Tensor, space: Space) -> Tensor:
    """The force of a function `x -> (*batch,)` by autograd."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(function(x).sum(), x)
    return space.gradient(x.detach(), derivative)
