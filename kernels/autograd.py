"""What the derivatives of all ops have in common."""

import inspect

import torch


class OpFunction(torch.autograd.Function):
    """Around the ops rather than registered with them: what has no derivative then raises, forward mode too.

    torch asks for the signature of `forward` at every call, and inspecting the code takes longer than a small op: here
    it is worked out once.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.forward.__signature__ = inspect.signature(cls.forward)  # type: ignore[attr-defined]
