"""What a sampler is: state in, (state, info) out."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class ChainState(NamedTuple):
    """Where a Markov chain stands: one configuration, its log-density under the model, and its action."""

    links: Tensor
    """`(dim, *sites, *element)`."""
    log_q: Tensor
    """0-dimensional."""
    action: Tensor
    """0-dimensional."""


class Sampler(Protocol):
    """A Markov chain transition that leaves p = exp(-S) / Z invariant."""

    def step(self, state: ChainState, generator: torch.Generator) -> tuple[ChainState, Any]:
        """The next state, and what happened on the way."""
        ...
