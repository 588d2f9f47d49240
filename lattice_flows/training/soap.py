"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class SOAP(torch.optim.Optimizer):
    """Adam in the slowly turning eigenbasis of the second moments of each weight's rows and columns.

    The bases cost little for small, badly conditioned perceptrons. A vector counts as a matrix of one column, the
    kernel of a convolution as a matrix with one row an output.

    Args:
        betas: the decay of the first moment, and that of all second moments.
        every: the number of steps between two turns of the bases.
        eps: a number to add to the root of the second moment.

    Source: N. Vyas et al., 2409.11321, Algorithm 3 (Adam), and Algorithm 4 for the bases.

    Example:
        >>> weight = nn.Parameter(torch.ones(3, 2))
        >>> optimizer = SOAP([weight], lr=0.1)
        >>> (weight**2).sum().backward()
        >>> optimizer.step()
        >>> bool((weight < 1).all())
        True
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
        if not state:
            state["step"] = 0
            state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            for name, size in zip(("rows", "columns"), gradient.shape, strict=True):
                state[name] = gradient.new_zeros(size, size)
                state[f"{name}_basis"] = torch.eye(size, dtype=gradient.dtype, device=gradient.device)
        state["step"] += 1
        first_decay, second_decay = group["betas"]
        state["first"].lerp_(gradient, 1 - first_decay)
        state["rows"].lerp_(gradient @ gradient.mT, 1 - second_decay)
        state["columns"].lerp_(gradient.mT @ gradient, 1 - second_decay)
        if state["step"] % group["every"] == 1:
            for name in ("rows", "columns"):
                moment, basis = state[name].double(), state[f"{name}_basis"].double()
                # at first by diagonalisation, later by a step of the power method
                first = state["step"] == 1
                basis = torch.linalg.eigh(moment).eigenvectors.flip(-1) if first else torch.linalg.qr(moment @ basis).Q
                state[f"{name}_basis"] = basis.to(gradient.dtype)
        rows, columns = state["rows_basis"], state["columns_basis"]
        state["second"].lerp_((rows.mT @ gradient @ columns) ** 2, 1 - second_decay)
        first = rows.mT @ state["first"] @ columns / (1 - first_decay ** state["step"])
        second = state["second"] / (1 - second_decay ** state["step"])
        update = rows @ (first / (second.sqrt() + group["eps"])) @ columns.mT
        parameter.sub_(group["lr"] * update.reshape(parameter.shape))
