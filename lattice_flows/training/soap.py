"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

ROUNDING = 100
"""Entries of a rotated gradient count as rounding errors below this many epsilon of its norm."""


class SOAP(torch.optim.Optimizer):
    """Adam in the slowly turning eigenbasis of the second moments of each weight's rows and columns.

    The bases cost little for small, badly conditioned perceptrons. A vector counts as a matrix of one column, the
    kernel of a convolution as a matrix with one row an output. The first gradient makes the bases and moves nothing.

    Where gradients have no component, the ratio m / sqrt(v) of Adam is one of rounding errors. A factor v / (v + r^2)
    takes these out: r is 100 epsilon times the root of the sum of v over a weight.

    Args:
        betas: the decay of the first moment m, and that of all second moments.
        every: the number of steps between two turns of the bases.
        eps: a number to add to the root of the second moment v.

    Source: N. Vyas et al., 2409.11321, Algorithm 3 (Adam), and Algorithm 4 for the bases.

    Example:
        >>> weight = nn.Parameter(torch.ones(3, 2))
        >>> optimizer = SOAP([weight], lr=0.1)
        >>> for _ in range(2):  # the gradient has rank 1: all weights move alike
        ...     (weight**2 / 2).sum().backward()
        ...     optimizer.step()
        >>> print(f"{weight.min():.3f} {weight.max():.3f}")
        0.959 0.959
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        every: int = 5,
        eps: float = 1e-8,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "every": every, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one step; parameters without a gradient stay as they are."""
        if closure is not None:
            raise ValueError("SOAP takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict) -> None:
        gradient = gradient.reshape(len(parameter) if parameter.ndim else 1, -1)
        state = self.state[parameter]
        new = not state
        if new:
            state["step"] = 0  # the number of gradients
            state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            for name, size in zip(("rows", "columns"), gradient.shape, strict=True):
                state[name] = gradient.new_zeros(size, size)
        first_decay, second_decay = group["betas"]
        state["rows"].lerp_(gradient @ gradient.mT, 1 - second_decay)
        state["columns"].lerp_(gradient.mT @ gradient, 1 - second_decay)
        if state["step"] % group["every"] == 0:
            for axis, name in enumerate(("rows", "columns")):
                moment = state[name].double()
                basis = torch.linalg.eigh(moment).eigenvectors if new else state[f"{name}_basis"].double()
                # a step of the power method, largest first: what no gradient has ever met comes last, unmixed
                turned = moment @ basis
                order = turned.norm(dim=0).argsort(descending=True)
                state[f"{name}_basis"] = torch.linalg.qr(turned[:, order]).Q.to(gradient.dtype)
                state["second"] = state["second"].index_select(axis, order)
        state["step"] += 1
        if new:
            return
        updates = state["step"] - 1
        rows, columns = state["rows_basis"], state["columns_basis"]
        state["first"].lerp_(gradient, 1 - first_decay)
        state["second"].lerp_((rows.mT @ gradient @ columns) ** 2, 1 - second_decay)
        first = rows.mT @ state["first"] @ columns / (1 - first_decay**updates)
        second = state["second"] / (1 - second_decay**updates)
        number = torch.finfo(gradient.dtype)
        rounding = (ROUNDING * number.eps) ** 2 * second.sum()
        signal = second / (second + rounding + number.tiny)
        update = rows @ (signal * first / (second.sqrt() + group["eps"])) @ columns.mT
        parameter.sub_(group["lr"] * update.reshape(parameter.shape))
