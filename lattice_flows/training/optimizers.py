"""Optimizers of torch that start without torch.compile, whose import takes longer than that of all of torch."""

import inspect

import torch


class Optimizer(torch.optim.Optimizer):
    """The base of optimizers, whose methods are those of torch without the wrappers that import torch.compile."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class Adam(Optimizer, torch.optim.Adam):
    """`torch.optim.Adam`, D. P. Kingma and J. Ba, 1412.6980.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = Adam([weight], lr=0.1, fused=True)
        >>> (weight**2 / 2).sum().backward()
        >>> optimizer.step()
        >>> weight.data
        tensor([0.9000, 0.9000])
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
