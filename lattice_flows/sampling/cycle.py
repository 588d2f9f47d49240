"""A cycle of samplers."""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lattice_flows.errors import InvalidInput
from lattice_flows.sampling.base import ChainState, Sampler, count
from lattice_flows.sampling.heatbath import Sweep, arrive, sweep
from lattice_flows.streams import Streams


class CycleInfo(NamedTuple):
    """The infos of all steps of a cycle, and the mean acceptance `(chains,)`."""

    acceptance: Tensor
    steps: tuple[Any, ...]


class Cycle(Sampler):
    """Steps of several samplers in order; a density that each leaves invariant, the cycle does, too.

    Args:
        samplers: samplers, or pairs of a sampler and its number of steps.

    Raises:
        InvalidInput: no samplers, or a number of steps < 1.

    Source: L. Tierney, Ann. Statist. 22 (1994) 1701.

    Example:
        >>> from lattice_flows import U1, GaugeField, actions, sampling
        >>> action, streams = actions.Wilson(GaugeField(U1(), (4, 4)), beta=2.0), sampling.Streams(seed=1, chains=2)
        >>> sampler = Cycle([sampling.HeatBath(action), (sampling.OverRelaxation(action), 4)])
        >>> state, info = sampler.step(sampler.init(sampling.start(action.space, streams)), streams)
        >>> len(info.steps)
        5
    """

    def __init__(self, samplers: Iterable[Sampler | tuple[Sampler, int]]):
        self.samplers = [entry if isinstance(entry, tuple) else (entry, 1) for entry in samplers]
        if not self.samplers:
            raise InvalidInput("a cycle needs samplers, got none")
        for _, repeats in self.samplers:
            count("the number of steps of a sampler in a cycle", repeats)
        self.action = self.samplers[0][0].action
        steps = [sampler for sampler, repeats in self.samplers for _ in range(repeats)]
        # sweeps of one action that follow each other are made together
        runs = [list(run) for _, run in itertools.groupby(steps, _company)]
        self._runs = [_Run(run, isinstance(run[0], Sweep), _proposes(run[0])) for run in runs]

    def init(self, x: Tensor) -> ChainState:
        return self.samplers[0][0].init(x)

    def step(self, state: ChainState, streams: Streams) -> tuple[ChainState, CycleInfo]:
        """Take a step of every sampler in its turn."""
        steps: list[Any] = []
        before = self.samplers[-1][0]
        for run, together, proposes in self._runs:
            for sampler in run[:1] if together else run:
                if hasattr(before, "proposal") and before.proposal is not getattr(sampler, "proposal", None):
                    # another proposal gives x another weight
                    state = state._replace(log_w=None)
                offered = state.offered
                state, info = sweep(run, state, streams) if together else sampler.step(state, streams)
                if not proposes:  # such a sampler may know of neither
                    state = state._replace(log_w=None, offered=offered)
                steps += [info] * (len(run) if together else 1)
                before = sampler
        return state, _info_of(steps)

    def arrive(self, x: Tensor, streams: Streams) -> tuple[Tensor, ChainState, CycleInfo]:
        """The action `(chains,)` at x, and what a cycle from there gives."""
        (run, together, _), *others = self._runs
        if others or not together:
            return super().arrive(x, streams)
        action, state, info = arrive(run, x, streams)
        return action, state, _info_of([info] * len(run))


class _Run(NamedTuple):
    """Steps of one sampler, or sweeps of one action, which are made together; and whether it may have proposals."""

    samplers: list[Any]
    together: bool
    proposes: bool


def _info_of(steps: list[Any]) -> CycleInfo:
    """The info of a cycle by those of its steps."""
    acceptance = steps[0].acceptance.double()
    if any(info is not steps[0] for info in steps):
        acceptance = torch.stack([info.acceptance.double() for info in steps]).mean(0)
    return CycleInfo(acceptance, tuple(steps))


def _proposes(sampler: Sampler) -> bool:
    return hasattr(sampler, "proposal") or isinstance(sampler, Cycle)


def _company(sampler: Sampler) -> int:
    """The same number for samplers whose steps may be made together."""
    return id(sampler.action) if isinstance(sampler, Sweep) else id(sampler)
