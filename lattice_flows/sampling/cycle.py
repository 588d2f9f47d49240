"""Samplers in turn."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, Sampler
from lattice_flows.streams import Streams


class CycleInfo(NamedTuple):
    """What happened in a cycle."""

    acceptance: Tensor
    """The mean over its steps `(chains,)`."""
    steps: tuple[Any, ...]
    """The info of every step."""


class Cycle:
    """One step of each of several samplers in order, which leaves invariant what each of them does.

    Args:
        samplers: each a sampler, or a pair of a sampler and how many steps it makes.

    Raises:
        InvalidInput: no samplers, or a number of steps < 1.

    Source: L. Tierney, Ann. Statist. 22 (1994) 1701.

    Example:
        >>> from lattice_flows import U1
        >>> from lattice_flows.actions import Wilson
        >>> from lattice_flows.sampling import HeatBath, OverRelaxation, Streams, start
        >>> action, streams = Wilson(U1(), beta=2.0), Streams(seed=1, chains=2)
        >>> sampler = Cycle([HeatBath(action), (OverRelaxation(action), 4)])
        >>> state, info = sampler.step(sampler.init(start(U1(), (4, 4), streams)), streams)
        >>> len(info.steps)
        5
    """

    def __init__(self, samplers: Iterable[Sampler | tuple[Sampler, int]]):
        self.samplers = [entry if isinstance(entry, tuple) else (entry, 1) for entry in samplers]
        if not self.samplers or any(
            isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1 for _, repeats in self.samplers
        ):
            raise InvalidInput(f"a cycle needs samplers, each with a number of steps >= 1, got {self.samplers}")

    def init(self, links: Tensor) -> ChainState:
        """The state of chains that stand at `links` `(chains, dim, *sites, *element)`."""
        return self.samplers[0][0].init(links)

    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, CycleInfo]:
        """Every sampler in its turn."""
        steps = []
        for sampler, repeats in self.samplers:
            for _ in range(repeats):
                state, info = sampler.step(state, streams)
                steps.append(info)
        return state, CycleInfo(torch.stack([info.acceptance.double() for info in steps]).mean(0), tuple(steps))
