"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lattice_flows.training.optimizers import Optimizer

ROUNDING = 100
"""Rows and columns of a rotated gradient count as rounding errors below this many epsilon of its norm."""
LARGEST = 512
"""Rows or columns of a weight up to this number are rotated: what more of them cost exceeds what they give."""


class SOAP(Optimizer):
    """Adam in the slowly turning eigenbasis of the second moments of each weight's rows and columns.

    The bases cost little for small, badly conditioned perceptrons. A vector counts as a matrix of one column, the
    kernel of a convolution as a matrix with one row an output. The first gradient makes the bases and moves nothing.

    Where gradients have no component, the ratio m / sqrt(v) of Adam is one of rounding errors. Factors s / (s + r^2)
    of every row and column in the eigenbasis take these out: s is the sum of its v, and r is 100 epsilon times the root
    of the sum of all v. A small entry between larger ones stays: it carries signal late in a training.

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
            for parameters in self._alike(group["params"]):
                self._update(parameters, group)

    def _alike(self, parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
        """Those with a gradient, in lists of one shape and number of steps, which are updated as one batch."""
        found: dict[tuple, list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                kind = (parameter.shape, parameter.dtype, parameter.device, self.state[parameter].get("step", 0))
                found.setdefault(kind, []).append(parameter)
        return list(found.values())

    def _update(self, parameters: Sequence[nn.Parameter], group: dict) -> None:
        gradient = _stack([_matrix(parameter.grad) for parameter in parameters if parameter.grad is not None])
        step = self.state[parameters[0]].get("step", 0)  # the number of gradients before this one
        sides = [(axis, name) for axis, name in ((1, "rows"), (2, "columns")) if gradient.shape[axis] <= LARGEST]
        if step:
            names = self.state[parameters[0]].keys() - {"step"}
            state = {name: _stack([self.state[parameter][name] for parameter in parameters]) for name in names}
        else:
            state = {"first": torch.zeros_like(gradient), "second": torch.zeros_like(gradient)}
            for axis, name in sides:
                state[name] = gradient.new_zeros(len(gradient), *[gradient.shape[axis]] * 2)
        _, second_decay = group["betas"]
        for axis, name in sides:
            moment = gradient @ gradient.mT if axis == 1 else gradient.mT @ gradient
            state[name].lerp_(moment, 1 - second_decay)
            if step % group["every"] == 0:
                self._turn(state, axis, name)
        if step:
            self._move(parameters, gradient, state, step, group)
        for k, parameter in enumerate(parameters):
            self.state[parameter].update({name: stack[k] for name, stack in state.items()}, step=step + 1)

    @staticmethod
    def _turn(state: dict[str, Tensor], axis: int, name: str) -> None:
        """Turn a basis by a step of the power method, largest first: what no gradient has met comes last, unmixed."""
        moment, basis = state[name].double(), state.get(f"{name}_basis")
        turned = moment @ (torch.linalg.eigh(moment).eigenvectors if basis is None else basis.double())
        order = turned.norm(dim=1).argsort(descending=True)
        turned = turned.gather(2, order[:, None].expand_as(turned))
        state[f"{name}_basis"] = torch.linalg.qr(turned).Q.to(state[name].dtype)
        places = order[:, :, None] if axis == 1 else order[:, None]
        state["second"] = state["second"].gather(axis, places.expand_as(state["second"]))

    @staticmethod
    def _move(
        parameters: Sequence[nn.Parameter], gradient: Tensor, state: dict[str, Tensor], step: int, group: dict
    ) -> None:
        """Make a step of Adam in the bases."""
        rows, columns = state.get("rows_basis"), state.get("columns_basis")

        def rotated(m: Tensor) -> Tensor:
            m = m if rows is None else rows.mT @ m
            return m if columns is None else m @ columns

        first_decay, second_decay = group["betas"]
        state["first"].lerp_(gradient, 1 - first_decay)
        state["second"].lerp_(rotated(gradient) ** 2, 1 - second_decay)
        first = rotated(state["first"]) / (1 - first_decay**step)
        second = state["second"] / (1 - second_decay**step)
        number = torch.finfo(gradient.dtype)
        rounding = (ROUNDING * number.eps) ** 2 * second.sum((1, 2), keepdim=True) + number.tiny
        update = first / (second.sqrt() + group["eps"])
        for axis in (1, 2):
            moment = second.sum(3 - axis, keepdim=True)  # of a row or a column
            update = update * (moment / (moment + rounding))
        update = update if rows is None else rows @ update
        update = update if columns is None else update @ columns.mT
        for parameter, change in zip(parameters, update, strict=True):
            parameter.sub_(group["lr"] * change.reshape(parameter.shape))


def _matrix(gradient: Tensor) -> Tensor:
    return gradient.reshape(len(gradient) if gradient.ndim else 1, -1)


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tuple(tensors))
